//! Suspend and resume: no capacity held, no wake lost, exactly once.

use crate::support::*;
use continuo_domain::channel::Direction;
use continuo_domain::principal::Principal;
use continuo_domain::run::RunStatus;
use continuo_domain::waitpoint::Completion;
use continuo_domain::{Error, WaitpointId};
use continuo_ports::Clock;
use continuo_ports::run_store::{PageFrom, WaitpointFilter};
use continuo_usecases::{NewManualWaitpoint, RevokeReason, WaitForDuration, WaitOnChannel, WorkerMessage};
use std::sync::Arc;

async fn manual(world: &World) -> WaitpointId {
    world.core.create_waitpoint(&world.key, NewManualWaitpoint::default()).await.unwrap().0.row.id
}

async fn complete(world: &World, id: &WaitpointId, output: &str) {
    world.core.complete_waitpoint(&world.key, id, Completion::json(output)).await.unwrap();
}

#[tokio::test]
async fn a_suspended_run_holds_no_capacity_and_goes_on_with_what_it_waited_for() {
    let world = World::new().await;
    world.create("a").await;
    let mut worker = world.worker(1).await;
    let first = worker.assigned().await;
    worker.start(&first.lease).await;
    let caller = world.core.authenticate(&first.tokens.run_token).await.unwrap();
    let waitpoint = manual(&world).await;
    let run = first.lease.run.clone();
    let suspended = world.core.suspend(&caller, &run, &waitpoint, None).await.unwrap();
    assert_eq!((suspended.status, suspended.lease), (RunStatus::WaitingToResume, None));
    worker.send(WorkerMessage::Suspended(first.lease.clone()));
    worker.settle().await;
    world.create("b").await;
    let other = worker.assigned().await;
    assert_ne!(other.lease.run, run, "its place is free");
    complete(&world, &waitpoint, "42").await;
    worker.complete(&other.lease).await;
    // The completion frees the place; the resumed run may be among what `complete` met, so ask the store.
    let resumed = world.run(&run).await;
    assert_eq!(resumed.status, RunStatus::Executing);
    assert!(resumed.lease.unwrap().number > first.lease.number, "a new lease");
}

#[tokio::test]
async fn a_run_may_suspend_before_the_server_has_read_that_it_started() {
    let world = World::new().await;
    world.create("a").await;
    let mut worker = world.worker(1).await;
    let first = worker.assigned().await;
    let caller = world.core.authenticate(&first.tokens.run_token).await.unwrap();
    let waitpoint = manual(&world).await;
    let run = first.lease.run.clone();
    let suspended = world.core.suspend(&caller, &run, &waitpoint, None).await.unwrap();
    assert_eq!((suspended.status, suspended.attempt_number), (RunStatus::WaitingToResume, 1));
    worker.send(WorkerMessage::Started(first.lease.clone()));
    assert_eq!(worker.revoked().await, (first.lease.clone(), RevokeReason::Suspended));
    complete(&world, &waitpoint, "42").await;
    let resumed = worker.assigned().await;
    assert_eq!((&resumed.lease.run, resumed.assignment.run.attempt_number), (&run, 1), "the attempt goes on");
}

#[tokio::test]
async fn the_resumed_assignment_carries_the_completed_waitpoint_and_fences_out_the_old_lease() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let waitpoint = manual(&world).await;
    world.core.suspend(&run.caller, &run.id(), &waitpoint, None).await.unwrap();
    complete(&world, &waitpoint, "42").await;
    let mut elsewhere = world.worker(1).await;
    let resumed = elsewhere.assigned().await;
    let by = resumed.assignment.resumed_by.unwrap();
    assert_eq!((by.id, by.completion), (waitpoint, Some(Completion::json("42"))));
    assert!(matches!(run.chunk(&world.core, "late").await, Err(Error::Fenced { .. })));
    let caller = world.core.authenticate(&resumed.tokens.run_token).await.unwrap();
    world.core.append(&caller, text(output(&named("a")), "on")).await.unwrap();
}

#[tokio::test]
async fn suspend_on_a_waitpoint_that_is_complete_already_resumes_at_once() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let waitpoint = manual(&world).await;
    complete(&world, &waitpoint, "1").await;
    world.core.suspend(&run.caller, &run.id(), &waitpoint, None).await.unwrap();
    let mut elsewhere = world.worker(1).await;
    assert_eq!(elsewhere.assigned().await.lease.run, run.id());
}

#[tokio::test]
async fn a_completion_that_lands_just_before_the_suspend_is_not_lost() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = world.start_run().await;
    let waitpoint = manual(&world).await;
    let mut gate = world.gates.pause_before("apply", &["Suspend"]);
    let suspending = tokio::spawn({
        let (world, caller, id, waitpoint) = (world.clone(), run.caller.clone(), run.id(), waitpoint.clone());
        async move { world.core.suspend(&caller, &id, &waitpoint, None).await }
    });
    gate.reached().await;
    complete(&world, &waitpoint, "1").await;
    gate.release();
    soon(suspending).await.unwrap().unwrap();
    let mut elsewhere = world.worker(1).await;
    assert_eq!(elsewhere.assigned().await.lease.run, run.id());
}

#[tokio::test]
async fn completion_happens_exactly_once_and_a_repeat_is_a_success_without_effect() {
    let world = World::new().await;
    let waitpoint = manual(&world).await;
    complete(&world, &waitpoint, "first").await;
    let first = world.core.get_waitpoint(&world.key, &waitpoint).await.unwrap();
    world.clock.advance_ms(10);
    complete(&world, &waitpoint, "second").await;
    assert_eq!(world.core.get_waitpoint(&world.key, &waitpoint).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_simultaneous_completions_one_counts_and_one_resume_follows() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = world.start_run().await;
    let waitpoint = manual(&world).await;
    world.core.suspend(&run.caller, &run.id(), &waitpoint, None).await.unwrap();
    let snapshot = world.run(&run.id()).await.snapshot;
    let completions = (0..16).map(|n| {
        let (world, waitpoint) = (world.clone(), waitpoint.clone());
        tokio::spawn(async move {
            let completion = Completion::json(n.to_string());
            world.core.complete_waitpoint(&world.key, &waitpoint, completion).await.unwrap().completion
        })
    });
    let mut seen = Vec::new();
    for completion in completions.collect::<Vec<_>>() {
        seen.push(soon(completion).await.unwrap());
    }
    assert!(seen.iter().all(|c| *c == seen[0]), "all see one outcome");
    assert_eq!(world.run(&run.id()).await.snapshot, snapshot + 1);
}

#[tokio::test]
async fn a_wait_for_a_time_resumes_by_the_clock() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let until = world.clock.now().plus_ms(5_000);
    let wait = WaitForDuration { run: run.id(), until, idempotency_key: None, idempotency_key_ttl_ms: None };
    let waitpoint = world.core.wait_for_duration(&run.caller, wait).await.unwrap();
    assert_eq!(world.status(&run.id()).await, RunStatus::WaitingToResume);
    world.clock.advance_ms(4_999);
    world.tick().await;
    assert_eq!(world.run(&run.id()).await.available_at, None);
    world.clock.advance_ms(1);
    world.tick().await;
    assert!(world.run(&run.id()).await.available_at.is_some());
    let row = world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap();
    assert!(!row.completion.unwrap().is_error, "a wait for a time that is over is no error");
}

#[tokio::test]
async fn a_record_wakes_the_run_that_is_suspended_on_the_channel() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let request = WaitOnChannel {
        run: run.id(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    let waitpoint = world.core.wait_on_channel(&run.caller, request).await.unwrap().row;
    world.core.suspend(&run.caller, &run.id(), &waitpoint.id, None).await.unwrap();
    world.say("a", "wake up").await.unwrap();
    let mut elsewhere = world.worker(1).await;
    let resumed = elsewhere.assigned().await;
    assert_eq!(resumed.lease.run, run.id());
    assert_eq!(resumed.assignment.resumed_by.unwrap().completion, Some(Completion::json("wake up")));
    assert_eq!(world.session(&named("a")).await.current_run_version, 1, "and boots no other");
}

#[tokio::test]
async fn an_unknown_waitpoint_is_not_found_and_the_run_goes_on() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let answer = world.core.suspend(&run.caller, &run.id(), &WaitpointId::from_body("none"), None).await;
    assert!(matches!(answer, Err(Error::WaitpointNotFound)), "{answer:?}");
    assert_eq!(world.status(&run.id()).await, RunStatus::Executing);
}

#[tokio::test]
async fn a_lease_that_is_over_suspends_nothing() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.trigger_config.max_attempts = Some(2);
    world.core.create_session(&world.key, new).await.unwrap();
    let first = world.start_run().await;
    let caller: Principal = first.caller.clone();
    first.worker.lose().await.unwrap();
    world.clock.advance_ms(1_000);
    let second = world.start_run().await;
    let refused = world.core.suspend(&caller, &second.id(), &manual(&world).await, None).await;
    assert!(matches!(refused, Err(Error::StaleSnapshot { .. })), "{refused:?}");
    assert_eq!(world.status(&second.id()).await, RunStatus::Executing);
}

#[tokio::test]
async fn a_token_to_complete_one_waitpoint_completes_no_other() {
    let world = World::new().await;
    let (made, token) = world.core.create_waitpoint(&world.key, NewManualWaitpoint::default()).await.unwrap();
    let other = manual(&world).await;
    let caller = world.core.authenticate(&token).await.unwrap();
    let refused = world.core.complete_waitpoint(&caller, &other, Completion::empty()).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    world.core.complete_waitpoint(&caller, &made.row.id, Completion::empty()).await.unwrap();
}

#[tokio::test]
async fn an_additional_key_reaches_waitpoints_as_far_as_its_scopes() {
    for (scopes, may_read, may_write) in [
        (["read:sessions:a", "write:sessions:a"], false, false),
        (["read:waitpoints", "read:sessions"], true, false),
        (["read:sessions", "write:all"], false, true),
        (["read:sessions", "admin"], true, true),
    ] {
        let world = World::new().await;
        let id = manual(&world).await;
        let key = world.additional_key(&scopes).await;
        let forbidden = |answer: Result<(), Error>| matches!(answer, Err(Error::PermissionDenied));
        let read = world.core.get_waitpoint(&key, &id).await.map(drop);
        let listed =
            world.core.list_waitpoints(&key, &WaitpointFilter::default(), &PageFrom::Start, 10).await.map(drop);
        assert_eq!((forbidden(read), forbidden(listed)), (!may_read, !may_read), "{scopes:?}");
        let made = world.core.create_waitpoint(&key, NewManualWaitpoint::default()).await.map(drop);
        assert_eq!(forbidden(made), !may_write, "{scopes:?}");
    }
}
