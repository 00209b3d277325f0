//! Who does the work of the clock and of the sweeper, and what cannot keep it from being done.

use crate::support::*;
use continuo_domain::error::Cause;
use continuo_domain::run::{NewRun, RunStatus};
use continuo_domain::{Error, RunId};

fn down() -> Error {
    Error::Unavailable(Cause::new("down"))
}

async fn trigger_for_a_second(world: &World) -> RunId {
    let id = world.core.new_run_id();
    let mut run = NewRun::of_task(id.clone(), world.key.environment.clone(), TASK, "{}".into());
    run.ttl_ms = Some(1_000);
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    id
}

/// Waits for what a background loop brings about.
async fn until<F: Future<Output = bool>>(happened: impl Fn() -> F) {
    soon(async {
        while !happened().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_replica_moves_what_is_due_and_another_takes_over() {
    let world = World::new().await;
    let other = world.replica();
    world.replicas.give("clock", Owner::Replica(0));
    let run = trigger_for_a_second(&world).await;
    world.clock.advance_ms(1_000);
    tokio::spawn(other.run_clock());
    until(|| async { world.replicas.asked(1, "clock") >= 2 }).await;
    assert_eq!(world.gates.calls("due_runs"), 0, "it is another one's turn");
    assert!(world.run(&run).await.is_alive());
    world.replicas.give("clock", Owner::Replica(1));
    until(|| async { world.status(&run).await == RunStatus::Expired }).await;
}

#[tokio::test]
async fn without_an_answer_every_replica_has_its_turn() {
    let world = World::new().await;
    world.replicas.give("clock", Owner::Nobody);
    world.replicas.give("sweeper", Owner::Nobody);
    let run = trigger_for_a_second(&world).await;
    world.clock.advance_ms(1_000);
    tokio::spawn(world.replica().run_clock());
    until(|| async { world.status(&run).await == RunStatus::Expired }).await;
    tokio::spawn(world.replica().run_sweeper());
    until(|| async { world.gates.calls("unfinished_closes") > 0 }).await;
}

#[tokio::test]
async fn a_replica_whose_turn_it_is_not_pays_its_own_debts_and_nothing_else() {
    let world = World::new().await;
    world.replicas.give("sweeper", Owner::Replica(1));
    let session = world.create_idle("a").await;
    for _ in 0..2 {
        world.gates.fail_before("claim_run", &[session.id.as_str()], down());
    }
    world.say("a", "hello").await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 1, "the boot failed");
    tokio::spawn(world.core.clone().run_sweeper());
    until(|| async { world.runs_of(&session.id).await.len() == 2 }).await;
    until(|| async { world.replicas.asked(0, "sweeper") >= 2 }).await;
    assert_eq!(world.gates.calls("unfinished_closes"), 0);
}

#[tokio::test]
async fn many_due_runs_that_cannot_be_moved_hide_none_behind_them() {
    let world = World::new().await;
    for _ in 0..100 {
        let stuck = trigger_for_a_second(&world).await;
        world.gates.fail_before("apply", &[stuck.as_str(), "Tick"], down());
    }
    let last = trigger_for_a_second(&world).await;
    world.clock.advance_ms(1_000);
    world.tick().await;
    assert_eq!(world.status(&last).await, RunStatus::Expired);
}

#[tokio::test]
async fn many_closes_that_cannot_be_finished_hide_none_behind_them() {
    let world = World::new().await;
    let mut sessions = Vec::new();
    for number in 0..101 {
        let name = number.to_string();
        let session = world.create(&name).await.session;
        world.gates.fail_before("append", &[session.id.as_str(), "direction: In", "fence"], down());
        world.core.close_session(&world.key, &named(&name), None, None).await.unwrap_err();
        sessions.push(session.id);
    }
    for stuck in &sessions[..100] {
        world.gates.fail_before("append", &[stuck.as_str(), "direction: In", "fence"], down());
    }
    assert_eq!(world.core.sweep_closes().await.unwrap(), 1);
    assert_eq!(world.core.sweep_closes().await.unwrap(), 100);
}
