//! A replica that stands still for longer than a lease and then goes on: whatever it had decided meets a condition.

use crate::support::*;
use continuo_domain::channel::Direction;
use continuo_domain::run::RunStatus;
use continuo_ports::Clock;
use continuo_usecases::{Settings, WorkerMessage};
use std::sync::Arc;

fn lease_ms() -> i64 {
    Settings::default().lease_ms.into()
}

#[tokio::test]
async fn an_assignment_whose_lease_ended_meanwhile_is_not_handed_out() {
    let world = World::new().await;
    world.create("a").await;
    // The first replica has taken the run and stands before its fence.
    let mut gate = world.gates.pause_before("append", &["direction: Out", "fence", "1.2"]);
    let mut frozen = world.worker(1).await;
    gate.reached().await;
    world.clock.advance_ms(lease_ms());
    let other = world.replica();
    other.tick(world.clock.now()).await.unwrap();
    let mut worker = TestWorker::connect(&other, &world.key, &[TASK], 1, Vec::new()).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    gate.release();
    let met = frozen.settle().await;
    assert!(met.is_empty(), "{met:?}");
    assert_eq!(world.status(&assigned.lease.run).await, RunStatus::Executing, "and the run is not canceled for it");
}

#[tokio::test]
async fn a_message_of_a_worker_that_is_read_too_late_changes_nothing() {
    let world = World::new().await;
    world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    run.read(1).await;
    world.say("a", "two").await.unwrap();
    let mut gate = world.gates.pause_before("apply", &["Complete"]);
    run.worker.send(WorkerMessage::Completed { lease: run.lease(), output: None, output_type: None });
    gate.reached().await;
    world.clock.advance_ms(lease_ms());
    world.replica().tick(world.clock.now()).await.unwrap();
    assert_eq!(world.status(&run.id()).await, RunStatus::Crashed);
    gate.release();
    run.worker.settle().await;
    assert_eq!(world.status(&run.id()).await, RunStatus::Crashed);
    assert_eq!(world.session(&named("a")).await.current_run_version, 2, "one continuation");
}

#[tokio::test]
async fn a_claim_that_comes_too_late_boots_nothing_where_everything_was_read_meanwhile() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    // The frozen replica has found the message unread, and the run over.
    world.cancel_quietly(&run.id()).await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let frozen = tokio::spawn({
        let (world, core) = (world.clone(), world.replica());
        async move { core.sweep_boots(continuo_domain::Timestamp(0), world.clock.now()).await }
    });
    gate.reached().await;
    run.worker.settle().await;
    world.sweep_boots().await;
    let mut next = world.start_run().await;
    next.read(1).await;
    next.complete().await;
    gate.release();
    soon(frozen).await.unwrap().unwrap();
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
}

#[tokio::test]
async fn a_crash_that_is_noted_too_late_does_not_hold_back_the_run_after_it() {
    let world = Arc::new(World::new().await);
    world.create("a").await;
    let run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    let mut gate = world.gates.pause_before("note_boot", &["Failed"]);
    let frozen = tokio::spawn({
        let id = run.id();
        async move {
            run.worker.lose().await.unwrap();
            id
        }
    });
    gate.reached().await;
    // Another replica sees that no run lives, and boots the next one.
    world.replica().sweep_boots(continuo_domain::Timestamp(0), world.clock.now()).await.unwrap();
    assert_eq!(world.session(&named("a")).await.current_run_version, 2);
    gate.release();
    let crashed = soon(frozen).await.unwrap();
    assert_eq!(world.status(&crashed).await, RunStatus::Crashed);
    assert_eq!(world.session(&named("a")).await.boot.failures, 0);
}

#[tokio::test]
async fn a_fence_that_is_raised_too_late_moves_nothing_back() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    // The frozen replica has won the claim of the second version and stands before its fence.
    let mut gate = world.gates.pause_before("append", &["direction: Out", "fence", "2.0"]);
    let frozen = tokio::spawn({
        let (world, core) = (world.clone(), world.replica());
        async move { core.append(&world.key, text(input(&named("a")), "x")).await }
    });
    gate.reached().await;
    let run = world.start_run().await;
    run.chunk(&world.core, "mine").await.unwrap();
    let before = world.records(&session.id, Direction::Out).await;
    gate.release();
    soon(frozen).await.unwrap().unwrap();
    assert_eq!(world.records(&session.id, Direction::Out).await, before);
    run.chunk(&world.core, "still mine").await.unwrap();
}
