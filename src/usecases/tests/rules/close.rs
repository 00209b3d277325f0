//! Close: a position in the log. First wins, all see it, nothing gets past the fence.

use crate::support::*;
use continuo_domain::channel::{Direction, NewRecord};
use continuo_domain::{Error, SessionId};
use std::sync::Arc;

async fn is_closed(world: &World, session: &SessionId) -> bool {
    world.fence(session, Direction::In).await.closed && world.fence(session, Direction::Out).await.closed
}

#[tokio::test]
async fn of_two_simultaneous_closes_the_first_reason_wins_and_both_get_its_row() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let mut gate = world.gates.pause_before("close", &["late"]);
    let late = tokio::spawn({
        let world = world.clone();
        async move { world.core.close_session(&world.key, &named("a"), Some("late".into()), None).await.unwrap() }
    });
    gate.reached().await;
    let first = world.core.close_session(&world.key, &named("a"), Some("first".into()), None).await.unwrap();
    world.clock.advance_ms(7);
    gate.release();
    let late = soon(late).await.unwrap();
    assert_eq!(first.closed_reason.as_deref(), Some("first"));
    assert_eq!((late.closed_at, late.closed_reason), (first.closed_at, first.closed_reason));
    assert_eq!(late.updated_at, first.updated_at);
}

#[tokio::test]
async fn a_second_close_changes_nothing() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.core.close_session(&world.key, &named("a"), Some("one".into()), None).await.unwrap();
    let row = world.session(&named("a")).await;
    let records = world.records(&created.session.id, Direction::In).await.len();
    world.clock.advance_ms(1_000);
    let again = world.core.close_session(&world.key, &named("a"), Some("two".into()), None).await.unwrap();
    assert_eq!(again, row);
    assert_eq!(world.session(&named("a")).await, row);
    assert_eq!(world.records(&created.session.id, Direction::In).await.len(), records);
}

#[tokio::test]
async fn an_append_that_passed_the_open_check_is_refused_by_the_fence_and_nothing_is_stored() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let mut gate = world.gates.pause_before("append", &["late word"]);
    let append = tokio::spawn({
        let world = world.clone();
        async move { world.say("a", "late word").await }
    });
    gate.reached().await;
    world.core.close_session(&world.key, &named("a"), Some("done".into()), None).await.unwrap();
    gate.release();
    let refused = soon(append).await.unwrap();
    let Err(Error::SessionClosed { closed_reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(closed_reason.as_deref(), Some("done"));
    assert!(bodies(&world.records(&session.id, Direction::In).await).is_empty());
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
}

#[tokio::test]
async fn an_append_to_a_named_channel_meets_the_fence_of_the_close_as_well() {
    for direction in [Direction::In, Direction::Out] {
        let world = Arc::new(World::new().await);
        world.create_idle("a").await;
        let mut gate = world.gates.pause_before("append", &["late word"]);
        let append = tokio::spawn({
            let world = world.clone();
            async move { world.core.append(&world.key, text(channel(&named("a"), "tools", direction), "late word")).await }
        });
        gate.reached().await;
        world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
        gate.release();
        let refused = soon(append).await.unwrap();
        assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_named_channel_does_not_come_into_being_after_a_close() {
    let world = Arc::new(World::new().await);
    world.create_idle("a").await;
    let mut gate = world.gates.pause_before("register_channel", &[]);
    let append = tokio::spawn({
        let world = world.clone();
        async move { world.core.append(&world.key, text(channel(&named("a"), "new", Direction::In), "x")).await }
    });
    gate.reached().await;
    world.core.close_session(&world.key, &named("a"), Some("done".into()), None).await.unwrap();
    gate.release();
    let refused = soon(append).await.unwrap();
    let Err(Error::SessionClosed { closed_reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(closed_reason.as_deref(), Some("done"));
    let initialized =
        world.core.initialize_channel(&world.key, &channel(&named("a"), "new", Direction::In), None).await;
    assert!(matches!(initialized, Err(Error::SessionClosed { .. })), "{initialized:?}");
}

#[tokio::test]
async fn a_close_returns_only_after_the_fence_stands_though_another_closer_is_half_way() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    // The first closer has set `closed_at` and is stopped before it raises a fence.
    let mut gate = world.gates.pause_after("close", &[]);
    let first = tokio::spawn({
        let world = world.clone();
        async move { world.core.close_session(&world.key, &named("a"), Some("first".into()), None).await.unwrap() }
    });
    gate.reached().await;
    assert!(!is_closed(&world, &created.session.id).await);
    let second = world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert!(is_closed(&world, &created.session.id).await);
    assert_eq!(second.closed_reason.as_deref(), Some("first"));
    gate.release();
    assert_eq!(soon(first).await.unwrap().closed_at, second.closed_at);
    assert_eq!(wakes(&world, &created.session.id).await, 1);
}

#[tokio::test]
async fn a_close_through_another_replica_returns_only_after_the_fence_stands() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut gate = world.gates.pause_before("append", &["direction: In", "fence"]);
    let first = tokio::spawn({
        let world = world.clone();
        async move { world.core.close_session(&world.key, &named("a"), None, None).await.unwrap() }
    });
    gate.reached().await;
    world.replica().close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert!(is_closed(&world, &created.session.id).await);
    gate.release();
    soon(first).await.unwrap();
    assert_eq!(wakes(&world, &created.session.id).await, 1);
}

#[tokio::test]
async fn the_wake_says_why_and_comes_once_however_often_the_session_is_closed_or_swept() {
    let world = World::new().await;
    let created = world.create("a").await;
    for _ in 0..3 {
        world.core.close_session(&world.key, &named("a"), Some("bye".into()), None).await.unwrap();
        world.core.sweep_closes().await.unwrap();
    }
    let stored = bodies(&world.records(&created.session.id, Direction::In).await);
    assert_eq!(stored.len(), 1);
    let envelope: serde_json::Value = serde_json::from_str(&stored[0]).unwrap();
    let message: serde_json::Value = serde_json::from_str(envelope["data"].as_str().unwrap()).unwrap();
    let payload = serde_json::json!({ "chatId": "a", "trigger": "close", "closedReason": "bye" });
    assert_eq!(message, serde_json::json!({ "kind": "message", "payload": payload }));
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn the_wake_boots_nothing_when_its_run_ends_without_reading_it() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert_eq!(wakes(&world, &created.session.id).await, 1);
    run.complete().await;
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn the_run_that_closes_its_own_session_is_not_woken() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    world.core.close_session(&world.key, &named("a"), None, Some(&run.id())).await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert_eq!(wakes(&world, &created.session.id).await, 0);
}

#[tokio::test]
async fn a_dead_run_is_not_woken() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert_eq!(wakes(&world, &session.id).await, 0);
}

#[tokio::test]
async fn after_close_the_run_may_still_finish_its_output_and_others_may_not() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    run.chunk(&world.core, "one").await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    run.chunk(&world.core, "two").await.unwrap();
    run.put(&world.core, turn_complete(None)).await.unwrap();
    run.put(&world.core, NewRecord::trim(0)).await.unwrap();
    let brokered = world.put_out("a", NewRecord::data("x")).await;
    assert!(matches!(brokered, Err(Error::SessionClosed { .. })), "{brokered:?}");
    let stored = world.records(&created.session.id, Direction::Out).await;
    assert_eq!(bodies(&stored), ["one", "two", ""]);
}

#[tokio::test]
async fn closed_refuses_appends_initialise_and_hand_over_and_lets_reads_and_updates_go_on() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.core.close_session(&world.key, &named("a"), Some("r".into()), None).await.unwrap();
    let (core, key) = (&world.core, &world.key);
    for target in [input(&named("a")), output(&named("a"))] {
        let refused = core.initialize_channel(key, &target, None).await;
        assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
        let refused = core.append(key, text(target.clone(), "x")).await;
        assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
        core.check_tail(key, &target).await.unwrap();
    }
    let hand_over = continuo_usecases::EndAndContinue {
        session: named("a"),
        calling_run: created.run.spec.id,
        reason: continuo_domain::run::RunReason::Manual,
        external_deployment_id: None,
    };
    let refused = core.end_and_continue(key, hand_over).await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    let patch = continuo_domain::session::SessionPatch { tags: Some(vec!["t".into()]), ..Default::default() };
    assert_eq!(core.update_session(key, &named("a"), patch).await.unwrap().tags, ["t"]);
}

/// How many wake records lie in `.in`.
async fn wakes(world: &World, session: &SessionId) -> usize {
    let stored = bodies(&world.records(session, Direction::In).await);
    stored.iter().filter(|body| body.contains("close")).count()
}
