//! Two replicas on one set of stores: what happens on one is heard on the other, by hint at once and without it by the clock.

use crate::support::*;
use continuo_domain::RunId;
use continuo_domain::channel::{NewRecord, ReadFrom};
use continuo_domain::run::{NewRun, RunReason};
use continuo_usecases::{ChannelRead, Core, EndAndContinue, ReadChannel, ReadMessage, RevokeReason, WorkerEvent};
use futures_util::StreamExt;

/// A second replica, and the hints of both on their way.
async fn two(world: &World) -> Core {
    let other = world.replica();
    for core in [&world.core, &other] {
        tokio::spawn(core.clone().run_hints());
    }
    soon(async {
        while world.replicas.listeners() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other
}

async fn idle_worker_on(core: &Core, world: &World) -> TestWorker {
    let mut worker = TestWorker::connect(core, &world.key, &[TASK], 1, Vec::new()).await;
    assert!(worker.settle().await.is_empty());
    worker
}

async fn busy_worker_on(core: &Core, world: &World) -> TestWorker {
    let mut worker = TestWorker::connect(core, &world.key, &[TASK], 1, Vec::new()).await;
    let assigned = worker.assigned().await;
    worker.send(continuo_usecases::WorkerMessage::Drain);
    worker.start(&assigned.lease).await;
    worker
}

async fn trigger(world: &World) -> RunId {
    let id = world.core.new_run_id();
    let run = NewRun::of_task(id.clone(), world.key.environment.clone(), TASK, "{}".into());
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

#[tokio::test]
async fn a_run_that_is_triggered_on_one_replica_goes_to_a_worker_on_another() {
    let world = World::new().await;
    let other = two(&world).await;
    let mut worker = idle_worker_on(&other, &world).await;
    let run = trigger(&world).await;
    // No clock runs here: the hint alone brings it.
    assert_eq!(worker.assigned().await.lease.run, run);
}

#[tokio::test]
async fn without_hints_a_worker_gets_its_run_by_the_clock_of_its_replica() {
    let world = World::new().await;
    let other = two(&world).await;
    world.replicas.cut();
    // The work of the clock is another replica's.
    world.replicas.give("clock", Owner::Replica(0));
    let mut worker = idle_worker_on(&other, &world).await;
    let run = trigger(&world).await;
    assert!(worker.settle().await.is_empty(), "it has heard nothing");
    tokio::spawn(other.clone().run_clock());
    assert_eq!(worker.assigned().await.lease.run, run);
}

#[tokio::test]
async fn a_replica_that_missed_hints_looks_at_everything() {
    let world = World::new().await;
    let other = two(&world).await;
    let held = trigger(&world).await;
    let mut busy = busy_worker_on(&other, &world).await;
    let mut idle = idle_worker_on(&other, &world).await;
    world.replicas.cut();
    let missed = trigger(&world).await;
    world.core.cancel_run(&world.key, &held).await.unwrap();
    // Let the other one look into its mailbox, which is empty.
    assert!(busy.settle().await.is_empty() && idle.settle().await.is_empty());
    world.replicas.mend();
    assert_eq!(idle.assigned().await.lease.run, missed);
    assert_eq!(busy.revoked().await.1, RevokeReason::Canceled);
}

#[tokio::test]
async fn a_cancel_on_one_replica_revokes_on_another() {
    let world = World::new().await;
    let other = two(&world).await;
    let run = trigger(&world).await;
    let mut worker = busy_worker_on(&other, &world).await;
    world.core.cancel_run(&world.key, &run).await.unwrap();
    let (lease, reason) = worker.revoked().await;
    assert_eq!((lease.run, reason), (run, RevokeReason::Canceled));
}

#[tokio::test]
async fn a_hand_over_on_one_replica_asks_a_run_on_another_to_stop() {
    let world = World::new().await;
    let other = two(&world).await;
    let created = world.create("a").await;
    let mut worker = busy_worker_on(&other, &world).await;
    let request = EndAndContinue {
        session: named("a"),
        calling_run: created.run.spec.id.clone(),
        reason: RunReason::Manual,
        external_deployment_id: None,
    };
    assert!(world.core.end_and_continue(&world.key, request).await.unwrap().swapped);
    assert!(matches!(worker.news().await, WorkerEvent::Stop(lease, _) if lease.run == created.run.spec.id));
}

#[tokio::test]
async fn a_subscriber_by_name_on_one_replica_meets_the_session_that_another_one_makes() {
    let world = World::new().await;
    let other = two(&world).await;
    for is_cut in [false, true] {
        if is_cut {
            world.replicas.cut();
        }
        let name = format!("cut-{is_cut}");
        let (channel, from) = (output(&named(&name)), ReadFrom::seq_num(0));
        let request = ReadChannel {
            channel,
            from,
            skip_commands: false,
            idle_timeout_ms: 0,
            heartbeat_ms: 0,
            peek_settled: false,
        };
        let ChannelRead { mut events, .. } = other.read_channel(&world.key, request).await.unwrap();
        let first = soon(events.next()).await.unwrap().unwrap();
        assert!(matches!(first, ReadMessage::Heartbeat { .. }), "{first:?}");
        world.create(&name).await;
        world.put_out(&name, NewRecord::data("hello")).await.unwrap();
        let body = soon(async {
            loop {
                if let ReadMessage::Records { records, .. } = events.next().await.unwrap().unwrap()
                    && let Some(record) = records.iter().find(|record| !record.is_command())
                {
                    return record.body.clone();
                }
            }
        });
        assert_eq!(body.await, "hello");
    }
}
