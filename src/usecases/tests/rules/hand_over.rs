//! End-and-continue: one run installs its successor.

use crate::support::*;
use continuo_domain::run::{RunReason, RunStatus, STOP_GRACE_MS};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, RunId};
use continuo_usecases::{EndAndContinue, RevokeReason, WorkerEvent};
use std::sync::Arc;

fn request(session: &SessionRef, calling_run: &RunId) -> EndAndContinue {
    EndAndContinue {
        session: session.clone(),
        calling_run: calling_run.clone(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    }
}

#[tokio::test]
async fn an_executing_run_is_asked_to_stop_and_canceled_after_the_grace() {
    let world = World::new().await;
    world.create("a").await;
    let mut old = world.start_run().await;
    let swapped = world.core.end_and_continue(&old.caller, request(&named("a"), &old.id())).await.unwrap();
    assert!(swapped.swapped);
    let WorkerEvent::Stop(lease, within_ms) = old.worker.news().await else { panic!("no stop") };
    assert_eq!((lease, within_ms), (old.lease(), STOP_GRACE_MS));
    world.clock.advance_ms(STOP_GRACE_MS as i64 - 1);
    heartbeat(&mut old).await;
    world.tick().await;
    assert_eq!(world.status(&old.id()).await, RunStatus::Executing);
    world.clock.advance_ms(1);
    world.tick().await;
    assert_eq!(world.status(&old.id()).await, RunStatus::Canceled);
    let (lease, reason) = old.worker.revoked().await;
    assert_eq!((lease, reason), (old.lease(), RevokeReason::Canceled));
    let session = world.session(&named("a")).await;
    assert_eq!((session.current_run, session.current_run_version), (Some(swapped.run.clone()), 2));
    assert_eq!(world.status(&swapped.run).await, RunStatus::Pending, "the successor goes on");
}

/// The worker keeps its lease.
async fn heartbeat(run: &mut RunningRun) {
    let lease = run.lease();
    run.worker.send(continuo_usecases::WorkerMessage::Heartbeat(vec![lease]));
    run.worker.settle().await;
}

#[tokio::test]
async fn a_run_that_ends_within_the_grace_ended_well() {
    let world = World::new().await;
    world.create("a").await;
    let mut old = world.start_run().await;
    world.core.end_and_continue(&old.caller, request(&named("a"), &old.id())).await.unwrap();
    old.complete().await;
    world.clock.advance_ms(STOP_GRACE_MS as i64);
    world.tick().await;
    assert_eq!(world.status(&old.id()).await, RunStatus::CompletedSuccessfully);
}

#[tokio::test]
async fn a_run_that_does_not_execute_is_canceled_at_once() {
    let world = World::new().await;
    let created = world.create("a").await;
    let swapped = world.core.end_and_continue(&world.key, request(&named("a"), &created.run.spec.id)).await.unwrap();
    assert!(swapped.swapped);
    assert_eq!(world.status(&created.run.spec.id).await, RunStatus::Canceled);
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
}

#[tokio::test]
async fn a_swap_that_is_lost_to_another_reports_the_true_winner_and_makes_no_run() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let calling = created.run.spec.id.clone();
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let late = tokio::spawn({
        let (world, calling) = (world.clone(), calling.clone());
        async move { world.core.end_and_continue(&world.key, request(&named("a"), &calling)).await.unwrap() }
    });
    gate.reached().await;
    let first = world.core.end_and_continue(&world.key, request(&named("a"), &calling)).await.unwrap();
    gate.release();
    let late = soon(late).await.unwrap();
    assert!(first.swapped && !late.swapped);
    assert_eq!(late.run, first.run);
    assert_ne!(late.run, calling, "never the caller");
    assert_eq!(world.runs_of(&created.session.id).await.len(), 2);
}

#[tokio::test]
async fn a_caller_that_is_not_the_current_run_is_told_who_is() {
    let world = World::new().await;
    let first = world.create("a").await.run.spec.id;
    world.cancel_quietly(&first).await;
    let current = world.create("a").await.run.spec.id;
    let answer = world.core.end_and_continue(&world.key, request(&named("a"), &first)).await.unwrap();
    assert_eq!((answer.run, answer.swapped), (current.clone(), false));
    assert!(world.run(&current).await.is_alive());
    assert_eq!(world.session(&named("a")).await.current_run_version, 2);
}

#[tokio::test]
async fn a_swap_that_meets_a_close_says_closed_and_makes_no_run() {
    let world = Arc::new(World::new().await);
    let created = world.create("a").await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let swap = tokio::spawn({
        let (world, calling) = (world.clone(), created.run.spec.id.clone());
        async move { world.core.end_and_continue(&world.key, request(&named("a"), &calling)).await }
    });
    gate.reached().await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    gate.release();
    let refused = soon(swap).await.unwrap();
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
    assert!(world.run(&created.run.spec.id).await.is_alive(), "the caller goes on");
}

#[tokio::test]
async fn an_unknown_calling_run_is_not_found() {
    let world = World::new().await;
    world.create("a").await;
    let answer = world.core.end_and_continue(&world.key, request(&named("a"), &RunId::from_body("none"))).await;
    assert!(matches!(answer, Err(Error::RunNotFound)), "{answer:?}");
}

#[tokio::test]
async fn the_successor_is_a_continuation_with_the_callers_reason() {
    let world = World::new().await;
    let created = world.create("a").await;
    let calling = created.run.spec.id;
    let swapped = world.core.end_and_continue(&world.key, request(&named("a"), &calling)).await.unwrap();
    let payload: serde_json::Value = serde_json::from_str(&world.run(&swapped.run).await.spec.payload).unwrap();
    assert_eq!((&payload["continuation"], &payload["previousRunId"]), (&true.into(), &calling.as_str().into()));
    for gone in ["message", "messages", "trigger"] {
        assert_eq!(payload.get(gone), None, "{gone}");
    }
    let audit = world.core.session_runs(&world.key, &named("a")).await.unwrap();
    assert_eq!(audit.last().unwrap().0.reason, RunReason::Upgrade);
}

#[tokio::test]
async fn only_an_upgrade_moves_the_pin_and_a_version_lock_stays() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.trigger_config.external_deployment_id = Some("d1".into());
    new.trigger_config.lock_to_version = Some("v1".into());
    world.core.create_session(&world.key, new).await.unwrap();
    for (reason, given, pinned) in [
        (RunReason::Manual, Some("d2"), Some("d1")),
        (RunReason::Upgrade, Some("d2"), Some("d2")),
        (RunReason::Upgrade, None, None),
    ] {
        let calling_run = world.session(&named("a")).await.current_run.unwrap();
        let external_deployment_id = given.map(Into::into);
        let request = EndAndContinue { session: named("a"), calling_run, reason, external_deployment_id };
        assert!(world.core.end_and_continue(&world.key, request).await.unwrap().swapped);
        let config = world.session(&named("a")).await.trigger_config;
        assert_eq!(config.external_deployment_id.as_deref(), pinned);
        assert_eq!(config.lock_to_version.as_deref(), Some("v1"));
    }
}
