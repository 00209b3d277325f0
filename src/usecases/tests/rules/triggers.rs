//! Triggers: tokens that count once, parents that wait, children that go with their parent, links that outlive nobody.

use crate::support::*;
use continuo_domain::error::{Cause, CredentialProblem};
use continuo_domain::principal::Principal;
use continuo_domain::run::{NewRun, Run, RunStatus};
use continuo_domain::waitpoint::{Completion, WaitpointKind};
use continuo_domain::{Error, Result, RunId};
use continuo_ports::Clock;
use continuo_ports::run_store::{PageFrom, RunFilter, Triggered};
use continuo_usecases::{NewManualWaitpoint, NewToken, RevokeReason, TriggeredBy, WorkerMessage};
use std::sync::Arc;

fn new_run(world: &World) -> NewRun {
    NewRun::of_task(world.core.new_run_id(), world.key.environment.clone(), TASK, "{}".into())
}

async fn trigger(world: &World, caller: &Principal, by: Option<TriggeredBy>) -> Result<Triggered> {
    world.core.trigger_run(caller, new_run(world), by).await.map(|(triggered, _)| triggered)
}

async fn count(world: &World) -> usize {
    let filter = RunFilter::default();
    world.core.list_runs(&world.key, filter, None, &PageFrom::Start, 100).await.unwrap().rows.len()
}

/// The bearer of a token for one trigger of the task.
async fn one_time_bearer(world: &World, scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|s| continuo_domain::principal::Scope::parse(s).unwrap()).collect();
    let expires_at = Some(world.clock.now().plus_ms(60_000));
    let new = NewToken { scopes, expires_at, one_time_use: true, realtime: None, session: None };
    world.core.create_public_token(&world.key, new).await.unwrap()
}

fn is_spent(outcome: &Result<Triggered>) -> bool {
    matches!(outcome, Err(Error::Unauthenticated(CredentialProblem::InvalidToken)))
}

#[tokio::test]
async fn of_two_triggers_with_one_token_that_meet_one_is_taken() {
    let world = Arc::new(World::new().await);
    let bearer = one_time_bearer(&world, &["trigger:tasks:chat"]).await;
    let caller = world.core.authenticate(&bearer).await.unwrap();
    // Both have been let in before either of them reaches the store.
    let mut gate = world.gates.pause_before("trigger", &[]);
    let first = tokio::spawn({
        let (world, caller) = (world.clone(), caller.clone());
        async move { trigger(&world, &caller, None).await }
    });
    gate.reached().await;
    let second = trigger(&world, &caller, None).await;
    gate.release();
    let first = soon(first).await.unwrap();
    assert!(second.is_ok() && is_spent(&first), "{first:?}");
    assert_eq!(count(&world).await, 1);
    let replica = world.replica();
    let caller = replica.authenticate(&bearer).await.unwrap();
    let elsewhere = replica.trigger_run(&caller, new_run(&world), None).await.map(|(triggered, _)| triggered);
    assert!(is_spent(&elsewhere), "on every replica, and after a restart: {elsewhere:?}");
}

#[tokio::test]
async fn only_a_trigger_that_happens_spends_the_token() {
    let world = World::new().await;
    let bearer = one_time_bearer(&world, &["trigger:tasks:chat", "read:runs"]).await;
    let caller = world.core.authenticate(&bearer).await.unwrap();
    let other = world.core.new_run_id();
    assert!(matches!(world.core.get_run(&caller, &other).await, Err(Error::RunNotFound)), "a look spends nothing");
    let elsewhere = NewRun { task_identifier: "other".into(), ..new_run(&world) };
    let denied = world.core.trigger_run(&caller, elsewhere, None).await.map(drop);
    assert!(matches!(denied, Err(Error::PermissionDenied)), "{denied:?}");
    world.gates.fail_before("trigger", &[], Error::Unavailable(Cause::new("down")));
    assert!(matches!(trigger(&world, &caller, None).await, Err(Error::Unavailable(_))));
    trigger(&world, &caller, None).await.unwrap();
    assert!(is_spent(&trigger(&world, &caller, None).await));
}

#[tokio::test]
async fn two_tokens_of_one_moment_are_two() {
    let world = World::new().await;
    for _ in 0..2 {
        let bearer = one_time_bearer(&world, &["trigger:tasks:chat"]).await;
        let caller = world.core.authenticate(&bearer).await.unwrap();
        trigger(&world, &caller, None).await.unwrap();
    }
}

fn by(parent: &RunId, waits: bool, lease: Option<u64>) -> Option<TriggeredBy> {
    Some(TriggeredBy { run: parent.clone(), waits, lease })
}

#[tokio::test]
async fn a_parent_waits_without_a_place_and_goes_on_with_what_its_child_returned() {
    let world = World::new().await;
    let parent = trigger(&world, &world.key, None).await.unwrap().row.spec.id;
    let mut worker = world.worker(1).await;
    let began = worker.assigned().await;
    worker.start(&began.lease).await;
    let lease = Some(began.lease.number);
    let triggered = trigger(&world, &world.key, by(&parent, true, lease)).await.unwrap();
    let (waitpoint, _) = triggered.wait.unwrap();
    assert_eq!((waitpoint.kind, waitpoint.awaited_run), (WaitpointKind::Run, Some(triggered.row.spec.id.clone())));
    assert_eq!(world.status(&parent).await, RunStatus::WaitingToResume);
    worker.send(WorkerMessage::Suspended(began.lease.clone()));
    let child = worker.assigned().await;
    assert_eq!(child.lease.run, triggered.row.spec.id, "the one place is the child's now");
    worker.start(&child.lease).await;
    let output = Some("42".to_owned());
    worker.send(WorkerMessage::Completed { lease: child.lease, output, output_type: None });
    let resumed = worker.assigned().await;
    assert_eq!(resumed.lease.run, parent);
    assert_eq!(resumed.assignment.resumed_by.unwrap().completion, Some(Completion::json("42")));
}

#[tokio::test]
async fn a_parent_acts_on_its_own_lease_only() {
    let world = World::new().await;
    let parent = trigger(&world, &world.key, None).await.unwrap().row.spec.id;
    let queued = trigger(&world, &world.key, by(&parent, true, None)).await.map(drop);
    assert!(matches!(queued, Err(Error::RunNotReady { .. })), "it does not execute: {queued:?}");
    let mut worker = world.worker(1).await;
    let began = worker.assigned().await;
    worker.start(&began.lease).await;
    let stale = trigger(&world, &world.key, by(&parent, true, Some(began.lease.number + 9))).await.map(drop);
    assert!(matches!(stale, Err(Error::StaleSnapshot { .. })), "{stale:?}");
    assert_eq!(count(&world).await, 1, "an error makes no run");
    let unknown = trigger(&world, &world.key, by(&RunId::from_body("none"), false, None)).await.map(drop);
    assert!(matches!(unknown, Err(Error::InvalidArgument(_))), "{unknown:?}");
    let token = world.token(&["trigger:tasks"]);
    let by_token = trigger(&world, &token, by(&parent, false, None)).await.map(drop);
    assert!(matches!(by_token, Err(Error::PermissionDenied)), "a token acts for no run: {by_token:?}");
}

#[tokio::test]
async fn a_canceled_parent_takes_its_executing_children_with_it() {
    let world = World::new().await;
    let parent = trigger(&world, &world.key, None).await.unwrap().row.spec.id;
    let child = trigger(&world, &world.key, by(&parent, false, None)).await.unwrap().row.spec.id;
    let mut worker = world.worker(2).await;
    let (one, two) = (worker.assigned().await, worker.assigned().await);
    worker.start(&one.lease).await;
    worker.start(&two.lease).await;
    world.core.cancel_run(&world.key, &parent).await.unwrap();
    assert_eq!(world.status(&child).await, RunStatus::Canceled);
    let mut revoked = [worker.revoked().await, worker.revoked().await].map(|(lease, reason)| (lease.run, reason));
    revoked.sort_by_key(|(run, _)| *run != parent);
    assert_eq!(revoked, [(parent.clone(), RevokeReason::Canceled), (child, RevokeReason::Canceled)]);
    let late = trigger(&world, &world.key, by(&parent, false, None)).await.map(drop);
    assert!(matches!(late, Err(Error::RunNotReady { .. })), "{late:?}");
}

#[tokio::test]
async fn a_run_that_ends_well_leaves_its_children_alone() {
    let world = World::new().await;
    let parent = trigger(&world, &world.key, None).await.unwrap().row.spec.id;
    let mut worker = world.worker(1).await;
    let began = worker.assigned().await;
    worker.start(&began.lease).await;
    let child = trigger(&world, &world.key, by(&parent, false, None)).await.unwrap().row.spec.id;
    worker.send(WorkerMessage::Completed { lease: began.lease, output: None, output_type: None });
    assert_eq!(worker.assigned().await.lease.run, child);
}

#[tokio::test]
async fn a_family_is_for_who_may_read_all_runs() {
    let world = World::new().await;
    let parent = trigger(&world, &world.key, None).await.unwrap().row.spec.id;
    let child = trigger(&world, &world.key, by(&parent, false, None)).await.unwrap().row.spec.id;
    let family = world.core.get_family(&world.key, &child).await.unwrap();
    let id = |run: Option<Run>| run.map(|run| run.spec.id);
    assert_eq!((id(family.parent), id(family.root)), (Some(parent.clone()), Some(parent.clone())));
    let children = world.core.get_family(&world.key, &parent).await.unwrap().children;
    assert_eq!(children.iter().map(|run| &run.spec.id).collect::<Vec<_>>(), [&child]);
    let alone = world.core.get_family(&world.token(&[&format!("read:runs:{child}")]), &child).await.unwrap();
    assert_eq!((alone.run.spec.id, alone.parent, alone.children.len()), (child, None, 0));
}

#[tokio::test]
async fn the_token_of_a_waitpoints_url_completes_it_and_nothing_else() {
    let world = World::new().await;
    let create = async || world.core.create_waitpoint(&world.key, NewManualWaitpoint::default()).await.unwrap().0.row;
    let (mine, other) = (create().await, create().await);
    let token = world.core.callback_token(&mine).unwrap();
    assert_eq!(world.core.callback_token(&mine).unwrap(), token, "the URL stays as it is");
    let caller = world.core.authenticate(&token).await.unwrap();
    let refused = world.core.complete_waitpoint(&caller, &other.id, Completion::empty()).await.map(drop);
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    assert!(matches!(world.core.get_waitpoint(&caller, &mine.id).await, Err(Error::PermissionDenied)));
    assert!(matches!(trigger(&world, &caller, None).await, Err(Error::PermissionDenied)));
    let done = world.core.complete_waitpoint(&caller, &mine.id, Completion::json("1")).await.unwrap();
    assert_eq!(done.completion, Some(Completion::json("1")));
    let again = world.core.complete_waitpoint(&caller, &mine.id, Completion::json("2")).await.unwrap();
    assert_eq!(again.completion, Some(Completion::json("1")), "once");
}

#[tokio::test]
async fn a_delayed_run_gets_another_start() {
    let world = World::new().await;
    let now = world.clock.now();
    let run = NewRun { delay_until: Some(now.plus_ms(60_000)), ..new_run(&world) };
    let id = world.core.trigger_run(&world.key, run, None).await.unwrap().0.row.spec.id;
    world.core.reschedule_run(&world.key, &id, now.plus_ms(5_000)).await.unwrap();
    world.clock.advance_ms(5_000);
    world.tick().await;
    assert_eq!(world.status(&id).await, RunStatus::Pending);
    let late = world.core.reschedule_run(&world.key, &id, now.plus_ms(9_000)).await.map(drop);
    assert!(matches!(late, Err(Error::RunNotReady { .. })), "{late:?}");
}
