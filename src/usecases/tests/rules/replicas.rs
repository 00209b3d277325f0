//! Several replicas on one set of stores: whichever of them a call goes to, the answer is the same.

use crate::support::*;
use continuo_domain::channel::{Command, Direction, Fence, NewRecord, Record};
use continuo_domain::error::Cause;
use continuo_domain::run::RunReason;
use continuo_domain::{Error, SessionId};
use continuo_usecases::{Batch, Boot, Core, EndAndContinue, StreamAppend};
use std::sync::Arc;

/// Callers at once in a round.
const CALLERS: usize = 64;
const REPLICAS: usize = 4;
/// Rounds where `CONTINUO_CLAIM_ROUNDS` does not say.
const ROUNDS: usize = 20;

fn is_closed_fence(record: &Record) -> bool {
    matches!(record.command(), Some(Command::Fence(token)) if Fence::of_token(&token).closed)
}

/// Is the word in `.in`? And if so, before the close.
async fn is_stored(world: &World, session: &SessionId) -> bool {
    let records = world.records(session, Direction::In).await;
    let word = records.iter().find(|record| record.body == "word");
    let close = records.iter().find(|record| is_closed_fence(record)).expect("the fence of the close");
    if let Some(word) = word {
        assert!(word.seq_num < close.seq_num, "{records:?}");
    }
    word.is_some()
}

#[tokio::test]
async fn an_append_precedes_a_close_on_another_replica_or_is_refused() {
    // The append stands at this step while the whole close goes by on the other replica.
    let steps =
        [("probe", true), ("probe", false), ("tail", true), ("tail", false), ("append", true), ("append", false)];
    for (step, is_before) in steps {
        let world = Arc::new(World::new().await);
        let session = world.create_idle("a").await;
        world.say("a", "earlier").await.unwrap();
        let with: &[&str] = if step == "append" { &["word"] } else { &[] };
        let mut gate =
            if is_before { world.gates.pause_before(step, with) } else { world.gates.pause_after(step, with) };
        let append = tokio::spawn({
            let world = world.clone();
            async move { world.say("a", "word").await }
        });
        gate.reached().await;
        world.replica().close_session(&world.key, &named("a"), Some("done".into()), None).await.unwrap();
        gate.release();
        let outcome = soon(append).await.unwrap();
        let is_durable = (step, is_before) == ("append", false);
        match &outcome {
            Ok(_) => assert!(is_durable, "after {step}"),
            Err(Error::SessionClosed { closed_reason }) => assert_eq!(closed_reason.as_deref(), Some("done")),
            Err(other) => panic!("{step}: {other:?}"),
        }
        assert_eq!(is_stored(&world, &session.id).await, outcome.is_ok(), "{step}");
    }
}

#[tokio::test]
async fn a_close_that_stands_anywhere_refuses_what_comes_after_its_fence_on_another_replica() {
    // The close stands at this step while the whole append goes by on the other replica.
    let fence = &["direction: In", "fence"][..];
    let steps = [("close", true, &[][..]), ("close", false, &[]), ("append", true, fence), ("append", false, fence)];
    for (step, is_before, with) in steps.into_iter().chain([("finish_close", true, &[][..])]) {
        let world = Arc::new(World::new().await);
        let session = world.create_idle("a").await;
        // A channel that nobody has written to would ask for the row once more.
        world.say("a", "earlier").await.unwrap();
        // Its rights were checked before, and its row is fresh enough: nothing but the log may stop it.
        let producer = world.replica().open_producer(&world.key, input(&named("a"))).await.unwrap();
        let mut gate =
            if is_before { world.gates.pause_before(step, with) } else { world.gates.pause_after(step, with) };
        let close = tokio::spawn({
            let world = world.clone();
            async move { world.core.close_session(&world.key, &named("a"), None, None).await.unwrap() }
        });
        gate.reached().await;
        let append =
            StreamAppend { append: continuo_domain::channel::Append::one(NewRecord::data("word")), boot: Boot::Never };
        let outcome = producer.append(Batch::of(append)).await;
        gate.release();
        soon(close).await.unwrap();
        let has_fence = matches!((step, is_before), ("append", false) | ("finish_close", _));
        assert_eq!(outcome.is_err(), has_fence, "{step}: {outcome:?}");
        assert_eq!(is_stored(&world, &session.id).await, outcome.is_ok(), "{step}");
    }
}

fn hand_over(run: &RunningRun) -> EndAndContinue {
    EndAndContinue {
        session: named("a"),
        calling_run: run.id(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    }
}

#[tokio::test]
async fn a_hand_over_and_an_append_on_another_replica_make_one_successor() {
    let steps = [("claim_run", true), ("claim_run", false), ("apply", true), ("apply", false)];
    for (step, is_before) in steps {
        let world = Arc::new(World::new().await);
        let created = world.create("a").await;
        let run = world.start_run().await;
        let mut gate = if is_before { world.gates.pause_before(step, &[]) } else { world.gates.pause_after(step, &[]) };
        let swap = tokio::spawn({
            let (world, request) = (world.clone(), hand_over(&run));
            async move { world.core.end_and_continue(&world.key, request).await.unwrap() }
        });
        gate.reached().await;
        let other = world.replica();
        other.append(&world.key, text(input(&named("a")), "x")).await.unwrap();
        other.follow_up_now().await.unwrap();
        gate.release();
        assert!(soon(swap).await.unwrap().swapped, "{step}");
        has_one_successor(&world, &created.session.id).await;
    }
}

#[tokio::test]
async fn an_append_that_stands_while_another_replica_hands_over_makes_no_run_of_its_own() {
    for (step, is_before) in [("probe", true), ("probe", false), ("append", true), ("append", false), ("drain", true)] {
        let world = Arc::new(World::new().await);
        let created = world.create("a").await;
        let run = world.start_run().await;
        let with: &[&str] = if step == "append" { &["word"] } else { &[] };
        let mut gate =
            if is_before { world.gates.pause_before(step, with) } else { world.gates.pause_after(step, with) };
        let append = tokio::spawn({
            let world = world.clone();
            async move { world.say("a", "word").await.unwrap() }
        });
        gate.reached().await;
        assert!(world.replica().end_and_continue(&world.key, hand_over(&run)).await.unwrap().swapped);
        gate.release();
        soon(append).await.unwrap();
        world.core.follow_up_now().await.unwrap();
        has_one_successor(&world, &created.session.id).await;
    }
}

async fn has_one_successor(world: &World, session: &SessionId) {
    let row = world.session(&named("a")).await;
    let runs = world.runs_of(session).await;
    assert_eq!((row.current_run_version, runs.len()), (2, 2));
    assert!(runs.iter().any(|run| row.current_run.as_ref() == Some(&run.spec.id) && run.is_alive()));
}

#[tokio::test]
async fn a_superseded_runs_late_output_is_refused_by_every_replica() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    run.chunk(&world.core, "one").await.unwrap();
    let other = world.replica();
    let producer = other.open_producer(&run.caller, output(&run.session())).await.unwrap();
    world.core.end_and_continue(&world.key, hand_over(&run)).await.unwrap();
    let late =
        || StreamAppend { append: continuo_domain::channel::Append::one(NewRecord::data("late")), boot: Boot::Default };
    for outcome in [
        other.append(&run.caller, text(output(&run.session()), "late")).await.map(drop),
        producer.append(Batch::of(late())).await.map(drop),
        other.trim(&run.caller, output(&run.session()), 1).await.map(drop),
    ] {
        assert!(matches!(outcome, Err(Error::Fenced { .. })), "{outcome:?}");
    }
    assert_eq!(bodies(&world.records(&created.session.id, Direction::Out).await), ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_of_four_replicas_boot_one_run() {
    let rounds = std::env::var("CONTINUO_CLAIM_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let world = Arc::new(World::new().await);
    let replicas: Vec<Core> = (0..REPLICAS).map(|_| world.replica()).collect();
    for round in 0..rounds {
        let name = format!("round-{round}");
        let session = world.create_idle(&name).await;
        let barrier = Arc::new(tokio::sync::Barrier::new(CALLERS));
        let callers = (0..CALLERS).map(|n| {
            let (world, core) = (world.clone(), replicas[n % REPLICAS].clone());
            let (name, barrier) = (name.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                if (n / REPLICAS).is_multiple_of(2) {
                    core.append(&world.key, text(input(&named(&name)), &n.to_string())).await.map(|_| None)
                } else {
                    core.create_session(&world.key, new_session(Some(&name))).await.map(|made| Some(made.run.spec.id))
                }
            })
        });
        let mut answers = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            answers.extend(soon(caller).await.unwrap().unwrap());
        }
        for replica in &replicas {
            replica.follow_up_now().await.unwrap();
        }
        let after = world.session(&named(&name)).await;
        assert_eq!(after.current_run_version, session.current_run_version + 1, "round {round}");
        assert!(
            answers.iter().all(|run| Some(run) == after.current_run.as_ref()),
            "round {round}: every answer is true"
        );
        let runs = world.runs_of(&session.id).await;
        let alive: Vec<_> = runs.iter().filter(|run| run.is_alive()).map(|run| Some(&run.spec.id)).collect();
        assert_eq!(alive, [after.current_run.as_ref()], "round {round}");
        assert_eq!(runs.len(), 2, "round {round}: a loser leaves no run that a worker could be offered");
        assert_eq!(world.core.session_runs(&world.key, &named(&name)).await.unwrap().len(), 2, "round {round}");
        world.cancel_quietly(after.current_run.as_ref().unwrap()).await;
    }
}

#[tokio::test]
async fn a_close_that_one_replica_left_half_done_is_finished_by_another() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.gates.fail_before("append", &["direction: In", "fence"], Error::Unavailable(Cause::new("down")));
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap_err();
    assert_eq!(world.replica().sweep_closes().await.unwrap(), 1);
    assert!(world.fence(&session.id, Direction::In).await.closed);
}
