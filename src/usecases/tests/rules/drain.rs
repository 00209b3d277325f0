//! The drain of a channel's waits: everybody wakes, nobody twice, nobody lost between read and clear.

use crate::support::*;
use continuo_domain::channel::Direction;
use continuo_domain::error::Cause;
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{Error, RunId};
use continuo_usecases::{NewManualWaitpoint, WaitOnChannel};
use std::sync::Arc;
use tokio::task::JoinHandle;

async fn wait(world: &World, run: &RunId) -> Waitpoint {
    let request = WaitOnChannel {
        run: run.clone(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    world.core.wait_on_channel(&world.key, request).await.unwrap().row
}

fn say(world: &Arc<World>, body: &'static str) -> JoinHandle<u64> {
    let world = world.clone();
    tokio::spawn(async move { world.say("a", body).await.unwrap().start.seq_num })
}

async fn is_woken_by(world: &World, waitpoint: &Waitpoint, body: &str) {
    let row = world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap();
    assert_eq!(row.completion, Some(Completion::json(body)));
}

#[tokio::test]
async fn all_waiters_wake_together() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let mut waits = Vec::new();
    for _ in 0..10 {
        waits.push(wait(&world, &run).await);
    }
    world.say("a", "x").await.unwrap();
    for waitpoint in &waits {
        is_woken_by(&world, waitpoint, "x").await;
    }
}

#[tokio::test]
async fn a_wait_that_registers_while_a_drain_is_under_way_is_not_lost() {
    for before in [true, false] {
        let world = Arc::new(World::new().await);
        let run = world.create("a").await.run.spec.id;
        let early = wait(&world, &run).await;
        let mut gate =
            if before { world.gates.pause_before("drain", &[]) } else { world.gates.pause_after("drain", &[]) };
        let append = say(&world, "x");
        gate.reached().await;
        let late = wait(&world, &run).await;
        gate.release();
        soon(append).await.unwrap();
        is_woken_by(&world, &early, "x").await;
        is_woken_by(&world, &late, "x").await;
    }
}

#[tokio::test]
async fn two_drains_at_once_complete_every_waiter_once() {
    let world = Arc::new(World::new().await);
    let run = world.create("a").await.run.spec.id;
    let waitpoint = wait(&world, &run).await;
    let mut gate = world.gates.pause_after("drain", &[]);
    let first = say(&world, "first");
    gate.reached().await;
    world.say("a", "second").await.unwrap();
    gate.release();
    soon(first).await.unwrap();
    is_woken_by(&world, &waitpoint, "first").await;
}

#[tokio::test]
async fn a_wait_put_back_for_a_later_record_is_not_lost_to_one_that_lands_meanwhile() {
    let world = Arc::new(World::new().await);
    let run = world.create("a").await.run.spec.id;
    let request = WaitOnChannel {
        run,
        session: named("a"),
        direction: Direction::In,
        last_seq_num: Some(0),
        waitpoint: NewManualWaitpoint::default(),
    };
    // Whoever has seen the first record waits for the next one before the first append looks who waits.
    let mut drain = world.gates.pause_before("drain", &[]);
    let append = say(&world, "zero");
    drain.reached().await;
    let waitpoint = world.core.wait_on_channel(&world.key, request).await.unwrap().row;
    // That append has taken the wait out of the registry and is about to put it back.
    let mut gate = world.gates.pause_before("register", &[]);
    drain.release();
    gate.reached().await;
    world.say("a", "one").await.unwrap();
    gate.release();
    soon(append).await.unwrap();
    is_woken_by(&world, &waitpoint, "one").await;
}

#[tokio::test]
async fn a_failed_drain_does_not_fail_the_append_and_the_sweeper_wakes() {
    for step in ["drain", "complete_waitpoint", "get_waitpoint"] {
        let world = World::new().await;
        let run = world.create("a").await.run.spec.id;
        let waitpoint = wait(&world, &run).await;
        world.gates.fail_before(step, &[], Error::Unavailable(Cause::new("down")));
        assert_eq!(world.say("a", "x").await.unwrap().start.seq_num, 0, "{step}");
        assert_eq!(world.core.sweep_waits().await.unwrap(), 1, "{step}");
        is_woken_by(&world, &waitpoint, "x").await;
    }
}

#[tokio::test]
async fn one_waiter_that_cannot_be_completed_does_not_keep_the_others_asleep() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let (one, two) = (wait(&world, &run).await, wait(&world, &run).await);
    world.gates.fail_before("complete_waitpoint", &[one.id.as_str()], Error::Unavailable(Cause::new("down")));
    world.say("a", "x").await.unwrap();
    is_woken_by(&world, &two, "x").await;
    world.core.sweep_waits().await.unwrap();
    is_woken_by(&world, &one, "x").await;
}

#[tokio::test]
async fn output_wakes_the_waiters_of_output_only() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let on_input = wait(&world, &run).await;
    let request = WaitOnChannel {
        run,
        session: named("a"),
        direction: Direction::Out,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    let on_output = world.core.wait_on_channel(&world.key, request).await.unwrap().row;
    assert!(on_output.is_open(), "a fence is no record");
    world.put_out("a", continuo_domain::channel::NewRecord::data("chunk")).await.unwrap();
    is_woken_by(&world, &on_output, "chunk").await;
    assert!(world.core.get_waitpoint(&world.key, &on_input.id).await.unwrap().is_open());
}
