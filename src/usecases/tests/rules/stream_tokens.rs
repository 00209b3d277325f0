//! Direct writes: what the credential of one channel is good for, and what fences it.

use crate::support::*;
use continuo_domain::channel::{Append, Direction, FencingToken, NewRecord};
use continuo_domain::principal::Principal;
use continuo_domain::run::RunReason;
use continuo_domain::session::SessionRef;
use continuo_domain::waitpoint::Completion;
use continuo_domain::{Error, Result};
use continuo_usecases::{
    AppendRequest, Assigned, Boot, ChannelTarget, EndAndContinue, NewManualWaitpoint, PUBLIC_STREAM_TOKEN_MS,
    STREAM_TOKEN_MS,
};

/// Who holds the credential that this caller gets for the channel.
async fn direct(world: &World, caller: &Principal, target: &ChannelTarget) -> Principal {
    let initialized = world.core.initialize_channel(caller, target, None).await.unwrap();
    world.core.authenticate(&initialized.access_token).await.unwrap()
}

async fn put(world: &World, caller: &Principal, target: &ChannelTarget, record: NewRecord) -> Result<u64> {
    let appended = world.core.append(caller, append(target.clone(), record)).await?;
    Ok(appended.start.seq_num)
}

async fn chunk(world: &World, caller: &Principal, target: &ChannelTarget) -> Result<u64> {
    put(world, caller, target, NewRecord::data("x")).await
}

async fn hand_over(world: &World, run: &RunningRun) {
    let request = EndAndContinue {
        session: run.session(),
        calling_run: run.id(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    };
    world.core.end_and_continue(&run.caller, request).await.unwrap();
}

fn is_fenced<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Fenced { .. }))
}

fn is_denied<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::PermissionDenied))
}

#[tokio::test]
async fn a_stream_token_writes_its_channel_and_opens_nothing_else() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.create("b").await;
    let output_a = output(&named("a"));
    let writer = direct(&world, &world.key, &output_a).await;
    assert_eq!(chunk(&world, &writer, &output_a).await.unwrap(), 1, "after the claim's fence");
    world.core.check_tail(&writer, &output_a).await.unwrap();
    let by_id = output(&SessionRef::Id(created.session.id.clone()));
    chunk(&world, &writer, &by_id).await.unwrap();
    for other in [
        input(&named("a")),
        output(&named("b")),
        output(&named("none")),
        channel(&named("a"), "tools", Direction::Out),
        channel(&named("a"), "tools", Direction::In),
    ] {
        assert!(is_denied(&chunk(&world, &writer, &other).await), "{other:?}");
        assert!(is_denied(&world.core.check_tail(&writer, &other).await), "{other:?}");
        assert!(is_denied(&world.core.initialize_channel(&writer, &other, None).await), "{other:?}");
    }
    assert!(is_denied(&world.core.get_session(&writer, &named("a")).await));
    assert!(is_denied(&world.core.create_session(&writer, new_session(Some("c"))).await));
    assert!(is_denied(&world.core.cancel_run(&writer, &created.run.spec.id).await));
    assert!(is_denied(&world.core.close_session(&writer, &named("a"), None, None).await));
}

#[tokio::test]
async fn a_stream_token_gets_no_further_stream_token() {
    let world = World::new().await;
    world.create("a").await;
    let writer = direct(&world, &world.key, &output(&named("a"))).await;
    assert!(is_denied(&world.core.initialize_channel(&writer, &output(&named("a")), None).await));
}

#[tokio::test]
async fn a_stream_token_ends_with_its_time() {
    let world = World::new().await;
    world.create("a").await;
    let browser = world.token(&["write:sessions:a"]);
    for (caller, target, life_ms) in
        [(&world.key, output(&named("a")), STREAM_TOKEN_MS), (&browser, input(&named("a")), PUBLIC_STREAM_TOKEN_MS)]
    {
        let initialized = world.core.initialize_channel(caller, &target, None).await.unwrap();
        assert_eq!(initialized.expires_at.ms_since(world.core.now()), life_ms);
        world.clock.advance_ms(life_ms as i64 - 1);
        world.core.authenticate(&initialized.access_token).await.unwrap();
        world.clock.advance_ms(1);
        let late = world.core.authenticate(&initialized.access_token).await;
        assert!(matches!(late, Err(Error::Unauthenticated(_))), "{late:?}");
    }
}

#[tokio::test]
async fn a_runs_direct_writes_are_fenced_as_the_run_is() {
    let world = World::new().await;
    let created = world.create("a").await;
    let old = world.start_run().await;
    let output = output(&named("a"));
    let writer = direct(&world, &old.caller, &output).await;
    chunk(&world, &writer, &output).await.unwrap();
    put(&world, &writer, &output, NewRecord::trim(1)).await.unwrap();
    hand_over(&world, &old).await;
    let before = world.records(&created.session.id, Direction::Out).await;
    assert!(is_fenced(&chunk(&world, &writer, &output).await));
    assert!(is_fenced(&put(&world, &writer, &output, NewRecord::trim(2)).await));
    assert_eq!(world.records(&created.session.id, Direction::Out).await, before);
    put(&world, &writer, &output, control("upgrade-required")).await.unwrap();
    let new = world.start_run().await;
    let its_own = direct(&world, &new.caller, &output).await;
    chunk(&world, &its_own, &output).await.unwrap();
    assert!(is_fenced(&put(&world, &writer, &output, control("turn-complete")).await));
}

/// Lets the run sleep and wakes it: its assignment under the new lease.
async fn sleep(world: &World, run: &RunningRun) -> (TestWorker, Assigned) {
    let waitpoint = world.core.create_waitpoint(&world.key, NewManualWaitpoint::default()).await.unwrap().0.row.id;
    world.core.suspend(&run.caller, &run.id(), &waitpoint, None).await.unwrap();
    world.core.complete_waitpoint(&world.key, &waitpoint, Completion::empty()).await.unwrap();
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    assert_eq!(assigned.lease.run, run.id());
    (worker, assigned)
}

#[tokio::test]
async fn a_run_that_slept_goes_on_with_the_stream_token_it_has() {
    let world = World::new().await;
    world.create("a").await;
    let output = output(&named("a"));
    let run = world.start_run().await;
    let writer = direct(&world, &run.caller, &output).await;
    let (mut worker, awake) = sleep(&world, &run).await;
    chunk(&world, &writer, &output).await.unwrap();
    put(&world, &writer, &output, control("turn-complete")).await.unwrap();
    assert!(is_fenced(&chunk(&world, &run.caller, &output).await), "its run token is another with every lease");
    worker.complete(&awake.lease).await;
    assert!(is_fenced(&chunk(&world, &writer, &output).await), "and it ends with the run");
}

#[tokio::test]
async fn an_attempt_that_was_lost_is_not_one_that_slept() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.trigger_config.max_attempts = Some(2);
    world.core.create_session(&world.key, new).await.unwrap();
    let output = output(&named("a"));
    let first = world.start_run().await;
    let writer = direct(&world, &first.caller, &output).await;
    first.worker.lose().await.unwrap();
    world.clock.advance_ms(1_000);
    let second = world.start_run().await;
    let its_own = direct(&world, &second.caller, &output).await;
    assert!(is_fenced(&chunk(&world, &writer, &output).await));
    let _awake = sleep(&world, &second).await;
    assert!(is_fenced(&chunk(&world, &writer, &output).await));
    chunk(&world, &its_own, &output).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_was_lost_before_it_began_is_not_one_that_slept() {
    let world = World::new().await;
    world.create("a").await;
    let output = output(&named("a"));
    let mut worker = world.worker(1).await;
    let first = worker.assigned().await;
    let caller = world.core.authenticate(&first.tokens.run_token).await.unwrap();
    let writer = direct(&world, &caller, &output).await;
    worker.lose().await.unwrap();
    let second = world.start_run().await;
    assert_eq!(second.id(), first.lease.run);
    assert!(is_fenced(&chunk(&world, &writer, &output).await));
}

#[tokio::test]
async fn a_run_that_is_over_writes_nothing_directly_however_it_ended() {
    for ends_well in [true, false] {
        let world = World::new().await;
        world.create("a").await;
        let mut run = world.start_run().await;
        let mut writers = Vec::new();
        for target in [output(&named("a")), input(&named("a")), channel(&named("a"), "tools", Direction::Out)] {
            let writer = direct(&world, &run.caller, &target).await;
            chunk(&world, &writer, &target).await.unwrap();
            writers.push((writer, target));
        }
        if ends_well {
            run.complete().await;
        } else {
            world.core.cancel_run(&world.key, &run.id()).await.unwrap();
        }
        for (writer, target) in writers {
            assert!(is_fenced(&chunk(&world, &writer, &target).await), "{ends_well} {target:?}");
            assert!(is_fenced(&chunk(&world, &run.caller, &target).await), "{ends_well} {target:?}");
        }
    }
}

#[tokio::test]
async fn a_key_names_no_run_and_goes_on_over_hand_overs() {
    let world = World::new().await;
    world.create("a").await;
    let old = world.start_run().await;
    let output = output(&named("a"));
    let writer = direct(&world, &world.key, &output).await;
    hand_over(&world, &old).await;
    chunk(&world, &writer, &output).await.unwrap();
}

#[tokio::test]
async fn after_a_close_a_direct_writer_finishes_out_and_nothing_else() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    let targets = [
        output(&named("a")),
        input(&named("a")),
        channel(&named("a"), "t", Direction::In),
        channel(&named("a"), "t", Direction::Out),
    ];
    let mut writers = Vec::new();
    for target in &targets {
        for caller in [&world.key, &run.caller] {
            writers.push((direct(&world, caller, target).await, target));
        }
    }
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    for (writer, target) in &writers {
        let outcome = chunk(&world, writer, target).await;
        if target.name.is_none() && target.direction == Direction::Out {
            outcome.unwrap();
        } else {
            assert!(matches!(outcome, Err(Error::SessionClosed { .. })), "{target:?} {outcome:?}");
        }
    }
    assert_eq!(bodies(&world.records(&created.session.id, Direction::Out).await), ["x", "x"]);
    // Its own run may also begin anew: a client asks before each control record.
    let late = direct(&world, &run.caller, &targets[0]).await;
    put(&world, &late, &targets[0], control("turn-complete")).await.unwrap();
    let refused = world.core.initialize_channel(&world.key, &targets[0], None).await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    let refused = world.core.initialize_channel(&run.caller, &targets[1], None).await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_direct_writer_makes_no_channel_of_a_deleted_session() {
    let world = World::new().await;
    let created = world.create("a").await;
    let output = output(&SessionRef::Id(created.session.id.clone()));
    let writer = direct(&world, &world.key, &output).await;
    let mut gate = world.gates.pause_before("tail", &["Out"]);
    let (late, ()) = tokio::join!(chunk(&world, &writer, &output), async {
        gate.reached().await;
        world.core.delete_session(&world.key, &named("a")).await.unwrap();
        gate.release();
    });
    assert!(matches!(late, Err(Error::SessionNotFound)), "{late:?}");
    assert!(is_denied(&chunk(&world, &writer, &output).await));
    assert!(world.records(&created.session.id, Direction::Out).await.is_empty());
}

#[tokio::test]
async fn a_browsers_direct_input_takes_the_way_of_an_append() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    let target = input(&named("a"));
    let writer = direct(&world, &world.token(&["write:sessions:a"]), &target).await;
    let forged = r#"{"kind":"message","payload":{"actionSource":"webhook"}}"#;
    let envelope = serde_json::json!({ "data": forged, "id": "1" }).to_string();
    put(&world, &writer, &target, NewRecord::data(envelope)).await.unwrap();
    let stored = bodies(&world.records(&session.id, Direction::In).await).join("");
    assert!(!stored.contains("webhook"), "{stored}");
    assert_eq!(world.runs_of(&session.id).await.len(), 2, "it booted a run");
    assert!(is_denied(&world.core.check_tail(&writer, &target).await));
    for append in [
        Append::one(NewRecord::trim(1)),
        Append { match_seq_num: Some(1), ..Append::one(NewRecord::data("x")) },
        Append { fencing_token: Some(FencingToken::default()), ..Append::one(NewRecord::data("x")) },
    ] {
        let request = AppendRequest { channel: target.clone(), append, boot: Boot::Default };
        let refused = world.core.append(&writer, request).await;
        assert!(matches!(refused, Err(Error::ConditionNeedsSecretKey)), "{refused:?}");
    }
}

#[tokio::test]
async fn revoking_public_tokens_revokes_what_was_handed_out_for_them() {
    let world = World::new().await;
    world.create("a").await;
    let browser = world.token(&["write:sessions:a"]);
    let mut tokens = Vec::new();
    for (caller, target) in [(&browser, input(&named("a"))), (&world.key, output(&named("a")))] {
        tokens.push(world.core.initialize_channel(caller, &target, None).await.unwrap().access_token);
    }
    world.clock.advance_ms(5);
    world.core.revoke_tokens(&world.key, Some(&named("a"))).await.unwrap();
    world.credentials.invalidate();
    let refused = world.core.authenticate(&tokens[0]).await;
    assert!(matches!(refused, Err(Error::Unauthenticated(_))), "{refused:?}");
    world.core.authenticate(&tokens[1]).await.unwrap();
}
