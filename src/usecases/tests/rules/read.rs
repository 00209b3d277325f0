//! Reads: replay, follow, gaps, the newest ones, and sessions that do not exist yet.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::{Direction, NewRecord, ReadFrom, ReadStart, Record};
use continuo_domain::principal::Principal;
use continuo_domain::session::{ExternalId, SessionPatch, SessionRef};
use continuo_usecases::{Attach, Batch, Boot, ChannelRead, ChannelTarget, ReadChannel, ReadMessage, StreamAppend};
use futures_util::{StreamExt, TryStreamExt};

fn read(channel: ChannelTarget) -> ReadChannel {
    let from = ReadFrom::seq_num(0);
    ReadChannel { channel, from, skip_commands: false, idle_timeout_ms: 0, heartbeat_ms: 0, peek_settled: false }
}

async fn open(world: &World, caller: &Principal, request: ReadChannel) -> ChannelRead {
    world.core.read_channel(caller, request).await.unwrap()
}

/// The next record that is not a command.
async fn next_data(read: &mut ChannelRead) -> Record {
    loop {
        if let ReadMessage::Records { records, .. } = soon(read.events.next()).await.expect("it ended").unwrap()
            && let Some(record) = records.iter().find(|r| !r.is_command())
        {
            return record.clone();
        }
    }
}

#[tokio::test]
async fn a_subscriber_by_name_receives_what_is_appended_after_the_session_comes_into_being() {
    let world = World::new().await;
    for caller in [world.key.clone(), world.token(&["read:sessions:a:out"])] {
        let mut subscription = open(&world, &caller, read(output(&named("a")))).await;
        let first = soon(subscription.events.next()).await.unwrap().unwrap();
        assert!(matches!(first, ReadMessage::Heartbeat { .. }), "a sign of life before the session exists: {first:?}");
        world.create("a").await;
        world.put_out("a", NewRecord::data("hello")).await.unwrap();
        assert_eq!(next_data(&mut subscription).await.body, "hello");
        world.core.delete_session(&world.key, &named("a")).await.unwrap();
    }
}

#[tokio::test]
async fn a_subscriber_by_name_is_there_for_a_session_that_takes_the_name_by_a_rename() {
    let world = World::new().await;
    world.create("old").await;
    world.put_out("old", NewRecord::data("hello")).await.unwrap();
    let mut subscription = open(&world, &world.key, read(output(&named("a")))).await;
    soon(subscription.events.next()).await.unwrap().unwrap();
    let patch = SessionPatch { external_id: Some(Some(ExternalId::trusted("a".into()))), ..Default::default() };
    world.core.update_session(&world.key, &named("old"), patch).await.unwrap();
    assert_eq!(next_data(&mut subscription).await.body, "hello");
}

#[tokio::test]
async fn a_subscriber_is_authorised_again_when_the_session_is_there() {
    let world = World::new().await;
    let gone = world.create("a").await;
    let token = world.core.authenticate(&gone.public_access_token).await.unwrap();
    let patch = SessionPatch { external_id: Some(None), ..Default::default() };
    world.core.update_session(&world.key, &named("a"), patch).await.unwrap();
    // Its token is bound to another session: before the row exists nothing can be said for it.
    let early = world.core.read_channel(&token, read(output(&named("a")))).await.map(drop);
    assert!(matches!(early, Err(Error::PermissionDenied)), "{early:?}");
    let by_name = world.token(&["read:sessions:a:out"]);
    let mut subscription = open(&world, &by_name, read(output(&named("a")))).await;
    soon(subscription.events.next()).await.unwrap().unwrap();
    world.create("a").await;
    world.put_out("a", NewRecord::data("hello")).await.unwrap();
    assert_eq!(next_data(&mut subscription).await.body, "hello");
}

#[tokio::test]
async fn a_subscriber_that_wants_the_newest_gets_it_also_if_it_came_before_the_session() {
    let world = World::new().await;
    let newest = ReadFrom { start: ReadStart::TailOffset(1), clamp: true };
    let request = ReadChannel { from: newest, skip_commands: true, ..read(output(&named("a"))) };
    let mut early = open(&world, &world.key, request.clone()).await;
    soon(early.events.next()).await.unwrap().unwrap();
    // It looks for the session, and sees it only when all of this is there.
    let mut gate = world.gates.pause_before("get", &["External", "\"a\""]);
    let writing = async {
        gate.reached().await;
        let session = world.create("a").await.session;
        for body in ["one", "two"] {
            world.put_out("a", NewRecord::data(body)).await.unwrap();
        }
        world.core.trim(&world.key, output(&SessionRef::Id(session.id)), 0).await.unwrap();
        gate.release();
    };
    let (record, ()) = tokio::join!(next_data(&mut early), writing);
    assert_eq!(record.body, "two");
    let mut late = open(&world, &world.key, request).await;
    assert_eq!(next_data(&mut late).await.body, "two");
}

#[tokio::test]
async fn an_unknown_id_is_not_found() {
    let world = World::new().await;
    let missing = SessionRef::parse("session_missing").unwrap();
    let refused = world.core.read_channel(&world.key, read(output(&missing))).await.map(drop);
    assert!(matches!(refused, Err(Error::SessionNotFound)), "{refused:?}");
}

#[tokio::test]
async fn a_resume_before_the_first_kept_record_says_so() {
    let world = World::new().await;
    world.create("a").await;
    for n in 0..5 {
        world.put_out("a", NewRecord::data(n.to_string())).await.unwrap();
    }
    world.core.trim(&world.key, output(&named("a")), 4).await.unwrap();
    let mut following =
        open(&world, &world.key, ReadChannel { from: ReadFrom::seq_num(1), ..read(output(&named("a"))) }).await;
    let first = soon(following.events.next()).await.unwrap().unwrap();
    assert!(matches!(first, ReadMessage::Gap { requested: 1, earliest: 4 }), "{first:?}");
    assert_eq!(next_data(&mut following).await.seq_num, 4);
    world.put_out("a", turn_complete(None)).await.unwrap();
    let request = ReadChannel { from: ReadFrom::seq_num(1), peek_settled: true, ..read(output(&named("a"))) };
    let mut settled = open(&world, &world.key, request).await;
    assert!(settled.is_settled);
    let first = soon(settled.events.next()).await.unwrap().unwrap();
    assert!(matches!(first, ReadMessage::Gap { requested: 1, earliest: 4 }), "{first:?}");
}

#[tokio::test]
async fn a_list_holds_everything_but_commands_and_never_waits() {
    let world = World::new().await;
    world.create("a").await;
    let big = "x".repeat(400_000);
    for _ in 0..6 {
        world.put_out("a", NewRecord::data(big.clone())).await.unwrap();
    }
    world.core.trim(&world.key, output(&named("a")), 2).await.unwrap();
    let listed = world.core.list_records(&world.key, &output(&named("a")), 0).await.unwrap();
    let records: Vec<Record> = soon(listed.try_concat()).await.unwrap();
    assert_eq!(records.iter().map(|r| r.seq_num).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    let listed = world.core.list_records(&world.key, &input(&named("a")), 0).await.unwrap();
    assert!(soon(listed.try_concat()).await.unwrap().is_empty(), "a channel that was never written");
}

#[tokio::test]
async fn an_idle_timeout_begins_when_everything_that_was_there_is_delivered() {
    let world = World::new().await;
    world.create("a").await;
    for n in 0..3 {
        world.put_out("a", NewRecord::data(n.to_string())).await.unwrap();
    }
    let mut reading = open(&world, &world.key, ReadChannel { idle_timeout_ms: 1, ..read(output(&named("a"))) }).await;
    let mut gate = world.gates.pause_before("followed", &["Records"]);
    let slow = async {
        gate.reached().await;
        // Longer than the timeout: a store that takes its time.
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_millis(20)).await;
        tokio::time::resume();
        gate.release();
    };
    let to_the_end = async {
        let mut found = Vec::new();
        while let Some(message) = soon(reading.events.next()).await {
            if let ReadMessage::Records { records, .. } = message.unwrap() {
                found.extend(records.iter().cloned());
            }
        }
        found
    };
    let (found, ()) = tokio::join!(to_the_end, slow);
    assert_eq!(bodies(&found), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_close_ends_no_subscription() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let mut subscription = open(&world, &world.key, read(output(&named("a")))).await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    run.chunk(&world.core, "last words").await.unwrap();
    assert_eq!(next_data(&mut subscription).await.body, "last words");
}

#[tokio::test]
async fn a_stopping_node_ends_every_read_with_a_last_word() {
    let world = World::new().await;
    world.create("a").await;
    let mut existing = open(&world, &world.key, read(output(&named("a")))).await;
    let mut waiting = open(&world, &world.key, read(output(&named("b")))).await;
    world.stopping.cancel();
    for subscription in [&mut existing, &mut waiting] {
        let mut last = None;
        while let Some(message) = soon(subscription.events.next()).await {
            last = Some(message);
        }
        assert!(matches!(last, Some(Err(Error::Stopping))), "{last:?}");
    }
}

#[tokio::test]
async fn a_client_attaches_to_in_and_out_and_a_run_the_other_way_round() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let attach = || Attach {
        session: named("a"),
        name: None,
        from: ReadFrom::seq_num(0),
        skip_commands: false,
        heartbeat_ms: 0,
    };
    let mut client = world.core.attach(&world.token(&["read:sessions:a", "write:sessions:a"]), attach()).await.unwrap();
    let mut agent = world.core.attach(&run.caller, attach()).await.unwrap();
    let say = |body: &'static str| {
        let append = continuo_domain::channel::Append::one(NewRecord::data(body));
        Batch::of(StreamAppend { append, boot: Boot::Default })
    };
    client.producer.append(say("question")).await.unwrap();
    assert_eq!(next_data(&mut agent.read).await.body, "question");
    agent.producer.append(say("answer")).await.unwrap();
    assert_eq!(next_data(&mut client.read).await.body, "answer");
}

#[tokio::test]
async fn a_producer_that_was_opened_before_a_close_is_refused_after_it() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    let producer = world.core.open_producer(&world.key, input(&named("a"))).await.unwrap();
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let append = continuo_domain::channel::Append::one(NewRecord::data("late"));
    let refused = producer.append(Batch::of(StreamAppend { append, boot: Boot::Default })).await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    assert!(bodies(&world.records(&session.id, Direction::In).await).is_empty());
}
