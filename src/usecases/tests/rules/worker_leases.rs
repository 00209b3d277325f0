//! Leases: what is lost with a stream, what survives a reconnect, and what the clock takes.

use crate::support::*;
use continuo_domain::channel::Direction;
use continuo_domain::run::{NewRun, RunStatus};
use continuo_domain::{Error, RunId};
use continuo_usecases::{RevokeReason, Settings, WorkerEvent, WorkerMessage};

async fn trigger(world: &World, max_attempts: u32) -> RunId {
    let id = world.core.new_run_id();
    let run = NewRun { max_attempts, ..NewRun::of_task(id.clone(), world.key.environment.clone(), TASK, "{}".into()) };
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

fn lease_ms() -> i64 {
    Settings::default().lease_ms.into()
}

#[tokio::test]
async fn a_lost_stream_crashes_a_run_that_has_no_attempt_left() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    worker.lose().await.unwrap();
    let row = world.run(&run).await;
    assert_eq!(row.status, RunStatus::Crashed);
    assert_eq!(row.error.unwrap().name, "WORKER_LOST");
}

#[tokio::test]
async fn a_lost_stream_is_retried_while_attempts_are_left() {
    let world = World::new().await;
    let run = trigger(&world, 2).await;
    for (attempt, expected) in [(1, RunStatus::RetryingAfterFailure), (2, RunStatus::Crashed)] {
        let mut worker = world.worker(1).await;
        let assigned = worker.assigned().await;
        worker.start(&assigned.lease).await;
        assert_eq!(world.run(&run).await.attempt_number, attempt);
        worker.lose().await.unwrap();
        assert_eq!(world.status(&run).await, expected);
        world.clock.advance_ms(1_000);
    }
}

/// What a worker that goes on speaking is told first.
async fn first_met(worker: &mut TestWorker) -> Vec<WorkerEvent> {
    soon(async {
        loop {
            let met = worker.settle().await;
            if !met.is_empty() {
                return met;
            }
        }
    })
    .await
}

/// A connection may be dead and not know it.
#[tokio::test]
async fn a_worker_that_says_nothing_for_the_life_of_a_lease_is_given_up_and_one_that_speaks_is_not() {
    let world = World::with(Settings { lease_ms: 1_000, ..Settings::default() }).await;
    let run = trigger(&world, 1).await;
    let mut silent = world.worker(1).await;
    assert_eq!(silent.assigned().await.lease.run, run);
    let mut other = world.worker(1).await;
    // It speaks as long as the other one is silent, and longer than a lease lives.
    let met = first_met(&mut other).await;
    assert!(matches!(&met[..], [WorkerEvent::Assigned(again)] if again.lease.run == run), "{met:?}");
}

/// Every heartbeat wakes the clock, also in the moment in which the run becomes available.
#[tokio::test]
async fn a_retry_that_is_due_is_handed_out_also_while_heartbeats_wake_the_clock() {
    let world = World::new().await;
    let run = trigger(&world, 2).await;
    let mut first = world.worker(1).await;
    let assigned = first.assigned().await;
    first.start(&assigned.lease).await;
    let mut second = world.worker(1).await;
    let clock = tokio::spawn(world.core.clone().run_clock());
    first.lose().await.unwrap();
    assert_eq!(world.status(&run).await, RunStatus::RetryingAfterFailure);
    world.clock.advance_ms(1_000);
    let met = first_met(&mut second).await;
    assert!(matches!(&met[..], [WorkerEvent::Assigned(again)] if again.lease.run == run), "{met:?}");
    clock.abort();
}

#[tokio::test]
async fn a_run_that_was_never_started_goes_back_at_once_and_uses_no_attempt() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut worker = world.worker(1).await;
    worker.assigned().await;
    worker.lose().await.unwrap();
    assert_eq!(world.status(&run).await, RunStatus::Pending);
    let mut other = world.worker(1).await;
    assert_eq!(other.assigned().await.lease.run, run);
}

#[tokio::test]
async fn a_lost_run_of_a_session_is_fenced_out_and_its_unread_input_boots_a_continuation() {
    let world = World::new().await;
    world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "one").await.unwrap();
    run.read(1).await;
    world.say("a", "two").await.unwrap();
    let (caller, id) = (run.caller.clone(), run.id());
    run.worker.lose().await.unwrap();
    assert_eq!(world.status(&id).await, RunStatus::Crashed);
    let late = world.core.append(&caller, text(output(&named("a")), "late")).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    assert_eq!(world.session(&named("a")).await.current_run_version, 2);
}

#[tokio::test]
async fn without_a_heartbeat_a_lease_ends_by_the_clock_and_with_one_it_goes_on() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    for _ in 0..3 {
        world.clock.advance_ms(lease_ms() - 1);
        world.tick().await;
        assert_eq!(world.status(&run).await, RunStatus::Executing);
        worker.send(WorkerMessage::Heartbeat(vec![assigned.lease.clone()]));
        let renewed = worker.renewed().await;
        assert_eq!(renewed.len(), 1);
        assert_eq!(renewed[0].0, assigned.lease);
        let caller = world.core.authenticate(&renewed[0].1.run_token).await.unwrap();
        assert_eq!(caller.run().unwrap().lease, assigned.lease.number, "a fresh token for the same lease");
    }
    world.clock.advance_ms(lease_ms());
    world.tick().await;
    assert_eq!(world.status(&run).await, RunStatus::Crashed);
    assert_eq!(worker.revoked().await, (assigned.lease, RevokeReason::LeaseExpired));
}

#[tokio::test]
async fn a_node_that_stops_leaves_leases_to_their_deadline_and_a_reconnect_keeps_them() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    world.stopping.cancel();
    let ended = worker.ended().await;
    assert!(matches!(ended, Err(Error::Stopping)), "{ended:?}");
    assert_eq!(world.status(&run).await, RunStatus::Executing);
    world.clock.advance_ms(lease_ms() - 1);
    let node = world.replica();
    let held = vec![assigned.lease.clone()];
    let mut again = TestWorker::connect(&node, &world.key, &[TASK], 1, held).await;
    let renewed = again.renewed().await;
    assert_eq!(renewed[0].0, assigned.lease);
    world.clock.advance_ms(lease_ms() - 1);
    world.tick().await;
    assert!(again.complete(&assigned.lease).await.is_empty());
    assert_eq!(world.status(&run).await, RunStatus::CompletedSuccessfully);
}

#[tokio::test]
async fn a_reconnect_before_the_old_stream_is_given_up_keeps_the_leases() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut old = world.worker(1).await;
    let assigned = old.assigned().await;
    old.start(&assigned.lease).await;
    let held = vec![assigned.lease.clone()];
    let mut new = TestWorker::connect(&world.core, &world.key, &[TASK], 1, held).await;
    new.settle().await;
    old.lose().await.unwrap();
    assert_eq!(world.status(&run).await, RunStatus::Executing);
    assert!(new.complete(&assigned.lease).await.is_empty());
    assert_eq!(world.status(&run).await, RunStatus::CompletedSuccessfully);
}

#[tokio::test]
async fn a_reconnect_to_another_replica_before_the_old_stream_is_given_up_keeps_the_leases() {
    let world = World::new().await;
    let run = trigger(&world, 1).await;
    let mut old = world.worker(1).await;
    let assigned = old.assigned().await;
    old.start(&assigned.lease).await;
    let held = vec![assigned.lease.clone()];
    let mut new = TestWorker::connect(&world.replica(), &world.key, &[TASK], 1, held).await;
    new.settle().await;
    // A heartbeat that the old replica reads only now takes the lease back from nobody.
    old.send(WorkerMessage::Heartbeat(vec![assigned.lease.clone()]));
    assert_eq!(old.renewed().await[0].0, assigned.lease);
    old.lose().await.unwrap();
    assert_eq!(world.status(&run).await, RunStatus::Executing);
    assert!(new.complete(&assigned.lease).await.is_empty());
    assert_eq!(world.status(&run).await, RunStatus::CompletedSuccessfully);
}

#[tokio::test]
async fn a_replica_that_is_gone_loses_its_leases_by_the_clock_of_another() {
    let world = World::new().await;
    let dead = world.replica();
    let run = trigger(&world, 2).await;
    let mut worker = TestWorker::connect(&dead, &world.key, &[TASK], 1, Vec::new()).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    // Nothing of it runs any more, and nobody says so: its lease stands until its deadline.
    worker.freeze();
    drop(dead);
    world.clock.advance_ms(lease_ms() - 1);
    world.tick().await;
    assert_eq!(world.status(&run).await, RunStatus::Executing);
    world.clock.advance_ms(1);
    world.tick().await;
    assert_eq!(world.status(&run).await, RunStatus::RetryingAfterFailure);
    world.clock.advance_ms(1_000);
    let mut other = world.worker(1).await;
    assert_eq!(other.assigned().await.lease.run, run, "within a second it executes elsewhere");
}

#[tokio::test]
async fn a_lease_that_ended_meanwhile_is_revoked_on_the_reconnect() {
    let world = World::new().await;
    trigger(&world, 1).await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    worker.lose().await.unwrap();
    let mut again = TestWorker::connect(&world.core, &world.key, &[TASK], 1, vec![assigned.lease.clone()]).await;
    assert_eq!(again.revoked().await, (assigned.lease, RevokeReason::LeaseExpired));
}

#[tokio::test]
async fn held_leases_take_room() {
    let world = World::new().await;
    trigger(&world, 1).await;
    let mut old = world.worker(1).await;
    let assigned = old.assigned().await;
    old.start(&assigned.lease).await;
    trigger(&world, 1).await;
    let mut new = TestWorker::connect(&world.core, &world.key, &[TASK], 1, vec![assigned.lease]).await;
    let met = new.settle().await;
    assert!(met.iter().all(|e| matches!(e, WorkerEvent::Renewed(_))), "{met:?}");
}

#[tokio::test]
async fn a_link_that_breaks_while_runs_are_handed_out_gives_all_of_them_back() {
    let world = World::new().await;
    world.create("a").await;
    let (one, two) = (trigger(&world, 1).await, trigger(&world, 1).await);
    let mut gate = world.gates.pause_before("append", &["direction: Out", "fence", "1.2"]);
    let worker = world.worker(5).await;
    gate.reached().await;
    // All three are dequeued, none is told. Now the worker goes away.
    let (link, events) = worker.hang_up();
    drop(events);
    gate.release();
    soon(link).await.unwrap().unwrap();
    for run in [world.session(&named("a")).await.current_run.unwrap(), one, two] {
        assert_eq!(world.status(&run).await, RunStatus::Pending, "{run}");
    }
}

#[tokio::test]
async fn a_run_token_outlives_its_lease_by_a_grace_and_then_no_more() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    let token = run.assigned.tokens.run_token.clone();
    world.clock.advance_ms(lease_ms() + 59_999);
    world.core.authenticate(&token).await.unwrap();
    world.clock.advance_ms(1);
    let late = world.core.authenticate(&token).await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))), "{late:?}");
    assert!(world.records(&created.session.id, Direction::In).await.is_empty());
}
