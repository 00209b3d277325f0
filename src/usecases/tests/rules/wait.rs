//! Waits on a channel: registered by name or id, before or after, and woken by the record itself.

use crate::support::*;
use continuo_domain::channel::{Append, Direction, NewRecord};
use continuo_domain::error::Cause;
use continuo_domain::run::NewRun;
use continuo_domain::session::{ExternalId, SessionPatch, SessionRef};
use continuo_domain::waitpoint::{Completion, WaitedSession, Waitpoint};
use continuo_domain::{Error, RunId, WaitpointId};
use continuo_ports::{ChannelStore, Clock};
use continuo_usecases::{AppendRequest, Boot, NewManualWaitpoint, WaitOnChannel};
use std::sync::Arc;

/// A run that belongs to no session: what waits.
async fn waiting_run(world: &World) -> RunId {
    let id = world.core.new_run_id();
    let run = NewRun::of_task(id.clone(), world.key.environment.clone(), "other", "{}".into());
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

fn wait(run: &RunId, session: &SessionRef, last_seq_num: Option<u64>) -> WaitOnChannel {
    WaitOnChannel {
        run: run.clone(),
        session: session.clone(),
        direction: Direction::In,
        last_seq_num,
        waitpoint: NewManualWaitpoint::default(),
    }
}

async fn wait_for(world: &World, run: &RunId, last_seq_num: Option<u64>) -> Waitpoint {
    world.core.wait_on_channel(&world.key, wait(run, &named("a"), last_seq_num)).await.unwrap().row
}

async fn output_of(world: &World, id: &WaitpointId) -> Option<Completion> {
    world.core.get_waitpoint(&world.key, id).await.unwrap().completion
}

#[tokio::test]
async fn a_wait_completes_with_the_raw_text_of_the_record() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let waitpoint = wait_for(&world, &run, None).await;
    assert!(waitpoint.is_open());
    world.say("a", r#"{"data":"{\"kind\":\"message\"}","id":"p"}"#).await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json(r#"{"kind":"message"}"#)));
}

#[tokio::test]
async fn the_record_is_readable_when_its_waiter_is_completed() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let run = waiting_run(&world).await;
    wait_for(&world, &run, None).await;
    let mut gate = world.gates.pause_before("complete_waitpoint", &[]);
    let append = tokio::spawn({
        let world = world.clone();
        async move { world.say("a", "x").await }
    });
    gate.reached().await;
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await), ["x"]);
    gate.release();
    soon(append).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_record_that_is_there_already_completes_the_wait_at_once() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "one").await.unwrap();
    world.say("a", "two").await.unwrap();
    let run = waiting_run(&world).await;
    for (last, expected) in [(None, Some("one")), (Some(0), Some("two")), (Some(1), None)] {
        let waitpoint = wait_for(&world, &run, last).await;
        assert_eq!(waitpoint.completion, expected.map(Completion::json), "after {last:?}");
    }
}

#[tokio::test]
async fn a_record_that_lands_between_the_look_and_the_registration_completes_the_wait() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = waiting_run(&world).await;
    for (step, body) in [("register", "before"), ("create_waitpoint", "early")] {
        let last = world.records(&world.session(&named("a")).await.id, Direction::In).await.last().map(|r| r.seq_num);
        let mut gate = world.gates.pause_before(step, &[]);
        let waiting = tokio::spawn({
            let (world, run) = (world.clone(), run.clone());
            async move { wait_for(&world, &run, last).await }
        });
        gate.reached().await;
        world.say("a", body).await.unwrap();
        gate.release();
        assert_eq!(soon(waiting).await.unwrap().completion, Some(Completion::json(body)), "{step}");
    }
}

#[tokio::test]
async fn a_record_that_lands_after_the_race_check_drains_the_registration() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = waiting_run(&world).await;
    let mut gate = world.gates.pause_after("read", &["direction: In"]);
    let waiting = tokio::spawn({
        let (world, run) = (world.clone(), run.clone());
        async move { wait_for(&world, &run, None).await }
    });
    gate.reached().await;
    world.say("a", "x").await.unwrap();
    gate.release();
    let waitpoint = soon(waiting).await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn without_the_registry_a_record_that_is_there_completes_the_wait_all_the_same() {
    for call in ["register", "remove"] {
        let world = World::new().await;
        world.create("a").await;
        let run = waiting_run(&world).await;
        world.say("a", "early").await.unwrap();
        world.gates.fail_before(call, &[], Error::Unavailable(Cause::new("down")));
        let waitpoint = wait_for(&world, &run, None).await;
        assert_eq!(waitpoint.completion, Some(Completion::json("early")), "{call}");
    }
}

#[tokio::test]
async fn a_failed_race_check_is_made_good_by_the_follow_up() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "x").await.unwrap();
    world.core.follow_up_now().await.unwrap();
    let run = waiting_run(&world).await;
    world.gates.fail_before("read", &[], Error::Unavailable(Cause::new("down")));
    let waitpoint = wait_for(&world, &run, None).await;
    assert!(waitpoint.is_open());
    world.core.follow_up_now().await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_failed_race_check_is_no_failure_of_the_wait() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "x").await.unwrap();
    let run = waiting_run(&world).await;
    world.gates.fail_before("read", &[], Error::Unavailable(Cause::new("down")));
    let waitpoint = wait_for(&world, &run, None).await;
    assert!(waitpoint.is_open());
    assert_eq!(world.core.sweep_waits().await.unwrap(), 1);
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_failing_engine_keeps_its_inner_text_to_itself() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    world.gates.fail_before("create_waitpoint", &[], Error::internal("password=hunter2"));
    let failed = world.core.wait_on_channel(&world.key, wait(&run, &named("a"), None)).await.unwrap_err();
    assert_eq!(failed.to_string(), "Internal Server Error");
}

#[tokio::test]
async fn a_wait_registered_by_name_before_its_session_exists_is_bound_and_woken() {
    let world = World::new().await;
    let run = waiting_run(&world).await;
    let waitpoint = wait_for(&world, &run, None).await;
    let waited = |w: &Waitpoint| w.channel.clone().unwrap().session;
    assert_eq!(waited(&waitpoint), WaitedSession::Name("a".into()));
    let created = world.create("a").await;
    let bound = world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap();
    assert_eq!(waited(&bound), WaitedSession::Id(created.session.id));
    world.say("a", "x").await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_wait_bound_by_name_is_woken_though_its_session_was_renamed_and_every_hint_lost() {
    let world = World::new().await;
    let run = waiting_run(&world).await;
    let waitpoint = wait_for(&world, &run, None).await;
    world.create("a").await;
    let patch = SessionPatch { external_id: Some(Some(ExternalId::trusted("b".into()))), ..Default::default() };
    world.core.update_session(&world.key, &named("a"), patch).await.unwrap();
    world.create("a").await;
    world.say("a", "not this one").await.unwrap();
    world.say("b", "this one").await.unwrap();
    world.core.sweep_waits().await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("this one")));
}

#[tokio::test]
async fn an_unknown_id_is_not_found_and_an_unknown_run_is_not_either() {
    let world = World::new().await;
    let run = waiting_run(&world).await;
    let missing = SessionRef::parse("session_missing").unwrap();
    let answer = world.core.wait_on_channel(&world.key, wait(&run, &missing, None)).await;
    assert!(matches!(answer, Err(Error::SessionNotFound)), "{answer:?}");
    world.create("a").await;
    let answer = world.core.wait_on_channel(&world.key, wait(&RunId::from_body("none"), &named("a"), None)).await;
    assert!(matches!(answer, Err(Error::RunNotFound)), "{answer:?}");
}

#[tokio::test]
async fn a_lost_hint_is_made_good_by_the_sweeper() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let waitpoint = wait_for(&world, &run, None).await;
    // Another replica's registry knows of nothing, and neither does one after a restart.
    world.replica().append(&world.key, text(input(&named("a")), "x")).await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, None);
    assert_eq!(world.replica().sweep_waits().await.unwrap(), 1);
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn one_wait_that_cannot_be_looked_at_does_not_hold_up_the_others() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let (one, two) = (wait_for(&world, &run, None).await, wait_for(&world, &run, None).await);
    world.replica().append(&world.key, text(input(&named("a")), "x")).await.unwrap();
    world.gates.fail_before("register", &[one.id.as_str()], Error::Unavailable(Cause::new("down")));
    let _ = world.core.sweep_waits().await;
    assert_eq!(output_of(&world, &two.id).await, Some(Completion::json("x")));
    world.core.sweep_waits().await.unwrap();
    assert_eq!(output_of(&world, &one.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_timeout_completes_with_the_error_and_says_when() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let mut request = wait(&run, &named("a"), None);
    let timeout_at = world.clock.now().plus_ms(1_000);
    request.waitpoint.timeout_at = Some(timeout_at);
    let waitpoint = world.core.wait_on_channel(&world.key, request).await.unwrap().row;
    world.clock.advance_ms(999);
    world.tick().await;
    assert_eq!(output_of(&world, &waitpoint.id).await, None);
    world.clock.advance_ms(1);
    world.tick().await;
    let completion = output_of(&world, &waitpoint.id).await.unwrap();
    assert!(completion.is_error);
    let expected =
        format!(r#"{{"code":"TRIGGER_WAITPOINT_TIMEOUT","message":"Waitpoint timed out at {}"}}"#, timeout_at.to_iso());
    assert_eq!(completion.output, Some(expected));
    world.say("a", "late").await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(completion), "exactly once");
}

#[tokio::test]
async fn a_short_wait_does_not_shorten_a_longer_siblings_registration() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let timed = |ms| {
        let mut request = wait(&run, &named("a"), None);
        request.waitpoint.timeout_at = Some(world.clock.now().plus_ms(ms));
        request
    };
    let long = world.core.wait_on_channel(&world.key, timed(3_600_000)).await.unwrap().row;
    let short = world.core.wait_on_channel(&world.key, timed(1_000)).await.unwrap().row;
    world.clock.advance_ms(2_000);
    world.tick().await;
    assert!(output_of(&world, &short.id).await.unwrap().is_error);
    world.say("a", "x").await.unwrap();
    assert_eq!(output_of(&world, &long.id).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_wait_for_a_number_past_the_tail_waits_for_the_next_record() {
    let world = World::new().await;
    let run = waiting_run(&world).await;
    let early = wait_for(&world, &run, Some(7)).await;
    world.create("a").await;
    world.say("a", "zero").await.unwrap();
    assert_eq!(output_of(&world, &early.id).await, Some(Completion::json("zero")), "of a session that was not there");
    let waitpoint = wait_for(&world, &run, Some(u64::MAX)).await;
    assert!(waitpoint.is_open(), "what is there was there before it");
    world.say("a", "one").await.unwrap();
    assert_eq!(output_of(&world, &waitpoint.id).await, Some(Completion::json("one")));
}

#[tokio::test]
async fn a_record_that_lands_while_a_number_past_the_tail_is_looked_at_completes_the_wait() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = waiting_run(&world).await;
    let mut gate = world.gates.pause_after("tail", &["direction: In"]);
    let waiting = tokio::spawn({
        let (world, run) = (world.clone(), run.clone());
        async move { wait_for(&world, &run, Some(5)).await }
    });
    gate.reached().await;
    world.say("a", "x").await.unwrap();
    gate.release();
    assert_eq!(soon(waiting).await.unwrap().completion, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_batch_wakes_with_the_record_that_counts() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let any = wait_for(&world, &run, None).await;
    let later = wait_for(&world, &run, Some(1)).await;
    let records = vec![NewRecord::trim(0), NewRecord::data("one"), NewRecord::data("two")];
    let append = Append { records, ..Append::default() };
    let request = AppendRequest { channel: input(&named("a")), append, boot: Boot::Default };
    world.core.append(&world.key, request).await.unwrap();
    assert_eq!(output_of(&world, &any.id).await, Some(Completion::json("one")), "a command wakes nobody");
    assert_eq!(
        output_of(&world, &later.id).await,
        Some(Completion::json("one")),
        "what is past the tail is the next one"
    );
}

#[tokio::test]
async fn the_same_name_in_two_environments_never_cross_wakes() {
    let world = World::new().await;
    let other = world.other_environment().await;
    let run = waiting_run(&world).await;
    let by_name = wait_for(&world, &run, None).await;
    let theirs = world.core.create_session(&other, new_session(Some("a"))).await.unwrap();
    world.core.append(&other, text(input(&named("a")), "theirs")).await.unwrap();
    assert_eq!(output_of(&world, &by_name.id).await, None);
    world.create("a").await;
    world.core.append(&other, text(input(&named("a")), "theirs again")).await.unwrap();
    world.core.sweep_waits().await.unwrap();
    assert_eq!(output_of(&world, &by_name.id).await, None);
    world.say("a", "ours").await.unwrap();
    assert_eq!(output_of(&world, &by_name.id).await, Some(Completion::json("ours")));
    let channel = continuo_domain::channel::ChannelKey::reserved(theirs.session.id, Direction::In);
    assert_eq!(world.log.tail(&channel).await.unwrap().position.seq_num, 2);
}

#[tokio::test]
async fn an_idempotency_key_finds_the_first_wait() {
    let world = World::new().await;
    world.create("a").await;
    let run = waiting_run(&world).await;
    let mut request = wait(&run, &named("a"), None);
    request.waitpoint.idempotency_key = Some("k".into());
    let first = world.core.wait_on_channel(&world.key, request.clone()).await.unwrap();
    let again = world.core.wait_on_channel(&world.key, request).await.unwrap();
    assert_eq!((first.is_cached, again.is_cached), (false, true));
    assert_eq!(first.row.id, again.row.id);
}

#[tokio::test]
async fn a_run_waits_on_its_own_sessions_channels_only() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    world.create("b").await;
    let own = world.core.wait_on_channel(&run.caller, wait(&run.id(), &named("a"), None)).await;
    assert!(own.is_ok(), "{own:?}");
    for elsewhere in ["b", "not there yet"] {
        let refused = world.core.wait_on_channel(&run.caller, wait(&run.id(), &named(elsewhere), None)).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    }
    let of_others = world.token(&["write:runs", "write:sessions"]);
    let refused = world.core.wait_on_channel(&of_others, wait(&run.id(), &named("a"), None)).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
}

#[tokio::test]
async fn more_timeouts_than_one_round_takes_are_due_at_once() {
    let world = World::new().await;
    for _ in 0..150 {
        let new = NewManualWaitpoint { timeout_at: Some(world.clock.now()), ..NewManualWaitpoint::default() };
        world.core.create_waitpoint(&world.key, new).await.unwrap();
    }
    let now = world.clock.now();
    assert_eq!(world.core.tick(now).await.unwrap(), Some(now), "the next round is now");
    assert_eq!(world.core.tick(now).await.unwrap(), None);
}
