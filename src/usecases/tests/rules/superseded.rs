//! Who owns `.out`: the newest run. What the others may still say.

use crate::support::*;
use continuo_domain::channel::{Direction, NewRecord};
use continuo_domain::error::Cause;
use continuo_domain::run::{RunReason, RunStatus};
use continuo_domain::{Error, Result};
use continuo_usecases::{Continued, EndAndContinue};

async fn hand_over(world: &World, run: &RunningRun) -> Continued {
    let request = EndAndContinue {
        session: run.session(),
        calling_run: run.id(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    };
    world.core.end_and_continue(&run.caller, request).await.unwrap()
}

fn is_fenced<T: std::fmt::Debug>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Fenced { .. }))
}

#[tokio::test]
async fn a_superseded_runs_data_and_trim_are_fenced_from_the_moment_of_the_swap() {
    let world = World::new().await;
    let created = world.create("a").await;
    let old = world.start_run().await;
    old.chunk(&world.core, "one").await.unwrap();
    hand_over(&world, &old).await;
    let before = world.records(&created.session.id, Direction::Out).await;
    assert!(is_fenced(&old.chunk(&world.core, "late").await));
    assert!(is_fenced(&old.put(&world.core, NewRecord::trim(1)).await));
    assert!(is_fenced(&world.core.trim(&old.caller, output(&named("a")), 1).await));
    assert!(is_fenced(&old.control(&world.core, "something-else").await));
    assert_eq!(world.records(&created.session.id, Direction::Out).await, before);
}

#[tokio::test]
async fn its_farewells_pass_until_the_successors_first_record_and_not_after() {
    let world = World::new().await;
    world.create("a").await;
    let old = world.start_run().await;
    old.chunk(&world.core, "one").await.unwrap();
    hand_over(&world, &old).await;
    for farewell in ["upgrade-required", "pending-version"] {
        old.control(&world.core, farewell).await.unwrap();
    }
    let new = world.start_run().await;
    for farewell in ["turn-complete", "session-closed"] {
        old.control(&world.core, farewell).await.unwrap();
    }
    new.chunk(&world.core, "mine").await.unwrap();
    for farewell in ["upgrade-required", "pending-version", "turn-complete", "session-closed"] {
        assert!(is_fenced(&old.control(&world.core, farewell).await), "{farewell}");
    }
}

#[tokio::test]
async fn a_farewell_that_races_the_successors_first_record_loses() {
    let world = std::sync::Arc::new(World::new().await);
    let created = world.create("a").await;
    let old = world.start_run().await;
    hand_over(&world, &old).await;
    let new = world.start_run().await;
    let mut gate = world.gates.pause_before("append", &["turn-complete", "match_seq_num: Some"]);
    let (farewell, ()) = tokio::join!(old.control(&world.core, "turn-complete"), async {
        gate.reached().await;
        new.chunk(&world.core, "mine").await.unwrap();
        gate.release();
    });
    assert!(is_fenced(&farewell), "{farewell:?}");
    assert_eq!(bodies(&world.records(&created.session.id, Direction::Out).await), ["mine"]);
}

#[tokio::test]
async fn a_successors_control_record_ends_the_farewells_as_well() {
    let world = World::new().await;
    world.create("a").await;
    let old = world.start_run().await;
    hand_over(&world, &old).await;
    let new = world.start_run().await;
    new.control(&world.core, "turn-complete").await.unwrap();
    assert!(is_fenced(&old.control(&world.core, "turn-complete").await));
}

#[tokio::test]
async fn a_successor_that_wrote_more_than_one_batch_holds_ends_the_farewells_too() {
    let world = World::new().await;
    world.create("a").await;
    let old = world.start_run().await;
    hand_over(&world, &old).await;
    old.control(&world.core, "upgrade-required").await.unwrap();
    let new = world.start_run().await;
    let big = "x".repeat(900_000);
    for farewell in ["pending-version", "turn-complete"] {
        new.control(&world.core, farewell).await.unwrap();
        new.chunk(&world.core, &big).await.unwrap();
    }
    assert!(is_fenced(&old.control(&world.core, "turn-complete").await));
}

#[tokio::test]
async fn a_farewell_among_data_does_not_carry_the_data_through() {
    let world = World::new().await;
    let created = world.create("a").await;
    let old = world.start_run().await;
    hand_over(&world, &old).await;
    let mut request = append(output(&named("a")), control("turn-complete"));
    request.append.records.push(NewRecord::data("late"));
    assert!(is_fenced(&world.core.append(&old.caller, request).await));
    assert!(bodies(&world.records(&created.session.id, Direction::Out).await).is_empty());
}

#[tokio::test]
async fn the_token_of_a_canceled_run_is_fenced_from_the_moment_cancel_returned() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    let canceled = world.core.cancel_run(&world.key, &run.id()).await.unwrap();
    assert_eq!(canceled.status, RunStatus::Canceled);
    let before = world.records(&created.session.id, Direction::Out).await;
    assert!(is_fenced(&run.chunk(&world.core, "late").await));
    assert!(is_fenced(&run.put(&world.core, NewRecord::trim(0)).await));
    for farewell in ["upgrade-required", "pending-version", "turn-complete", "session-closed"] {
        assert!(is_fenced(&run.control(&world.core, farewell).await), "{farewell}");
    }
    assert_eq!(world.records(&created.session.id, Direction::Out).await, before);
    for direction in [Direction::In, Direction::Out] {
        let late = append(channel(&run.session(), "tools", direction), NewRecord::data("late"));
        assert!(is_fenced(&world.core.append(&run.caller, late).await), "{direction:?} of a named channel");
    }
    let late = append(input(&run.session()), NewRecord::data("late"));
    assert!(is_fenced(&world.core.append(&run.caller, late).await));
}

#[tokio::test]
async fn a_canceled_run_stays_fenced_when_its_successor_has_not_written_yet() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    world.core.cancel_run(&world.key, &run.id()).await.unwrap();
    world.say("a", "again").await.unwrap();
    assert_eq!(world.session(&named("a")).await.current_run_version, 2);
    assert!(is_fenced(&run.control(&world.core, "turn-complete").await));
}

#[tokio::test]
async fn a_write_that_was_on_its_way_when_the_run_was_canceled_is_refused_by_the_log() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    let mut gate = world.gates.pause_before("append", &["late"]);
    let (write, ()) = tokio::join!(run.chunk(&world.core, "late"), async {
        gate.reached().await;
        world.core.cancel_run(&world.key, &run.id()).await.unwrap();
        gate.release();
    });
    assert!(is_fenced(&write), "{write:?}");
    assert!(bodies(&world.records(&created.session.id, Direction::Out).await).is_empty());
}

#[tokio::test]
async fn a_cancel_whose_fence_fails_does_not_say_done_and_a_repeat_raises_it() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    world.gates.fail_before("append", &["direction: Out", "fence"], Error::Unavailable(Cause::new("down")));
    let failed = world.core.cancel_run(&world.key, &run.id()).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    world.core.cancel_run(&world.key, &run.id()).await.unwrap();
    assert!(is_fenced(&run.chunk(&world.core, "late").await));
}

#[tokio::test]
async fn a_run_that_lost_its_lease_is_fenced_before_the_next_attempt_writes() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.trigger_config.max_attempts = Some(2);
    world.core.create_session(&world.key, new).await.unwrap();
    let first = world.start_run().await;
    let (caller, id) = (first.caller.clone(), first.id());
    first.worker.lose().await.unwrap();
    assert_eq!(world.status(&id).await, RunStatus::RetryingAfterFailure);
    world.clock.advance_ms(1_000);
    let second = world.start_run().await;
    assert_eq!(second.id(), id);
    let late = world.core.append(&caller, text(output(&named("a")), "late")).await;
    assert!(is_fenced(&late), "{late:?}");
    let farewell = world.core.append(&caller, append(output(&named("a")), control("turn-complete"))).await;
    assert!(is_fenced(&farewell), "the same run goes on: {farewell:?}");
    second.chunk(&world.core, "mine").await.unwrap();
}

#[tokio::test]
async fn the_environments_key_names_no_run_and_is_not_fenced() {
    let world = World::new().await;
    world.create("a").await;
    let old = world.start_run().await;
    hand_over(&world, &old).await;
    world.put_out("a", NewRecord::data("by key")).await.unwrap();
    assert!(is_fenced(&old.control(&world.core, "turn-complete").await), "that was the first record since the swap");
}

#[tokio::test]
async fn a_runs_token_opens_its_own_session_only() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    world.create("b").await;
    for target in [output(&named("b")), input(&named("b"))] {
        let refused = world.core.append(&run.caller, text(target.clone(), "x")).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
        let refused = world.core.list_records(&run.caller, &target, 0).await.map(drop);
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    }
    world.core.list_records(&run.caller, &input(&named("a")), 0).await.map(drop).unwrap();
}
