//! What follows an append: not before the answer where it need not be, and never lost.

use crate::support::*;
use continuo_domain::channel::{Append, Direction, NewRecord};
use continuo_domain::error::Cause;
use continuo_domain::session::SessionRef;
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{Error, RunId};
use continuo_ports::Clock;
use continuo_usecases::{Batch, Boot, Core, NewManualWaitpoint, StreamAppend, WaitOnChannel};
use std::collections::BTreeMap;
use std::sync::Arc;

fn down() -> Error {
    Error::Unavailable(Cause::new("down"))
}

async fn wait(core: &Core, world: &World, run: &RunId) -> Waitpoint {
    let request = WaitOnChannel {
        run: run.clone(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    core.wait_on_channel(&world.key, request).await.unwrap().row
}

async fn completion(world: &World, waitpoint: &Waitpoint) -> Option<Completion> {
    world.core.get_waitpoint(&world.key, &waitpoint.id).await.unwrap().completion
}

/// The calls that were made meanwhile.
async fn calls_of<T>(world: &World, what: impl Future<Output = T>) -> (T, BTreeMap<&'static str, usize>) {
    let before = world.gates.all_calls();
    let outcome = what.await;
    let mut after = world.gates.all_calls();
    after.iter_mut().for_each(|(call, count)| *count -= before.get(call).copied().unwrap_or(0));
    after.retain(|_, count| *count > 0);
    (outcome, after)
}

#[tokio::test]
async fn an_append_to_a_live_session_looks_at_the_database_once() {
    for is_shared in [false, true] {
        let world = if is_shared { World::shared().await } else { World::new().await };
        let created = world.create("a").await;
        world.say("a", "the first one also asks whether the session is still there").await.unwrap();
        world.core.follow_up_now().await.unwrap();
        for session in [named("a"), SessionRef::Id(created.session.id.clone())] {
            let append = world.core.append(&world.key, text(input(&session), "x"));
            let (_, calls) = calls_of(&world, append).await;
            let expected = BTreeMap::from([("probe", 1), ("tail", 1), ("append", 1), ("drain", 2)]);
            assert_eq!(calls, expected, "the log, the registry, and one look");
        }
    }
}

#[tokio::test]
async fn many_appends_are_followed_up_by_one_look() {
    let world = World::shared().await;
    world.create("a").await;
    world.create("b").await;
    for n in 0..10 {
        world.say("a", &n.to_string()).await.unwrap();
        world.say("b", &n.to_string()).await.unwrap();
    }
    assert_eq!(world.ledger.debts().len(), 20);
    let (outcome, calls) = calls_of(&world, world.core.follow_up_now()).await;
    outcome.unwrap();
    assert_eq!(calls, BTreeMap::from([("without_live_run", 1), ("open_waits_on", 1)]));
    assert!(world.ledger.debts().is_empty());
    let (outcome, calls) = calls_of(&world, world.core.follow_up_now()).await;
    outcome.unwrap();
    assert!(calls.is_empty(), "{calls:?}");
}

#[tokio::test]
async fn a_create_asks_the_database_once_and_one_that_finds_its_session_twice() {
    let world = World::new().await;
    let fence = [("append", 1)];
    let (_, calls) = calls_of(&world, world.create("a")).await;
    assert_eq!(calls, fence.into_iter().chain([("create", 1)]).collect());
    let (found, calls) = calls_of(&world, world.create("a")).await;
    assert_eq!(calls, BTreeMap::from([("create", 1), ("get", 1)]));
    world.cancel_quietly(&found.run.spec.id).await;
    let (_, calls) = calls_of(&world, world.create("a")).await;
    assert_eq!(calls, BTreeMap::from([("create", 1), ("get", 1), ("claim_run", 1), ("append", 1), ("tail", 1)]));
}

#[tokio::test]
async fn a_waiter_of_another_replica_wakes_before_the_answer_by_the_shared_registry() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let waitpoint = wait(&world.replica_with_hints(), &world, &run).await;
    world.say("a", "x").await.unwrap();
    assert_eq!(completion(&world, &waitpoint).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn a_waiter_of_another_replica_wakes_by_the_truth_where_the_registry_has_lost_it() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let waitpoint = wait(&world.replica(), &world, &run).await;
    world.say("a", "x").await.unwrap();
    assert_eq!(completion(&world, &waitpoint).await, None);
    world.core.follow_up_now().await.unwrap();
    assert_eq!(completion(&world, &waitpoint).await, Some(Completion::json("x")));
}

#[tokio::test]
async fn the_loop_follows_up_by_itself_and_ends_with_its_node() {
    let world = World::new().await;
    let run = world.create("a").await.run.spec.id;
    let waitpoint = wait(&world.replica(), &world, &run).await;
    let background = tokio::spawn(world.core.clone().run_follow_ups());
    let mut woken = world.gates.pause_after("complete_waitpoint", &[waitpoint.id.as_str()]);
    world.say("a", "x").await.unwrap();
    woken.reached().await;
    woken.release();
    assert_eq!(completion(&world, &waitpoint).await, Some(Completion::json("x")));
    world.stopping.cancel();
    soon(background).await.unwrap();
}

#[tokio::test]
async fn a_message_that_its_run_read_before_it_ended_boots_nothing() {
    let world = World::new().await;
    let created = world.create("a").await;
    let mut run = world.start_run().await;
    world.say("a", "x").await.unwrap();
    run.read(1).await;
    run.complete().await;
    world.core.follow_up_now().await.unwrap();
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
}

#[tokio::test]
async fn what_boots_nothing_boots_nothing_afterwards_either() {
    for body in [r#"{"kind":"stop"}"#, "quiet"] {
        let world = Arc::new(World::new().await);
        let created = world.create("a").await;
        let mut run = world.start_run().await;
        let mut gate = world.gates.pause_after("probe", &[]);
        let append = tokio::spawn({
            let world = world.clone();
            async move {
                let boot = if body == "quiet" { Boot::Never } else { Boot::Default };
                let request = continuo_usecases::AppendRequest { boot, ..text(input(&named("a")), body) };
                world.core.append(&world.key, request).await.unwrap();
            }
        });
        gate.reached().await;
        run.complete().await;
        gate.release();
        soon(append).await.unwrap();
        world.core.follow_up_now().await.unwrap();
        assert_eq!(world.runs_of(&created.session.id).await.len(), 1, "{body}");
    }
}

#[tokio::test]
async fn a_look_that_fails_is_tried_again_and_its_debt_stands_until_then() {
    for step in ["without_live_run", "open_waits_on"] {
        let world = World::shared().await;
        let run = world.create("a").await.run.spec.id;
        let waitpoint = wait(&world.replica(), &world, &run).await;
        world.say("a", "x").await.unwrap();
        world.gates.fail_before(step, &[], down());
        world.core.follow_up_now().await.unwrap_err();
        assert_eq!(world.ledger.debts(), [0], "{step}");
        world.core.follow_up_now().await.unwrap();
        assert!(world.ledger.debts().is_empty(), "{step}");
        assert_eq!(completion(&world, &waitpoint).await, Some(Completion::json("x")), "{step}");
    }
}

#[tokio::test]
async fn a_boot_that_failed_before_the_answer_is_followed_up() {
    let world = World::shared().await;
    let session = world.create_idle("a").await;
    world.gates.fail_before("claim_run", &[], down());
    world.say("a", "x").await.unwrap();
    world.gates.fail_before("claim_run", &[], down());
    world.core.follow_up_now().await.unwrap_err();
    assert_eq!((world.runs_of(&session.id).await.len(), world.ledger.debts().len()), (1, 1));
    world.core.follow_up_now().await.unwrap();
    assert_eq!((world.runs_of(&session.id).await.len(), world.ledger.debts().len()), (2, 0));
}

#[tokio::test]
async fn an_append_whose_caller_goes_away_is_followed_up() {
    let world = Arc::new(World::shared().await);
    let session = world.create_idle("a").await;
    let mut gate = world.gates.pause_before("drain", &[]);
    let append = tokio::spawn({
        let world = world.clone();
        async move { world.say("a", "x").await }
    });
    gate.reached().await;
    append.abort();
    assert!(append.await.unwrap_err().is_cancelled());
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    world.core.follow_up_now().await.unwrap();
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
    assert!(world.ledger.debts().is_empty());
}

#[tokio::test]
async fn what_a_replica_that_died_left_undone_is_done_by_another() {
    let world = Arc::new(World::shared().await);
    let session = world.create_idle("a").await;
    let waitpoint = wait(&world.core, &world, session.current_run.as_ref().unwrap()).await;
    let dying = world.replica();
    let mut gate = world.gates.pause_after("append", &["hello"]);
    let append = tokio::spawn({
        let (core, key) = (dying, world.key.clone());
        async move { core.append(&key, text(input(&named("a")), "hello")).await }
    });
    gate.reached().await;
    append.abort();
    assert!(append.await.unwrap_err().is_cancelled());
    world.clock.advance_ms(2_000);
    assert_eq!(world.core.sweep_debts(world.clock.now()).await.unwrap(), 0, "its writer may be about to");
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    world.clock.advance_ms(1);
    world.gates.fail_before("without_live_run", &[], down());
    world.core.sweep_debts(world.clock.now()).await.unwrap_err();
    assert_eq!(world.core.sweep_debts(world.clock.now()).await.unwrap(), 1);
    assert_eq!(world.runs_of(&session.id).await.len(), 2);
    assert_eq!(completion(&world, &waitpoint).await, Some(Completion::json("hello")));
    assert_eq!(world.core.sweep_debts(world.clock.now()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_claim_that_no_append_follows_is_given_up() {
    let world = Arc::new(World::shared().await);
    world.create("a").await;
    let public = world.token(&["write:sessions:a"]);
    // One that does not reach its log because the caller may not, goes away, or says what changes on its way.
    let refused = world.core.append(&world.token(&["write:sessions:b"]), text(input(&named("a")), "x")).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    assert_eq!(world.ledger.abandoned(), 1);
    let refused = world.core.append(&public, append(input(&named("a")), NewRecord::trim(0))).await;
    assert!(matches!(refused, Err(Error::ConditionNeedsSecretKey)), "{refused:?}");
    assert_eq!(world.ledger.abandoned(), 2);
    let mut gate = world.gates.pause_before("tail", &[]);
    let going = tokio::spawn({
        let world = world.clone();
        async move { world.say("a", "x").await }
    });
    gate.reached().await;
    going.abort();
    assert!(going.await.unwrap_err().is_cancelled());
    assert_eq!((world.ledger.abandoned(), world.ledger.claims()), (3, (0, 0)));
    let marked = r#"{"payload":{"actionSource":"webhook"}}"#;
    world.core.append(&public, text(input(&named("a")), marked)).await.unwrap();
    assert_eq!((world.ledger.abandoned(), world.ledger.claims()), (4, (0, 1)), "the claim was for another record");
    world.say("a", "x").await.unwrap();
    assert_eq!((world.ledger.abandoned(), world.ledger.claims()), (4, (1, 1)));
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let refused = world.core.append(&world.key, part(input(&named("a")), "x", "late")).await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    assert_eq!(world.ledger.abandoned(), 5);
}

#[tokio::test]
async fn a_stream_of_appends_asks_once_a_second_and_makes_its_own_claims() {
    let world = World::shared().await;
    world.create("a").await;
    world.say("a", "first").await.unwrap();
    let producer = world.core.open_producer(&world.key, input(&named("a"))).await.unwrap();
    let appends = async {
        for n in 0..5 {
            let append = StreamAppend { append: Append::one(NewRecord::data(n.to_string())), boot: Boot::Default };
            producer.append(Batch::of(append)).await.unwrap();
        }
    };
    let ((), calls) = calls_of(&world, appends).await;
    assert_eq!(calls, BTreeMap::from([("tail", 5), ("append", 5), ("drain", 10)]));
    assert_eq!(world.ledger.claims(), (1, 5));
}
