//! Is the turn over? What ends a peeking read at once, and what keeps it open.

use crate::support::*;
use continuo_domain::channel::{ChannelKey, Direction, FencingToken, NewRecord, ReadFrom, Record};
use continuo_domain::error::Cause;
use continuo_domain::{Error, SessionId};
use continuo_ports::ChannelStore;
use continuo_usecases::{ChannelRead, ReadChannel, ReadMessage};
use futures_util::StreamExt;
use std::sync::Arc;

async fn peek(world: &World, from: u64, peek_settled: bool) -> ChannelRead {
    let request = ReadChannel {
        channel: output(&named("a")),
        from: ReadFrom::seq_num(from),
        skip_commands: false,
        idle_timeout_ms: 0,
        heartbeat_ms: 0,
        peek_settled,
    };
    world.core.read_channel(&world.key, request).await.unwrap()
}

/// What a settled read delivers before its end.
async fn rest(mut read: ChannelRead) -> Vec<String> {
    assert!(read.is_settled);
    let mut delivered: Vec<Record> = Vec::new();
    while let Some(message) = soon(read.events.next()).await {
        match message.unwrap() {
            ReadMessage::Records { records, .. } => delivered.extend(records.iter().cloned()),
            ReadMessage::Settled { .. } => {
                assert!(soon(read.events.next()).await.is_none(), "the end is the end");
                return bodies(&delivered);
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no last word");
}

/// A read that is held: the next record is delivered.
async fn is_held(world: &World, mut read: ChannelRead) {
    assert!(!read.is_settled);
    let seq_num = world.put_out("a", NewRecord::data("next")).await.unwrap().start.seq_num;
    loop {
        match soon(read.events.next()).await.expect("it ended").unwrap() {
            ReadMessage::Records { records, .. } if records.last().is_some_and(|r| r.seq_num == seq_num) => return,
            ReadMessage::Settled { .. } => panic!("settled"),
            _ => {}
        }
    }
}

/// One run, one turn: `one`, then the turn's end.
async fn one_turn(world: &World) -> SessionId {
    let created = world.create("a").await;
    world.put_out("a", NewRecord::data("one")).await.unwrap();
    world.put_out("a", turn_complete(None)).await.unwrap();
    created.session.id
}

async fn end_of(world: &World, session: &SessionId) -> u64 {
    world.records(session, Direction::Out).await.last().unwrap().seq_num + 1
}

/// Commands straight into the log, as many as wanted.
async fn trims(world: &World, session: &SessionId, count: usize) {
    let channel = ChannelKey::reserved(session.clone(), Direction::Out);
    for _ in 0..count {
        let append = continuo_domain::channel::Append::one(NewRecord::trim(0));
        ChannelStore::append(&*world.log, &channel, append).await.unwrap();
    }
}

#[tokio::test]
async fn at_idle_a_peek_ends_at_once_with_the_tail() {
    let world = World::new().await;
    let session = one_turn(&world).await;
    let end = end_of(&world, &session).await;
    assert!(rest(peek(&world, end, true).await).await.is_empty());
    assert!(rest(peek(&world, end + 100, true).await).await.is_empty(), "a cursor past the tail is clamped");
}

#[tokio::test]
async fn behind_its_cursor_a_peek_delivers_the_rest_first() {
    let world = World::new().await;
    one_turn(&world).await;
    assert_eq!(rest(peek(&world, 0, true).await).await, ["one", ""]);
}

#[tokio::test]
async fn far_behind_its_cursor_a_peek_delivers_more_than_one_batch() {
    let world = World::new().await;
    world.create("a").await;
    let big = "x".repeat(600_000);
    for _ in 0..4 {
        world.put_out("a", NewRecord::data(big.clone())).await.unwrap();
    }
    world.put_out("a", turn_complete(None)).await.unwrap();
    assert_eq!(rest(peek(&world, 0, true).await).await.len(), 5);
}

#[tokio::test]
async fn a_channel_without_records_is_not_settled() {
    let world = World::new().await;
    world.create("a").await;
    is_held(&world, peek(&world, 0, true).await).await;
}

#[tokio::test]
async fn a_channel_that_was_trimmed_empty_is_not_settled() {
    let world = World::new().await;
    let session = one_turn(&world).await;
    let end = end_of(&world, &session).await;
    world.core.trim(&world.key, output(&named("a")), end).await.unwrap();
    is_held(&world, peek(&world, 0, true).await).await;
}

#[tokio::test]
async fn a_trim_at_the_tail_leaves_it_settled() {
    let world = World::new().await;
    let session = one_turn(&world).await;
    let end = end_of(&world, &session).await;
    world.core.trim(&world.key, output(&named("a")), end - 1).await.unwrap();
    assert_eq!(rest(peek(&world, end, true).await).await, Vec::<String>::new());
}

#[tokio::test]
async fn any_number_of_trailing_commands_leaves_it_settled() {
    for count in [1, 31, 32, 33, 100] {
        let world = World::new().await;
        let session = one_turn(&world).await;
        let end = end_of(&world, &session).await;
        trims(&world, &session, count).await;
        assert!(rest(peek(&world, end, true).await).await.is_empty(), "{count}");
    }
}

#[tokio::test]
async fn mid_turn_nothing_is_settled() {
    for newest in [NewRecord::data("chunk"), control("upgrade-required"), control("session-closed")] {
        let world = World::new().await;
        let session = one_turn(&world).await;
        world.put_out("a", newest).await.unwrap();
        trims(&world, &session, 40).await;
        is_held(&world, peek(&world, 0, true).await).await;
    }
}

#[tokio::test]
async fn without_the_peek_nothing_short_circuits() {
    let world = World::new().await;
    one_turn(&world).await;
    is_held(&world, peek(&world, 0, false).await).await;
}

#[tokio::test]
async fn only_the_reserved_out_settles() {
    let world = World::new().await;
    world.create("a").await;
    for target in [input(&named("a")), channel(&named("a"), "tools", Direction::Out)] {
        world.core.append(&world.key, append(target.clone(), turn_complete(None))).await.unwrap();
        let request = ReadChannel {
            channel: target,
            from: ReadFrom::seq_num(0),
            skip_commands: false,
            idle_timeout_ms: 0,
            heartbeat_ms: 0,
            peek_settled: true,
        };
        assert!(!world.core.read_channel(&world.key, request).await.unwrap().is_settled);
    }
}

#[tokio::test]
async fn a_data_record_of_an_older_writer_settles_as_an_object_and_as_text() {
    for (body, settles) in [
        (r#"{"data":{"type":"trigger:turn-complete"},"id":"p"}"#, true),
        (r#"{"data":"{\"type\":\"trigger:turn-complete\"}","id":"p"}"#, true),
        (r#"{"data":{"type":"text-delta"},"id":"p"}"#, false),
        (r#"{"data":"trigger:turn-complete","id":"p"}"#, false),
        (r#"{"data":"\"{\\\"type\\\":\\\"trigger:turn-complete\\\"}\"","id":"p"}"#, false),
        ("trigger:turn-complete", false),
    ] {
        let world = World::new().await;
        world.create("a").await;
        world.put_out("a", NewRecord::data(body)).await.unwrap();
        assert_eq!(peek(&world, 0, true).await.is_settled, settles, "{body}");
    }
}

#[tokio::test]
async fn a_newer_claim_since_the_turns_end_unsettles_it() {
    let world = World::new().await;
    world.create("a").await;
    let mut run = world.start_run().await;
    run.put(&world.core, turn_complete(None)).await.unwrap();
    assert!(peek(&world, 0, true).await.is_settled, "its own lease came before");
    run.complete().await;
    assert!(peek(&world, 0, true).await.is_settled, "its end changes nothing");
    world.say("a", "again").await.unwrap();
    assert!(!peek(&world, 0, true).await.is_settled, "the next run has claimed");
    let next = world.start_run().await;
    assert!(!peek(&world, 0, true).await.is_settled, "and begun");
    next.put(&world.core, turn_complete(None)).await.unwrap();
    assert!(peek(&world, 0, true).await.is_settled);
}

#[tokio::test]
async fn a_claim_whose_fence_is_late_counts_from_the_claim_on() {
    let world = World::new().await;
    world.create("a").await;
    let mut run = world.start_run().await;
    run.put(&world.core, turn_complete(None)).await.unwrap();
    run.complete().await;
    world.gates.fail_before("append", &["direction: Out", "fence"], Error::Unavailable(Cause::new("down")));
    world.say("a", "again").await.unwrap();
    assert_eq!(world.session(&named("a")).await.current_run_version, 2);
    assert!(!peek(&world, 0, true).await.is_settled, "claimed, no fence yet");
    let _next = world.start_run().await;
    assert!(!peek(&world, 0, true).await.is_settled, "only its lease has raised the fence");
}

#[tokio::test]
async fn a_close_does_not_unsettle_and_does_not_settle() {
    let world = World::new().await;
    one_turn(&world).await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert!(peek(&world, 0, true).await.is_settled);
    let world = World::new().await;
    world.create("a").await;
    world.put_out("a", NewRecord::data("chunk")).await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    assert!(!peek(&world, 0, true).await.is_settled);
}

#[tokio::test]
async fn what_lands_after_the_peek_is_not_part_of_what_was_settled() {
    let world = World::new().await;
    one_turn(&world).await;
    let read = peek(&world, 0, true).await;
    world.put_out("a", NewRecord::data("of the next turn")).await.unwrap();
    assert_eq!(rest(read).await, ["one", ""]);
}

/// Where a peek stops on its way from its first look to the delivery.
#[derive(Clone, Copy, Debug)]
enum Stop {
    TailSeen,
    BeforeTheWalk,
    Decided,
}

#[tokio::test]
async fn a_turn_that_lands_between_the_peek_and_the_delivery_is_not_delivered() {
    for stop in [Stop::TailSeen, Stop::BeforeTheWalk, Stop::Decided] {
        let world = Arc::new(World::new().await);
        one_turn(&world).await;
        let mut gate = match stop {
            Stop::TailSeen => world.gates.pause_after("tail", &["direction: Out"]),
            Stop::BeforeTheWalk => world.gates.pause_before("read", &["direction: Out"]),
            Stop::Decided => world.gates.pause_after("read", &["direction: Out"]),
        };
        let peeking = tokio::spawn({
            let world = world.clone();
            async move { peek(&world, 0, true).await }
        });
        gate.reached().await;
        world.put_out("a", NewRecord::data("of the next turn")).await.unwrap();
        world.put_out("a", turn_complete(None)).await.unwrap();
        gate.release();
        let read = soon(peeking).await.unwrap();
        assert_eq!(rest(read).await, ["one", ""], "{stop:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_lands_between_the_peek_and_the_delivery_unsettles_nothing_and_is_not_lost() {
    let world = Arc::new(World::new().await);
    let session = one_turn(&world).await;
    let end = end_of(&world, &session).await;
    let mut gate = world.gates.pause_after("tail", &["direction: Out"]);
    let peeking = tokio::spawn({
        let world = world.clone();
        async move { peek(&world, end, true).await }
    });
    gate.reached().await;
    let chunk = world.put_out("a", NewRecord::data("chunk")).await.unwrap().start.seq_num;
    gate.release();
    assert!(rest(soon(peeking).await.unwrap()).await.is_empty());
    assert_eq!(chunk, end, "whoever resumes after what was delivered meets it first");
    is_held(&world, peek(&world, end, true).await).await;
}

#[tokio::test]
async fn a_foreign_fencing_token_in_the_log_confuses_nothing() {
    let world = World::new().await;
    let session = one_turn(&world).await;
    let channel = ChannelKey::reserved(session, Direction::Out);
    let fence = NewRecord::fence(&FencingToken::parse("not ours").unwrap());
    ChannelStore::append(&*world.log, &channel, continuo_domain::channel::Append::one(fence)).await.unwrap();
    assert!(peek(&world, 0, true).await.is_settled);
}
