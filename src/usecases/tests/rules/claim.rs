//! Claims: however many try, one run lives.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::Direction;
use continuo_domain::run::{NewRun, RunReason};
use continuo_ports::session_store::{Claim, ClaimRun};
use continuo_ports::{Clock, SessionStore};
use std::sync::Arc;

const N: usize = 64;

/// Another claimer wins, behind the core's back. Its run is over at once if asked.
async fn another_wins(world: &World, is_over: bool) -> continuo_domain::RunId {
    let session = world.session(&named("a")).await;
    let id = world.core.new_run_id();
    let run = NewRun::of_session(id.clone(), &session, session.current_run.as_ref()).unwrap();
    let claim = ClaimRun {
        session: session.id.clone(),
        expected_version: session.current_run_version,
        expected_run: None,
        run,
        reason: RunReason::Continuation,
        trigger_config: None,
    };
    let won = world.store.claim_run(claim, world.clock.now()).await.unwrap();
    assert!(matches!(won, Claim::Won { .. }));
    if is_over {
        world.cancel_quietly(&id).await;
    }
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_appends_at_once_on_a_dead_session_boot_one_run() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let appends = (0..N).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { world.say("a", &n.to_string()).await.unwrap() })
    });
    let mut seqs = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        seqs.push(soon(append).await.unwrap().start.seq_num);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (0..N as u64).collect::<Vec<_>>());
    let after = world.session(&named("a")).await;
    assert_eq!(after.current_run_version, session.current_run_version + 1);
    let audit = world.core.session_runs(&world.key, &named("a")).await.unwrap();
    assert_eq!(audit.len(), 2, "one row more than the first run's");
    let runs = world.runs_of(&session.id).await;
    let alive: Vec<_> = runs.iter().filter(|r| r.is_alive()).map(|r| Some(&r.spec.id)).collect();
    assert_eq!(alive, [after.current_run.as_ref()]);
    assert_eq!(runs.len(), 2, "a loser leaves no run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_creates_at_once_on_a_dead_session_boot_one_run() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let creates = (0..N).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.create("a").await.run.spec.id })
    });
    let mut answers = Vec::new();
    for create in creates.collect::<Vec<_>>() {
        answers.push(soon(create).await.unwrap());
    }
    let after = world.session(&named("a")).await;
    assert!(answers.iter().all(|run| Some(run) == after.current_run.as_ref()));
    assert_eq!(after.current_run_version, session.current_run_version + 1);
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn a_loser_answers_with_the_winners_run_and_leaves_none_of_its_own() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let create = tokio::spawn({
        let world = world.clone();
        async move { world.create("a").await }
    });
    gate.reached().await;
    let winner = another_wins(&world, false).await;
    gate.release();
    assert_eq!(soon(create).await.unwrap().run.spec.id, winner);
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
}

#[tokio::test]
async fn three_winners_that_are_over_already_end_in_an_error_after_three_rounds() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let claims = world.gates.calls("claim_run");
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let create = tokio::spawn({
        let world = world.clone();
        async move { world.core.create_session(&world.key, new_session(Some("a"))).await }
    });
    for round in 0..3 {
        gate.reached().await;
        another_wins(&world, true).await;
        // A fourth try would meet no gate and win.
        let next = if round < 2 { world.gates.pause_before("claim_run", &[]) } else { break };
        gate.release();
        gate = next;
    }
    gate.release();
    let outcome = soon(create).await.unwrap();
    assert!(matches!(outcome, Err(Error::RunNotClaimed)), "{outcome:?}");
    assert_eq!(world.gates.calls("claim_run") - claims, 3);
    let runs = world.runs_of(&session.id).await;
    assert_eq!((runs.len(), runs.iter().filter(|r| r.is_alive()).count()), (4, 0));
}

#[tokio::test]
async fn a_winner_found_alive_after_the_third_round_is_as_good_as_winning() {
    let world = Arc::new(World::new().await);
    world.create_idle("a").await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let create = tokio::spawn({
        let world = world.clone();
        async move { world.create("a").await }
    });
    let mut winner = None;
    for round in 0..3 {
        gate.reached().await;
        winner = Some(another_wins(&world, round < 2).await);
        if round == 2 {
            break;
        }
        let next = world.gates.pause_before("claim_run", &[]);
        gate.release();
        gate = next;
    }
    gate.release();
    assert_eq!(Some(soon(create).await.unwrap().run.spec.id), winner);
}

#[tokio::test]
async fn the_first_append_right_after_a_create_starts_no_second_run() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.say("a", "hello").await.unwrap();
    let after = world.session(&named("a")).await;
    assert_eq!((after.current_run, after.current_run_version), (Some(created.run.spec.id), 1));
}

#[tokio::test]
async fn an_append_while_the_create_is_on_its_way_starts_no_second_run() {
    let world = Arc::new(World::new().await);
    let mut creating = world.gates.pause_after("create", &[]);
    let create = tokio::spawn({
        let world = world.clone();
        async move { world.create("a").await }
    });
    creating.reached().await;
    // The row is there, and its run with it; its creator does not know yet.
    world.say("a", "hello").await.unwrap();
    world.core.follow_up_now().await.unwrap();
    creating.release();
    let created = soon(create).await.unwrap();
    let after = world.session(&named("a")).await;
    assert_eq!((after.current_run, after.current_run_version), (Some(created.run.spec.id), 1));
}

#[tokio::test]
async fn an_append_whose_claim_meets_a_close_is_stored_and_starts_nothing() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let append = tokio::spawn({
        let world = world.clone();
        async move { world.say("a", "hello").await }
    });
    gate.reached().await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    gate.release();
    assert_eq!(soon(append).await.unwrap().unwrap().start.seq_num, 0);
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    assert_eq!(world.gates.calls("claim_run"), 1, "no retry on a closed session");
}

#[tokio::test]
async fn a_claim_fences_out_before_anybody_hears_of_the_run() {
    let world = World::new().await;
    let created = world.create("a").await;
    let fence = world.fence(&created.session.id, Direction::Out).await;
    assert_eq!((fence.version, fence.lease), (1, 0));
}
