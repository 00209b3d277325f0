//! Workers: who gets which run when, and what a worker's word counts for.

use crate::support::*;
use continuo_domain::channel::Direction;
use continuo_domain::error::Cause;
use continuo_domain::run::{NewRun, RunStatus};
use continuo_domain::{Error, RunId};
use continuo_ports::WorkerStore;
use continuo_usecases::{LeaseRef, RevokeReason, WorkerHello, WorkerMessage};
use std::sync::Arc;
use tokio::sync::mpsc;

async fn trigger(world: &World, change: impl FnOnce(&mut NewRun)) -> RunId {
    let id = world.core.new_run_id();
    let mut run = NewRun::of_task(id.clone(), world.key.environment.clone(), TASK, "{}".into());
    change(&mut run);
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

#[tokio::test]
async fn a_run_is_assigned_only_after_its_fence_is_raised() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    // The lease's fence is held: the worker must hear of nothing, whatever else happens to it.
    let mut gate = world.gates.pause_before("append", &["direction: Out", "fence", "1.2"]);
    let mut worker = world.worker(1).await;
    gate.reached().await;
    assert_eq!(world.status(&created.run.spec.id).await, RunStatus::Dequeued);
    assert_eq!(world.fence(&created.session.id, Direction::Out).await.lease, 0);
    gate.release();
    let assigned = worker.assigned().await;
    assert_eq!(world.fence(&created.session.id, Direction::Out).await.lease, assigned.lease.number);
    assert_eq!(assigned.session.unwrap().id, created.session.id);
}

#[tokio::test]
async fn a_run_whose_fence_cannot_be_raised_goes_back_to_its_queue() {
    let world = World::new().await;
    world.create("a").await;
    world.gates.fail_before("append", &["direction: Out", "fence"], Error::Unavailable(Cause::new("down")));
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    assert!(assigned.lease.number > 2, "a second lease, because the first was given back");
    assert_eq!(assigned.assignment.run.attempt_number, 0, "no attempt was used up");
}

#[tokio::test]
async fn a_log_that_takes_no_fence_is_not_asked_without_a_pause() {
    let world = World::new().await;
    world.create("a").await;
    for _ in 0..50 {
        world.gates.fail_before("append", &["direction: Out", "fence"], Error::Unavailable(Cause::new("down")));
    }
    let mut worker = world.worker(1).await;
    // Each of these takes the link once around; one that does not pause tries again in each.
    for _ in 0..50 {
        worker.settle().await;
    }
    assert!(world.gates.calls("dequeue") <= 2, "{} tries", world.gates.calls("dequeue"));
}

#[tokio::test]
async fn a_superseded_run_is_not_assigned_any_more() {
    let world = World::new().await;
    let created = world.create("a").await;
    let first = created.run.spec.id.clone();
    // The swap has happened and its end of the old run is lost: the old run is still in the queue.
    world.gates.fail_before("apply", &["HandOver"], Error::Unavailable(Cause::new("down")));
    let request = continuo_usecases::EndAndContinue {
        session: named("a"),
        calling_run: first.clone(),
        reason: continuo_domain::run::RunReason::Manual,
        external_deployment_id: None,
    };
    assert!(world.core.end_and_continue(&world.key, request).await.unwrap().swapped);
    assert!(world.run(&first).await.is_alive());
    let mut worker = world.worker(2).await;
    let assigned = worker.assigned().await;
    assert_eq!(Some(assigned.lease.run), world.session(&named("a")).await.current_run);
    assert!(worker.settle().await.is_empty());
    assert_eq!(world.status(&first).await, RunStatus::Canceled);
}

#[tokio::test]
async fn a_worker_gets_no_more_runs_than_it_has_room_for() {
    let world = World::new().await;
    for _ in 0..3 {
        trigger(&world, |_| {}).await;
    }
    let mut worker = world.worker(2).await;
    let (one, two) = (worker.assigned().await, worker.assigned().await);
    assert!(worker.settle().await.is_empty());
    worker.start(&one.lease).await;
    worker.send(WorkerMessage::Completed { lease: one.lease.clone(), output: None, output_type: None });
    let three = worker.assigned().await;
    assert!(![one.lease.run, two.lease.run].contains(&three.lease.run));
}

#[tokio::test]
async fn a_queue_never_executes_more_than_its_limit_per_key() {
    let world = World::new().await;
    let limited = |key: &'static str| {
        move |run: &mut NewRun| {
            (run.queue, run.queue_limit, run.concurrency_key) = (Some("q".into()), Some(1), Some(key.into()));
        }
    };
    let first = trigger(&world, limited("x")).await;
    let second = trigger(&world, limited("x")).await;
    let other_key = trigger(&world, limited("y")).await;
    let mut worker = world.worker(10).await;
    let (one, two) = (worker.assigned().await, worker.assigned().await);
    assert_eq!((one.lease.run.clone(), two.lease.run), (first, other_key));
    assert!(worker.settle().await.is_empty(), "the limit holds back the third");
    worker.start(&one.lease).await;
    worker.send(WorkerMessage::Completed { lease: one.lease, output: None, output_type: None });
    assert_eq!(worker.assigned().await.lease.run, second);
}

#[tokio::test]
async fn work_that_arrives_later_finds_the_idle_worker() {
    let world = World::new().await;
    let mut worker = world.worker(1).await;
    worker.settle().await;
    let run = trigger(&world, |_| {}).await;
    assert_eq!(worker.assigned().await.lease.run, run);
}

#[tokio::test]
async fn a_worker_gets_runs_of_its_tasks_and_its_environment_only() {
    let world = World::new().await;
    let other = world.other_environment().await;
    trigger(&world, |run| run.task_identifier = "unknown".into()).await;
    let mut theirs = TestWorker::connect(&world.core, &other, &[TASK], 5, Vec::new()).await;
    let mut ours = world.worker(5).await;
    let run = trigger(&world, |_| {}).await;
    assert_eq!(ours.assigned().await.lease.run, run);
    assert!(ours.settle().await.is_empty());
    assert!(theirs.settle().await.is_empty());
}

#[tokio::test]
async fn one_run_goes_to_one_worker() {
    let world = World::new().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(world.worker(5).await);
    }
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(trigger(&world, |_| {}).await);
    }
    let mut assigned = Vec::new();
    for worker in &mut workers {
        for event in worker.settle().await {
            let continuo_usecases::WorkerEvent::Assigned(a) = event else { panic!("{event:?}") };
            assigned.push(a.lease.run);
        }
    }
    while assigned.len() < runs.len() {
        for worker in &mut workers {
            for event in worker.settle().await {
                let continuo_usecases::WorkerEvent::Assigned(a) = event else { panic!("{event:?}") };
                assigned.push(a.lease.run);
            }
        }
    }
    assigned.sort();
    assert_eq!(assigned, runs);
}

#[tokio::test]
async fn a_draining_worker_gets_nothing_new() {
    let world = World::new().await;
    let mut worker = world.worker(5).await;
    worker.send(WorkerMessage::Drain);
    worker.settle().await;
    trigger(&world, |_| {}).await;
    let met = worker.settle().await;
    assert!(met.is_empty(), "{met:?}");
}

#[tokio::test]
async fn a_message_under_a_stale_lease_has_no_effect_and_is_answered_with_a_revocation() {
    let world = World::new().await;
    let run = trigger(&world, |run| run.max_attempts = 2).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    let stale = LeaseRef { run: run.clone(), number: assigned.lease.number - 1 };
    let before = world.run(&run).await;
    let error = continuo_domain::run::RunError::new("Error", "boom");
    for message in [
        WorkerMessage::Started(stale.clone()),
        WorkerMessage::Read(stale.clone(), 5),
        WorkerMessage::Completed { lease: stale.clone(), output: None, output_type: None },
        WorkerMessage::Failed { lease: stale.clone(), error, may_retry: true },
        WorkerMessage::Heartbeat(vec![stale.clone()]),
    ] {
        worker.send(message);
        assert_eq!(worker.revoked().await, (stale.clone(), RevokeReason::LeaseExpired));
    }
    assert_eq!(world.run(&run).await, before);
    assert!(worker.complete(&assigned.lease).await.is_empty(), "its true lease is untouched");
    assert_eq!(world.status(&run).await, RunStatus::CompletedSuccessfully);
}

#[tokio::test]
async fn a_canceled_run_is_revoked_with_the_reason() {
    let world = World::new().await;
    let run = trigger(&world, |_| {}).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    world.core.cancel_run(&world.key, &run).await.unwrap();
    assert_eq!(worker.revoked().await, (assigned.lease.clone(), RevokeReason::Canceled));
    worker.complete(&assigned.lease).await;
    assert_eq!(world.status(&run).await, RunStatus::Canceled, "for good");
}

#[tokio::test]
async fn a_run_over_its_time_is_ended_and_revoked_with_the_reason() {
    let world = World::new().await;
    let run = trigger(&world, |run| run.max_duration_s = Some(5)).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    world.clock.advance_ms(5_000);
    world.tick().await;
    assert_eq!(worker.revoked().await, (assigned.lease, RevokeReason::TimedOut));
    assert_eq!(world.status(&run).await, RunStatus::TimedOut);
}

#[tokio::test]
async fn one_due_run_that_cannot_be_moved_does_not_stop_the_clock_for_the_others() {
    let world = World::new().await;
    let one = trigger(&world, |run| run.ttl_ms = Some(1_000)).await;
    let two = trigger(&world, |run| run.ttl_ms = Some(1_000)).await;
    world.clock.advance_ms(1_000);
    world.gates.fail_before("apply", &[one.as_str()], Error::Unavailable(Cause::new("down")));
    let _ = world.core.tick(continuo_ports::Clock::now(&*world.clock)).await;
    assert_eq!(world.status(&two).await, RunStatus::Expired);
    world.tick().await;
    assert_eq!(world.status(&one).await, RunStatus::Expired);
}

#[tokio::test]
async fn only_a_key_that_may_write_tasks_serves_as_a_worker() {
    let world = World::new().await;
    let hello = || WorkerHello {
        worker_id: "w".into(),
        version: String::new(),
        task_identifiers: vec![TASK.into()],
        capacity: 1,
        held_leases: Vec::new(),
    };
    let restricted = world.additional_key(&["write:sessions"]).await;
    for caller in [world.token(&["admin"]), restricted] {
        let (events, _kept) = mpsc::channel(8);
        let inbound = Box::pin(futures_util::stream::pending());
        let refused = soon(world.core.serve_worker(caller, hello(), inbound, events)).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    }
    assert!(!world.store.knows_task(&world.key.environment, TASK).await.unwrap(), "nothing was registered");
    assert!(world.core.list_workers(&world.key, None, 100).await.unwrap().workers.is_empty());
}
