//! The run token that SDKs take: a run in its own session, a key elsewhere.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::{Direction, NewRecord};
use continuo_domain::principal::Principal;
use continuo_domain::run::RunReason;
use continuo_usecases::{Attach, EndAndContinue};

async fn as_sdk(world: &World, run: &RunningRun) -> Principal {
    let token = run.assigned.tokens.sdk_run_token.clone().unwrap();
    world.core.authenticate(&token).await.unwrap()
}

#[tokio::test]
async fn in_its_own_session_it_is_fenced_as_the_run() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = world.start_run().await;
    let sdk = as_sdk(&world, &run).await;
    let out = output(&named("a"));
    world.core.append(&sdk, text(out.clone(), "one")).await.unwrap();
    let direct = world.core.initialize_channel(&sdk, &out, None).await.unwrap();
    let direct = world.core.authenticate(&direct.access_token).await.unwrap();
    world.core.append(&direct, text(out.clone(), "two")).await.unwrap();
    let hand_over = EndAndContinue {
        session: named("a"),
        calling_run: run.id(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    };
    world.core.end_and_continue(&sdk, hand_over).await.unwrap();
    for late in [&sdk, &direct] {
        let refused = world.core.append(late, text(out.clone(), "late")).await;
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(bodies(&world.records(&created.session.id, Direction::Out).await), ["one", "two"]);
}

#[tokio::test]
async fn elsewhere_it_does_what_a_key_does() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let sdk = as_sdk(&world, &run).await;
    let other = world.core.create_session(&sdk, new_session(Some("b"))).await.unwrap().session;
    world.core.append(&sdk, text(input(&named("b")), "hello")).await.unwrap();
    world.core.append(&sdk, append(output(&named("b")), NewRecord::data("x"))).await.unwrap();
    world.core.check_tail(&sdk, &input(&named("b"))).await.unwrap();
    world.core.close_session(&sdk, &named("a"), None, Some(&run.id())).await.unwrap();
    assert_eq!(bodies(&world.records(&other.id, Direction::In).await), ["hello"]);
    // It would read the other session's input in its own session's name.
    let attach = Attach {
        session: named("b"),
        name: None,
        from: continuo_domain::channel::ReadFrom::seq_num(0),
        skip_commands: false,
        heartbeat_ms: 0,
    };
    assert!(matches!(world.core.attach(&sdk, attach).await.err(), Some(Error::PermissionDenied)));
}

#[tokio::test]
async fn it_lives_long_enough_to_be_used_and_comes_anew_with_each_heartbeat() {
    let world = World::new().await;
    world.create("a").await;
    let mut worker = world.worker(1).await;
    let assigned = worker.assigned().await;
    worker.start(&assigned.lease).await;
    let first = assigned.tokens.sdk_run_token.unwrap();
    worker.send(continuo_usecases::WorkerMessage::Heartbeat(vec![assigned.lease]));
    let renewed = worker.renewed().await.pop().unwrap().1.sdk_run_token.unwrap();
    for token in [&first, &renewed] {
        assert!(world.core.authenticate(token).await.unwrap().run().is_some());
    }
    world.clock.advance_ms(i64::from(assigned.lease_ms) + 20 * 60_000);
    assert!(matches!(world.core.authenticate(&first).await, Err(Error::Unauthenticated(_))));
}

#[tokio::test]
async fn a_worker_with_less_than_the_root_key_gets_none() {
    let world = World::new().await;
    world.create("a").await;
    let key = world.additional_key(&["write:tasks"]).await;
    let mut worker = TestWorker::connect(&world.core, &key, &[TASK], 1, Vec::new()).await;
    let assigned = worker.assigned().await;
    assert_eq!(assigned.tokens.sdk_run_token, None);
    let run = world.core.authenticate(&assigned.tokens.run_token).await.unwrap();
    let refused = world.core.create_session(&run, new_session(Some("b"))).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
}
