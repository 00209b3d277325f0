//! Appends: durable, numbered, refused for a reason, and never unread.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::{Append, Direction, FencingToken, Header, NewRecord, RECORD_METERED_BYTES_MAX};
use continuo_domain::error::Cause;
use continuo_usecases::{AppendRequest, Boot, ListSessions};
use futures_util::TryStreamExt;

#[tokio::test]
async fn numbers_begin_at_zero_and_end_is_exclusive() {
    let world = World::new().await;
    world.create("a").await;
    let records = ["1", "2", "3"].map(|t| NewRecord::data(t.to_owned())).to_vec();
    let request = AppendRequest {
        channel: input(&named("a")),
        append: Append { records, ..Append::default() },
        boot: Boot::Default,
    };
    let appended = world.core.append(&world.key, request).await.unwrap();
    assert_eq!((appended.start.seq_num, appended.end.seq_num, appended.tail.seq_num), (0, 3, 3));
    assert_eq!(world.say("a", "4").await.unwrap().start.seq_num, 3);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_for_every_reader_at_its_number() {
    let world = World::new().await;
    let created = world.create("a").await;
    for n in 0..5 {
        let seq_num = world.say("a", &n.to_string()).await.unwrap().start.seq_num;
        let records = world.records(&created.session.id, Direction::In).await;
        assert_eq!(records.last().map(|r| r.seq_num), Some(seq_num));
        let listed = world.core.list_records(&world.key, &input(&named("a")), 0).await.unwrap();
        assert_eq!(bodies(&listed.try_concat().await.unwrap()), bodies(&records));
    }
}

#[tokio::test]
async fn the_record_limit_is_inclusive_and_says_what_was_metered() {
    let world = World::new().await;
    world.create("a").await;
    let body = |bytes: usize| "x".repeat(bytes - 8);
    world.say("a", &body(RECORD_METERED_BYTES_MAX)).await.unwrap();
    let refused = world.say("a", &body(RECORD_METERED_BYTES_MAX + 1)).await.unwrap_err();
    assert!(matches!(refused, Error::RecordTooLarge { metered_bytes: 1_048_577, .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("Record metered size 1048577 bytes exceeds"));
}

#[tokio::test]
async fn an_append_to_an_expired_session_is_refused_and_stores_nothing() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.expires_at = Some(continuo_ports::Clock::now(&*world.clock).plus_ms(10));
    let created = world.core.create_session(&world.key, new).await.unwrap();
    world.clock.advance_ms(10);
    assert!(matches!(world.say("a", "late").await, Err(Error::SessionExpired)));
    assert!(world.records(&created.session.id, Direction::In).await.is_empty());
}

#[tokio::test]
async fn a_failed_boot_does_not_fail_the_append_and_the_next_one_makes_it_good() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.gates.fail_before("claim_run", &[], Error::Unavailable(Cause::new("down")));
    assert_eq!(world.say("a", "one").await.unwrap().start.seq_num, 0);
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    assert_eq!(world.say("a", "two").await.unwrap().start.seq_num, 1);
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn a_failed_boot_is_made_good_by_the_sweeper_too() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.gates.fail_before("claim_run", &[], Error::Unavailable(Cause::new("down")));
    world.say("a", "one").await.unwrap();
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn output_boots_nothing() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.put_out("a", NewRecord::data("chunk")).await.unwrap();
    world.put_out("a", turn_complete(None)).await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
}

#[tokio::test]
async fn named_channels_boot_nothing_and_wake_nobody() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    let drains = world.gates.calls("drain");
    for direction in [Direction::In, Direction::Out] {
        let request = text(channel(&named("a"), "tools", direction), "x");
        assert_eq!(world.core.append(&world.key, request).await.unwrap().start.seq_num, 0);
    }
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    assert_eq!(world.gates.calls("drain"), drains);
}

#[tokio::test]
async fn a_webhook_mark_of_a_public_caller_is_stripped_and_a_keys_is_kept() {
    let world = World::new().await;
    let created = world.create("a").await;
    let marked = r#"{"kind":"message","payload":{"actionSource":"webhook","x":1}}"#;
    let public = world.token(&["write:sessions:a"]);
    world.core.append(&public, text(input(&named("a")), marked)).await.unwrap();
    world.core.append(&world.key, text(input(&named("a")), marked)).await.unwrap();
    let stored = bodies(&world.records(&created.session.id, Direction::In).await);
    assert_eq!(stored, [r#"{"kind":"message","payload":{"x":1}}"#, marked]);
}

#[tokio::test]
async fn a_public_caller_may_not_write_commands_or_name_conditions() {
    let world = World::new().await;
    let created = world.create("a").await;
    let public = world.token(&["write:sessions:a"]);
    let trim = append(input(&named("a")), NewRecord::trim(0));
    let mut matching = text(input(&named("a")), "x");
    matching.append.match_seq_num = Some(0);
    let mut fencing = text(input(&named("a")), "x");
    fencing.append.fencing_token = Some(FencingToken::default());
    for request in [trim, matching, fencing] {
        let refused = world.core.append(&public, request).await;
        assert!(matches!(refused, Err(Error::ConditionNeedsSecretKey)), "{refused:?}");
    }
    // Who may not append at all is told of that alone.
    let mut elsewhere = text(input(&named("missing")), "x");
    elsewhere.append.match_seq_num = Some(0);
    let refused = world.core.append(&public, elsewhere).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    assert!(world.records(&created.session.id, Direction::In).await.is_empty());
}

#[tokio::test]
async fn nobody_writes_a_fence_of_his_own() {
    let world = World::new().await;
    world.create("a").await;
    let fence = NewRecord::fence(&FencingToken::parse("mine").unwrap());
    for target in [input(&named("a")), output(&named("a"))] {
        let refused = world.core.append(&world.key, append(target, fence.clone())).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_append_keeps_its_place_when_the_fence_moves_under_it() {
    let world = std::sync::Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut gate = world.gates.pause_before("append", &["direction: Out", "chunk"]);
    let write = tokio::spawn({
        let world = world.clone();
        async move { world.put_out("a", NewRecord::data("chunk")).await }
    });
    gate.reached().await;
    let run = world.start_run().await;
    gate.release();
    soon(write).await.unwrap().unwrap();
    assert_eq!(bodies(&world.records(&created.session.id, Direction::Out).await), ["chunk"], "a key is not fenced");
    drop(run);
}

#[tokio::test]
async fn append_never_creates_a_session() {
    let world = World::new().await;
    assert!(matches!(world.say("a", "x").await, Err(Error::SessionNotFound)));
    let page = ListSessions {
        filter: Default::default(),
        page_size: 1,
        from: continuo_domain::session::PageFrom::Start,
        wait_as_of: None,
    };
    assert!(world.core.list_sessions(&world.key, page).await.unwrap().sessions.is_empty());
}

#[tokio::test]
async fn headers_travel_as_they_came() {
    let world = World::new().await;
    let created = world.create("a").await;
    let record = NewRecord { headers: vec![Header::new("a", "1"), Header::new("a", "2")], body: "b".into() };
    world.put_out("a", record.clone()).await.unwrap();
    let stored = world.records(&created.session.id, Direction::Out).await;
    assert_eq!(stored.last().unwrap().headers, record.headers);
}

#[tokio::test]
async fn nobody_but_the_server_writes_under_its_own_part_ids() {
    let world = World::new().await;
    let created = world.create("a").await;
    for part_id in [format!("close:{}", created.session.id), "server:1".to_owned()] {
        let mut request = text(input(&named("a")), "x");
        request.append.part_id = Some(continuo_domain::channel::PartId::parse(&part_id).unwrap());
        let refused = world.core.append(&world.key, request).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
}
