//! Queues: who may count, and that a replica counts what happens on another one.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::run::NewRun;

#[tokio::test]
async fn every_replica_counts_the_same() {
    let world = World::new().await;
    let other = world.replica();
    for _ in 0..2 {
        let run = NewRun::of_task(world.core.new_run_id(), world.key.environment.clone(), TASK, "{}".into());
        world.core.trigger_run(&world.key, run, None).await.unwrap();
    }
    let mut worker = TestWorker::connect(&other, &world.key, &[TASK], 1, Vec::new()).await;
    let lease = worker.assigned().await.lease;
    for core in [&world.core, &other] {
        let found = core.list_queues(&world.key, 100).await.unwrap();
        let [queue] = &found.queues[..] else { panic!("{found:?}") };
        assert_eq!((queue.name.as_str(), queue.pending, queue.dequeued), ("task/chat", 1, 1));
        assert_eq!(queue.oldest_pending_at, Some(continuo_ports::Clock::now(&*world.clock)));
    }
    worker.start(&lease).await;
    let queue = world.core.list_queues(&world.key, 100).await.unwrap().queues.remove(0);
    assert_eq!((queue.pending, queue.dequeued, queue.executing), (1, 0, 1));
    let stranger = world.other_environment().await;
    assert!(world.core.list_queues(&stranger, 100).await.unwrap().queues.is_empty());
}

#[tokio::test]
async fn only_a_key_that_may_read_runs_sees_what_waits() {
    let world = World::new().await;
    let restricted = world.additional_key(&["write:sessions"]).await;
    for caller in [world.token(&["admin"]), world.token(&["read:runs"]), restricted] {
        let refused = world.core.list_queues(&caller, 100).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{caller:?} {refused:?}");
    }
    let reader = world.additional_key(&["read:tasks", "read:runs"]).await;
    assert!(world.core.list_queues(&reader, 100).await.unwrap().queues.is_empty());
}
