//! Boots that crash: they back off, stop with a visible reason, and new input tries again.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::run::RunStatus;
use continuo_domain::session::BOOT_FAILURES_MAX;

/// The next run boots and crashes before it reads anything.
async fn crash(world: &World) {
    let mut run = world.start_run().await;
    run.fail().await;
}

async fn runs(world: &World) -> usize {
    world.runs_of(&world.session(&named("a")).await.id).await.len()
}

/// Past the longest backoff.
async fn later(world: &World) {
    world.clock.advance_ms(60_000);
    world.sweep_boots().await;
}

#[tokio::test]
async fn a_crash_at_boot_delays_the_next_boot_and_a_second_one_delays_it_longer() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    crash(&world).await;
    assert_eq!(runs(&world).await, 1, "not at once");
    world.sweep_boots().await;
    world.clock.advance_ms(499);
    world.sweep_boots().await;
    assert_eq!(runs(&world).await, 1);
    world.clock.advance_ms(1);
    world.sweep_boots().await;
    assert_eq!(runs(&world).await, 2);
    crash(&world).await;
    world.clock.advance_ms(999);
    world.sweep_boots().await;
    assert_eq!(runs(&world).await, 2);
    world.clock.advance_ms(1);
    world.sweep_boots().await;
    assert_eq!(runs(&world).await, 3);
}

#[tokio::test]
async fn a_run_that_crashes_at_boot_again_and_again_stops_booting_with_a_visible_reason() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    for _ in 0..BOOT_FAILURES_MAX {
        crash(&world).await;
        later(&world).await;
    }
    let boots = runs(&world).await;
    let session = world.session(&named("a")).await;
    assert_eq!((session.boot.failures, session.boot.last_error.as_deref()), (BOOT_FAILURES_MAX, Some("boom")));
    assert!(!world.run(&session.current_run.unwrap()).await.is_alive());
    for _ in 0..3 {
        later(&world).await;
    }
    assert_eq!(runs(&world).await, boots);
    world.say("a", "try again").await.unwrap();
    assert_eq!(runs(&world).await, boots + 1);
    crash(&world).await;
    for _ in 0..3 {
        later(&world).await;
    }
    assert_eq!(runs(&world).await - boots, 2, "its input had one more try of its own, and then it stopped again");
}

#[tokio::test]
async fn input_that_comes_within_the_longest_backoff_is_tried_when_it_is_over() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    for n in 0..BOOT_FAILURES_MAX {
        crash(&world).await;
        if n + 1 < BOOT_FAILURES_MAX {
            later(&world).await;
        }
    }
    let boots = runs(&world).await;
    world.say("a", "too early").await.unwrap();
    assert_eq!(runs(&world).await, boots);
    later(&world).await;
    assert_eq!(runs(&world).await, boots + 1);
}

#[tokio::test]
async fn a_run_that_reads_ends_the_series_of_failures() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    crash(&world).await;
    later(&world).await;
    let mut run = world.start_run().await;
    run.read(1).await;
    let boot = world.session(&named("a")).await.boot;
    assert_eq!((boot.failures, boot.last_error, boot.retry_at), (0, None, None));
    run.fail().await;
    assert_eq!(world.session(&named("a")).await.boot.failures, 0, "a crash after reading is no crash at boot");
}

#[tokio::test]
async fn a_run_that_completed_a_turn_and_crashed_did_not_crash_at_boot() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    let mut run = world.start_run().await;
    run.put(&world.core, turn_complete(Some(0))).await.unwrap();
    run.fail().await;
    assert_eq!(world.session(&named("a")).await.boot.failures, 0);
    world.say("a", "again").await.unwrap();
    assert_eq!(runs(&world).await, 2, "no backoff");
}

#[tokio::test]
async fn a_key_that_writes_a_runs_turns_counts_as_well() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    let mut run = world.start_run().await;
    world.put_out("a", turn_complete(Some(0))).await.unwrap();
    run.fail().await;
    assert_eq!(world.session(&named("a")).await.boot.failures, 0);
}

#[tokio::test]
async fn a_superseded_runs_crash_says_nothing_of_the_boots() {
    let world = World::new().await;
    world.create("a").await;
    let mut old = world.start_run().await;
    let request = continuo_usecases::EndAndContinue {
        session: named("a"),
        calling_run: old.id(),
        reason: continuo_domain::run::RunReason::Upgrade,
        external_deployment_id: None,
    };
    world.core.end_and_continue(&old.caller, request).await.unwrap();
    old.fail().await;
    assert_eq!(world.status(&old.id()).await, RunStatus::CompletedWithErrors);
    assert_eq!(world.session(&named("a")).await.boot.failures, 0);
}

#[tokio::test]
async fn a_create_within_the_backoff_says_when_to_come_back() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "hello").await.unwrap();
    crash(&world).await;
    let refused = world.core.create_session(&world.key, new_session(Some("a"))).await;
    assert!(matches!(refused, Err(Error::BootBackoff { retry_after_ms: 500 })), "{refused:?}");
    world.clock.advance_ms(500);
    world.create("a").await;
}
