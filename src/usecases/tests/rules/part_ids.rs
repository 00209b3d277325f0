//! Part ids: exactly once, whatever is retried, raced or closed.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::{ChannelKey, Direction};
use continuo_domain::error::Cause;
use continuo_domain::waitpoint::Completion;
use continuo_usecases::{NewManualWaitpoint, WaitOnChannel};
use std::sync::Arc;

#[tokio::test]
async fn a_repeat_gets_the_first_number_and_stores_nothing() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.say("a", "before").await.unwrap();
    let first = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    world.say("a", "after").await.unwrap();
    let again = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    assert_eq!((first.start.seq_num, again.start.seq_num), (1, 1));
    assert_eq!((first.repeated, again.repeated), (false, true));
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await), ["before", "x", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn simultaneous_repeats_make_one_record_and_all_get_its_number() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let appends = (0..32).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap() })
    });
    let mut firsts = 0;
    for append in appends.collect::<Vec<_>>() {
        let appended = soon(append).await.unwrap();
        assert_eq!(appended.start.seq_num, 0);
        firsts += usize::from(!appended.repeated);
    }
    assert_eq!(firsts, 1);
    assert_eq!(world.records(&created.session.id, Direction::In).await.len(), 1);
}

#[tokio::test]
async fn a_repeat_completes_no_waiter_a_second_time() {
    let world = World::new().await;
    let created = world.create("a").await;
    let wait = WaitOnChannel {
        run: created.run.spec.id.clone(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    let waitpoint = world.core.wait_on_channel(&world.key, wait).await.unwrap().row;
    world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    let first = world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap();
    assert_eq!(first.completion, Some(Completion::json("x")));
    world.clock.advance_ms(5);
    world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    assert_eq!(world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap(), first);
}

#[tokio::test]
async fn a_repeat_is_no_news_to_whoever_waits_for_the_next_record() {
    let world = World::new().await;
    let created = world.create("a").await;
    let first = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    let wait = WaitOnChannel {
        run: created.run.spec.id.clone(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: Some(first.start.seq_num),
        waitpoint: NewManualWaitpoint::default(),
    };
    let waitpoint = world.core.wait_on_channel(&world.key, wait).await.unwrap().row.id;
    for _ in 0..2 {
        assert!(world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap().repeated);
    }
    assert_eq!(world.core.get_waitpoint(&world.key, &waitpoint).await.unwrap().completion, None);
    world.say("a", "next").await.unwrap();
    let completion = world.core.get_waitpoint(&world.key, &waitpoint).await.unwrap().completion;
    assert_eq!(completion, Some(Completion::json("next")));
}

#[tokio::test]
async fn the_same_part_id_with_another_body_is_refused() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    let refused = world.core.append(&world.key, part(input(&named("a")), "y", "p")).await;
    assert!(matches!(refused, Err(Error::PartIdReused { seq_num: 0 })), "{refused:?}");
    assert_eq!(world.records(&created.session.id, Direction::In).await.len(), 1);
}

#[tokio::test]
async fn after_close_a_repeat_still_gets_the_first_number_and_a_new_id_is_refused() {
    let world = World::new().await;
    world.create_idle("a").await;
    world.say("a", "before").await.unwrap();
    world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    world.core.close_session(&world.key, &named("a"), Some("done".into()), None).await.unwrap();
    let again = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    assert_eq!((again.start.seq_num, again.repeated), (1, true));
    let reused = world.core.append(&world.key, part(input(&named("a")), "y", "p")).await;
    assert!(matches!(reused, Err(Error::PartIdReused { seq_num: 1 })), "{reused:?}");
    let fresh = world.core.append(&world.key, part(input(&named("a")), "x", "q")).await;
    let Err(Error::SessionClosed { closed_reason }) = fresh else { panic!("{fresh:?}") };
    assert_eq!(closed_reason.as_deref(), Some("done"));
}

#[tokio::test]
async fn after_close_a_repeat_on_a_named_channel_gets_the_first_number_too() {
    let world = World::new().await;
    world.create_idle("a").await;
    let tools = channel(&named("a"), "tools", Direction::In);
    world.core.append(&world.key, part(tools.clone(), "x", "p")).await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert!(world.core.append(&world.key, part(tools.clone(), "x", "p")).await.unwrap().repeated);
    let fresh = world.core.append(&world.key, part(tools, "x", "q")).await;
    assert!(matches!(fresh, Err(Error::SessionClosed { .. })), "{fresh:?}");
}

#[tokio::test]
async fn a_repeat_whose_record_vanishes_under_it_is_refused_and_not_stored_on_a_closed_channel() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let mut gate = world.gates.pause_after("part", &[]);
    let repeat = tokio::spawn({
        let world = world.clone();
        async move { world.core.append(&world.key, part(input(&named("a")), "x", "p")).await }
    });
    gate.reached().await;
    let channel = ChannelKey::reserved(session.id.clone(), Direction::In);
    let trim = continuo_domain::channel::NewRecord::trim(u64::MAX);
    continuo_ports::ChannelStore::append(&*world.log, &channel, continuo_domain::channel::Append::one(trim))
        .await
        .unwrap();
    gate.release();
    let refused = soon(repeat).await.unwrap();
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    assert!(bodies(&world.records(&session.id, Direction::In).await).is_empty());
}

#[tokio::test]
async fn a_failed_append_leaves_its_part_id_free() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_before("append", &["\"x\""], Error::Unavailable(Cause::new("down")));
    let failed = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    let retried = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    assert!(!retried.repeated);
    assert_eq!(world.records(&created.session.id, Direction::In).await.len(), 1);
}

#[tokio::test]
async fn an_append_of_unknown_outcome_is_never_a_success_and_its_retry_finds_the_record() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_after("append", &["\"x\""], Error::OutcomeUnknown(Cause::new("lost")));
    let unknown = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))), "{unknown:?}");
    let retried = world.core.append(&world.key, part(input(&named("a")), "x", "p")).await.unwrap();
    assert_eq!((retried.start.seq_num, retried.repeated), (0, true));
    assert_eq!(world.records(&created.session.id, Direction::In).await.len(), 1);
}

#[tokio::test]
async fn names_and_part_ids_with_colons_do_not_collide() {
    let world = World::new().await;
    for name in ["a", "a:b", "a:b:c"] {
        world.create(name).await;
    }
    for (name, id) in [("a", "b:c"), ("a:b", "c"), ("a", "b"), ("a:b", "b:c"), ("a:b:c", "c")] {
        let appended = world.core.append(&world.key, part(input(&named(name)), name, id)).await.unwrap();
        assert!(!appended.repeated, "{name} {id}");
    }
    let tools = channel(&named("a"), "tools", Direction::In);
    let appended = world.core.append(&world.key, part(tools, "other", "b")).await.unwrap();
    assert!(!appended.repeated, "a named channel has ids of its own");
}
