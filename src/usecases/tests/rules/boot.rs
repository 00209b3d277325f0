//! No accepted input goes unread: what boots a continuation, and what does not.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::NewRecord;
use continuo_domain::error::Cause;
use continuo_domain::run::{RunReason, RunStatus};
use continuo_ports::Clock;
use continuo_usecases::{Boot, Producer, StreamAppend};
use std::sync::Arc;

fn message(world: &Arc<World>, body: &'static str) -> tokio::task::JoinHandle<u64> {
    let world = world.clone();
    tokio::spawn(async move { world.say("a", body).await.unwrap().start.seq_num })
}

#[tokio::test]
async fn input_acknowledged_while_its_run_is_on_its_way_out_boots_a_continuation() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    // Durable, and not probed yet.
    let mut gate = world.gates.pause_after("append", &["\"hello\""]);
    let append = message(&world, "hello");
    gate.reached().await;
    run.complete().await;
    gate.release();
    assert_eq!(soon(append).await.unwrap(), 0);
    let runs = world.runs_of(&created.session.id).await;
    assert_eq!(runs.iter().map(|r| r.is_alive()).collect::<Vec<_>>(), [false, true], "one, by whoever came first");
}

#[tokio::test]
async fn input_whose_probe_met_a_run_that_ended_right_after_boots_a_continuation() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    // The probe has seen the run alive, and the end of the run finds nothing unread.
    let mut gate = world.gates.pause_after("probe", &[]);
    let append = message(&world, "hello");
    gate.reached().await;
    run.complete().await;
    gate.release();
    soon(append).await.unwrap();
    world.core.follow_up_now().await.unwrap();
    let runs = world.runs_of(&created.session.id).await;
    assert_eq!(runs.iter().map(|r| r.is_alive()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn input_that_lands_while_the_end_of_the_run_is_settled_boots_a_continuation() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    // The end of the run has looked at `.in` and found nothing.
    let mut gate = world.gates.pause_after("tail", &["direction: In"]);
    let ending = async { run.complete().await };
    let landing = async {
        gate.reached().await;
        world.say("a", "hello").await.unwrap();
        gate.release();
    };
    tokio::join!(ending, landing);
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
    assert!(world.status(&world.session(&named("a")).await.current_run.unwrap()).await == RunStatus::Pending);
}

#[tokio::test]
async fn a_run_that_ends_with_unread_input_is_continued_once_per_tail() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut first = world.start_run().await;
    world.say("a", "one").await.unwrap();
    first.complete().await;
    let audit = world.core.session_runs(&world.key, &named("a")).await.unwrap();
    assert_eq!(audit.iter().map(|a| a.0.reason).collect::<Vec<_>>(), [RunReason::Initial, RunReason::Continuation]);
    let mut second = world.start_run().await;
    second.complete().await;
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2, "not again for the same tail after a normal end");
    world.say("a", "two").await.unwrap();
    let mut third = world.start_run().await;
    third.complete().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 4, "a new tail is a new reason");
}

#[tokio::test]
async fn a_run_that_read_everything_is_not_continued() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    run.read(1).await;
    run.complete().await;
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn a_turn_complete_tells_how_far_its_turn_has_read() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    run.put(&world.core, turn_complete(Some(0))).await.unwrap();
    run.complete().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
    assert_eq!(world.session(&named("a")).await.boot.read_seq_num, 1);
}

#[tokio::test]
async fn stop_and_handover_skip_are_stored_and_boot_nothing() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    for (n, body) in [r#"{"kind":"stop"}"#, r#"{"kind":"handover-skip"}"#, r#"{"data":"{\"kind\":\"stop\"}","id":"p"}"#]
        .into_iter()
        .enumerate()
    {
        assert_eq!(world.say("a", body).await.unwrap().start.seq_num, n as u64);
    }
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    world.say("a", r#"{"kind":"message"}"#).await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn a_stop_inside_a_string_is_text_and_boots() {
    for body in [r#""{\"kind\":\"stop\"}""#, r#"{"data":"\"{\\\"kind\\\":\\\"stop\\\"}\"","id":"p"}"#] {
        let world = World::new().await;
        let session = world.create_idle("a").await;
        world.say("a", body).await.unwrap();
        assert_eq!(world.runs_of(&session.id).await.len(), 2, "{body}");
    }
}

#[tokio::test]
async fn a_stop_that_is_left_behind_boots_nothing_when_its_run_ends() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", r#"{"kind":"stop"}"#).await.unwrap();
    run.complete().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn a_request_to_end_boots_nothing_once_its_run_has_ended_and_hides_no_message() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    let close = r#"{"kind":"message","payload":{"chatId":"a","trigger":"close"}}"#;
    world.say("a", close).await.unwrap();
    run.complete().await;
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
    world.say("a", "hello").await.unwrap();
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
}

#[tokio::test]
async fn an_append_that_asks_for_no_boot_gets_none() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    let mut request = text(input(&named("a")), "quiet");
    request.boot = Boot::Never;
    world.core.append(&world.key, request).await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
}

#[tokio::test]
async fn a_stream_of_appends_boots_a_run_as_a_single_one_does() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    let producer: Producer = world.core.open_producer(&world.key, input(&named("a"))).await.unwrap();
    let first =
        StreamAppend { append: continuo_domain::channel::Append::one(NewRecord::data("x")), boot: Boot::Default };
    producer.append(continuo_usecases::Batch::of(first)).await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn an_expired_session_is_not_continued() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.expires_at = Some(continuo_ports::Clock::now(&*world.clock).plus_ms(1_000));
    let created = world.core.create_session(&world.key, new).await.unwrap();
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    world.clock.advance_ms(1_000);
    run.complete().await;
    world.sweep_boots().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn a_canceled_run_leaves_its_unread_input_to_a_continuation() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    world.core.cancel_run(&world.key, &run.id()).await.unwrap();
    let runs = world.runs_of(&created.session.id).await;
    assert_eq!(runs.iter().map(|r| r.status).collect::<Vec<_>>(), [RunStatus::Canceled, RunStatus::Pending]);
}

#[tokio::test]
async fn input_whose_boot_failed_is_booted_by_the_sweeper_although_no_row_changed() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.clock.advance_ms(600_000);
    let unavailable = || Error::Unavailable(Cause::new("test"));
    world.gates.fail_before("claim_run", &[], unavailable());
    world.say("a", "hello").await.unwrap();
    world.gates.fail_before("claim_run", &[], unavailable());
    for alive in [0, 1, 1] {
        let now = world.clock.now();
        world.core.sweep_boots(now, now).await.unwrap();
        assert_eq!(world.runs_of(&session.id).await.iter().filter(|r| r.is_alive()).count(), alive);
        world.clock.advance_ms(60_000);
    }
}

#[tokio::test]
async fn a_boot_that_is_owed_outlives_the_replica_that_owes_it() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "hello").await.unwrap();
    // The end of the run does not get to look at what is unread.
    world.gates.fail_before("tail", &[], Error::Unavailable(Cause::new("test")));
    run.complete().await;
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
    // Another one, much later: it knows of nothing, and nothing has changed since.
    world.clock.advance_ms(3_600_000);
    let (now, later) = (world.clock.now(), world.replica());
    later.sweep_boots(now, now).await.unwrap();
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
    assert!(world.session(&named("a")).await.boot.retry_at.is_none(), "it is paid");
}

#[tokio::test]
async fn a_run_cannot_have_read_what_is_not_there() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "first").await.unwrap();
    run.read(u64::MAX).await;
    assert_eq!(world.session(&named("a")).await.boot.read_seq_num, 1, "as far as there is anything");
    world.say("a", "second").await.unwrap();
    run.complete().await;
    let runs = world.runs_of(&created.session.id).await;
    assert_eq!(runs.iter().map(|r| r.is_alive()).collect::<Vec<_>>(), [false, true], "the second one is unread");
}
