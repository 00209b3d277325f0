//! Connected workers: who is listed, from when on, and until when.

use crate::support::*;
use continuo_domain::error::Cause;
use continuo_domain::run::NewRun;
use continuo_domain::{Error, RunId, Timestamp};
use continuo_ports::worker_store::{ConnectedWorker, ListedWorker};
use continuo_ports::{Clock, WorkerStore};
use continuo_usecases::{Core, Settings, WorkerHello, WorkerMessage};

fn hello(worker_id: &str) -> WorkerHello {
    WorkerHello {
        worker_id: worker_id.into(),
        version: "v1".into(),
        task_identifiers: vec![TASK.into()],
        capacity: 2,
        held_leases: Vec::new(),
    }
}

async fn connect(world: &World, core: &Core, worker_id: &str) -> TestWorker {
    TestWorker::say_hello(core, &world.key, hello(worker_id)).await
}

async fn listed(world: &World, core: &Core) -> Vec<ListedWorker> {
    core.list_workers(&world.key, None, 100).await.unwrap().workers
}

async fn ids(world: &World, core: &Core) -> Vec<String> {
    listed(world, core).await.into_iter().map(|listed| listed.worker.id).collect()
}

/// The one that is there.
async fn only(world: &World) -> ListedWorker {
    let mut workers = listed(world, &world.core).await;
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.remove(0)
}

/// Waits for what is done beside a link.
async fn until<F: Future<Output = bool>>(happened: impl Fn() -> F) {
    soon(async {
        while !happened().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn down() -> Error {
    Error::Unavailable(Cause::new("down"))
}

/// Heartbeats are noted as they come, but never twice in a millisecond.
fn attentive() -> Settings {
    Settings { heartbeat_ms: 1, ..Settings::default() }
}

/// No heartbeat is noted within the time of a test.
fn patient() -> Settings {
    Settings { heartbeat_ms: 600_000, lease_ms: 1_800_000, ..Settings::default() }
}

#[tokio::test]
async fn a_worker_of_any_replica_is_listed_by_every_replica_as_long_as_it_is_connected() {
    let world = World::new().await;
    let other = world.replica();
    let first = connect(&world, &world.core, "first").await;
    world.clock.advance_ms(1);
    let second = connect(&world, &other, "second").await;
    for core in [&world.core, &other] {
        assert_eq!(ids(&world, core).await, ["second", "first"]);
    }
    let ListedWorker { worker, held_leases } = listed(&world, &other).await.pop().unwrap();
    assert_eq!((worker.version.as_str(), worker.capacity, held_leases), ("v1", 2, 0));
    assert_eq!((worker.task_identifiers, worker.is_draining), (vec![TASK.to_owned()], false));
    assert_eq!((worker.connected_at, worker.seen_at), (Timestamp(world.clock.now().0 - 1), worker.connected_at));
    let stranger = world.other_environment().await;
    assert!(world.core.list_workers(&stranger, None, 100).await.unwrap().workers.is_empty());

    second.lose().await.unwrap();
    for core in [&world.core, &other] {
        assert_eq!(ids(&world, core).await, ["first"]);
    }
    world.stopping.cancel();
    assert!(matches!(first.ended().await, Err(Error::Stopping)));
    assert!(listed(&world, &other).await.is_empty(), "nobody is connected to a replica that stops");
}

#[tokio::test]
async fn a_worker_that_comes_back_through_another_replica_is_one_worker() {
    let world = World::new().await;
    let old = connect(&world, &world.core, "w").await;
    let before = only(&world).await.worker;
    world.clock.advance_ms(5);
    let new = connect(&world, &world.replica(), "w").await;
    let after = only(&world).await.worker;
    assert_eq!(after.connected_at.0 - before.connected_at.0, 5);
    old.lose().await.unwrap();
    assert_eq!(only(&world).await.worker, after, "the end of the old link is not its end");
    new.lose().await.unwrap();
    assert!(listed(&world, &world.core).await.is_empty());
}

#[tokio::test]
async fn a_worker_whose_replica_was_killed_is_not_listed_for_ever() {
    let world = World::new().await;
    connect(&world, &world.replica(), "w").await.freeze();
    let Settings { lease_ms, heartbeat_ms, .. } = Settings::default();
    world.clock.advance_ms(i64::from(lease_ms + heartbeat_ms));
    assert_eq!(ids(&world, &world.core).await, ["w"]);
    assert_eq!(world.core.sweep_workers().await.unwrap(), 0);
    world.clock.advance_ms(1);
    assert!(ids(&world, &world.core).await.is_empty());
    assert_eq!(world.core.sweep_workers().await.unwrap(), 1);
    assert_eq!(world.core.sweep_workers().await.unwrap(), 0);
}

#[tokio::test]
async fn the_sweeper_forgets_who_is_lost() {
    let world = World::new().await;
    connect(&world, &world.replica(), "w").await.freeze();
    world.clock.advance_ms(3_600_000);
    tokio::spawn(world.core.clone().run_sweeper());
    until(|| async { world.gates.calls("forget_workers") > 0 }).await;
    until(|| async {
        let page = world.store.list_workers(&world.key.environment, Timestamp(0), None, 9).await.unwrap();
        page.workers.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_is_noted() {
    let world = World::with(attentive()).await;
    let worker = connect(&world, &world.core, "w").await;
    world.clock.advance_ms(5_000);
    worker.send(WorkerMessage::Heartbeat(Vec::new()));
    let now = world.clock.now();
    until(|| async { only(&world).await.worker.seen_at == now }).await;
    assert_eq!(only(&world).await.worker.connected_at.0, now.0 - 5_000);
}

#[tokio::test]
async fn heartbeats_that_come_often_are_not_all_noted_and_a_drain_is_at_once() {
    let world = World::with(patient()).await;
    let mut worker = connect(&world, &world.core, "w").await;
    for _ in 0..50 {
        worker.settle().await;
    }
    assert_eq!(world.gates.calls("note_worker"), 0);
    worker.send(WorkerMessage::Drain);
    until(|| async { only(&world).await.worker.is_draining }).await;
    worker.settle().await;
    assert_eq!(world.gates.calls("note_worker"), 1);
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_noted_ends_no_link_and_the_next_one_is() {
    let world = World::with(attentive()).await;
    for _ in 0..3 {
        world.gates.fail_before("note_worker", &[], down());
    }
    let mut worker = connect(&world, &world.core, "w").await;
    world.clock.advance_ms(1_000);
    let now = world.clock.now();
    soon(async {
        while only(&world).await.worker.seen_at != now {
            worker.settle().await;
        }
    })
    .await;
    assert!(world.gates.calls("note_worker") > 3);
}

#[tokio::test]
async fn leases_are_renewed_while_a_heartbeat_waits_to_be_noted() {
    let world = World::with(attentive()).await;
    trigger(&world).await;
    let mut worker = connect(&world, &world.core, "w").await;
    let lease = worker.assigned().await.lease;
    let mut gate = world.gates.pause_before("note_worker", &[]);
    worker.start(&lease).await;
    gate.reached().await;
    for _ in 0..3 {
        worker.send(WorkerMessage::Heartbeat(vec![lease.clone()]));
        assert_eq!(worker.renewed().await[0].0, lease);
    }
    gate.release();
}

#[tokio::test]
async fn a_heartbeat_that_is_being_noted_while_its_link_ends_leaves_nobody_behind() {
    for is_before in [true, false] {
        let world = World::with(attentive()).await;
        trigger(&world).await;
        let mut worker = connect(&world, &world.core, "w").await;
        let lease = worker.assigned().await.lease;
        // The row is not there, so that the note makes it.
        world.store.forget_workers(Timestamp(i64::MAX)).await.unwrap();
        let call = "note_worker";
        let mut note = if is_before { world.gates.pause_before(call, &[]) } else { world.gates.pause_after(call, &[]) };
        worker.start(&lease).await;
        note.reached().await;
        let mut end = world.gates.pause_after("apply", &["LoseLease"]);
        let link = tokio::spawn(worker.lose());
        end.reached().await;
        end.release();
        note.release();
        soon(link).await.unwrap().unwrap();
        assert!(listed(&world, &world.core).await.is_empty());
    }
}

#[tokio::test]
async fn a_link_whose_end_cannot_be_noted_is_listed_until_it_is_lost() {
    let world = World::new().await;
    world.gates.fail_before("disconnect_worker", &[], down());
    connect(&world, &world.core, "w").await.lose().await.unwrap();
    assert_eq!(ids(&world, &world.core).await, ["w"]);
    world.clock.advance_ms(60_000);
    assert!(ids(&world, &world.core).await.is_empty());
}

async fn trigger(world: &World) -> RunId {
    let id = world.core.new_run_id();
    let run = NewRun::of_task(id.clone(), world.key.environment.clone(), TASK, "{}".into());
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

#[tokio::test]
async fn the_leases_a_worker_holds_are_counted_as_they_are() {
    let world = World::new().await;
    for _ in 0..3 {
        trigger(&world).await;
    }
    let mut worker = connect(&world, &world.core, "w").await;
    let (one, two) = (worker.assigned().await.lease, worker.assigned().await.lease);
    assert_eq!(only(&world).await.held_leases, 2, "as many as it has room for");
    worker.start(&one).await;
    worker.start(&two).await;
    worker.send(WorkerMessage::Drain);
    worker.complete(&one).await;
    assert_eq!(only(&world).await.held_leases, 1);
    // Through another replica, while the old link is still there.
    let again = WorkerHello { held_leases: vec![two.clone()], ..hello("w") };
    world.clock.advance_ms(1);
    let other = world.replica();
    let mut again = TestWorker::say_hello(&other, &world.key, again).await;
    assert_eq!(again.renewed().await[0].0, two);
    assert_eq!(again.assigned().await.lease.run.as_str().len(), two.run.as_str().len());
    assert_eq!(only(&world).await.held_leases, 2);
}

#[tokio::test]
async fn only_a_key_that_may_read_tasks_sees_who_works() {
    let world = World::new().await;
    let _worker = connect(&world, &world.core, "w").await;
    let restricted = world.additional_key(&["write:sessions"]).await;
    for caller in [world.token(&["admin"]), world.token(&["read:tasks"]), restricted] {
        let refused = world.core.list_workers(&caller, None, 100).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{caller:?} {refused:?}");
    }
    let reader = world.additional_key(&["read:tasks", "read:runs"]).await;
    assert_eq!(world.core.list_workers(&reader, None, 100).await.unwrap().workers.len(), 1);
}

/// Workers who know these tasks, each a millisecond newer than the one before.
async fn note_many(world: &World, count: u64, tasks: &[String]) {
    for n in 0..count {
        let worker = ConnectedWorker {
            environment: world.key.environment.clone(),
            id: format!("w{n}"),
            link: "link".into(),
            version: "v1".into(),
            task_identifiers: tasks.to_vec(),
            capacity: 1,
            is_draining: false,
            connected_at: world.clock.now().plus_ms(n),
            seen_at: world.clock.now(),
        };
        world.store.note_worker(&worker, Timestamp(0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_page_has_as_many_as_were_asked_for() {
    let world = World::new().await;
    note_many(&world, 251, &[TASK.into()]).await;
    for (size, found, has_older) in [(250, 250, true), (251, 251, false), (1_000, 251, false)] {
        let page = world.core.list_workers(&world.key, None, size).await.unwrap();
        let ids: Vec<_> = page.workers.iter().map(|listed| listed.worker.id.clone()).collect();
        let newest: Vec<_> = (0..251).rev().take(found).map(|n| format!("w{n}")).collect();
        assert_eq!((ids, page.has_older), (newest, has_older));
    }
}

#[tokio::test]
async fn a_page_is_no_longer_than_a_client_takes() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..1_000).map(|n| format!("{n:0>128}")).collect();
    note_many(&world, 20, &tasks).await;
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = world.core.list_workers(&world.key, after.as_ref(), 1_000).await.unwrap();
        pages.push(page.workers.len());
        let Some(last) = page.workers.last().filter(|_| page.has_older) else { break };
        after = Some(last.worker.position());
    }
    assert_eq!(pages, [16, 4], "of 128 kB and a bit each");
}
