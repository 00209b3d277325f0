//! A deleted session leaves nothing behind: no channel, no run that waits for ever.

use crate::support::*;
use continuo_domain::channel::{Append, ChannelKey, Direction, NewRecord};
use continuo_domain::run::{NewRun, RunReason, RunStatus};
use continuo_domain::waitpoint::Completion;
use continuo_domain::{Error, SessionId};
use continuo_ports::ChannelStore;
use continuo_usecases::{Batch, Boot, EndAndContinue, NewManualWaitpoint, StreamAppend, WaitOnChannel};

async fn delete(world: &World) {
    world.core.delete_session(&world.key, &named("a")).await.unwrap();
}

async fn has_no_channels(world: &World, session: &SessionId) {
    for direction in [Direction::In, Direction::Out] {
        let tail = world.log.tail(&ChannelKey::reserved(session.clone(), direction)).await.unwrap();
        assert_eq!(tail.position.seq_num, 0, "{direction:?}");
    }
}

#[tokio::test]
async fn a_stream_of_appends_does_not_write_to_it_any_more() {
    let world = World::new().await;
    let session = world.create("a").await.session.id;
    let producer = world.core.open_producer(&world.key, input(&named("a"))).await.unwrap();
    delete(&world).await;
    let late = StreamAppend { append: Append::one(NewRecord::data("late")), boot: Boot::Default };
    assert!(matches!(producer.append(Batch::of(late)).await, Err(Error::SessionNotFound)));
    has_no_channels(&world, &session).await;
}

#[tokio::test]
async fn a_run_that_handed_over_before_and_ends_after_makes_no_channel_anew() {
    let world = World::new().await;
    let session = world.create("a").await.session.id;
    let mut old = world.start_run().await;
    let request = EndAndContinue {
        session: named("a"),
        calling_run: old.id(),
        reason: RunReason::Manual,
        external_deployment_id: None,
    };
    assert!(world.core.end_and_continue(&world.key, request).await.unwrap().swapped);
    delete(&world).await;
    let lease = old.lease();
    old.worker.fail(&lease, false).await;
    assert_eq!(world.status(&old.id()).await, RunStatus::CompletedWithErrors);
    has_no_channels(&world, &session).await;
}

#[tokio::test]
async fn a_run_of_another_session_that_is_suspended_on_it_goes_on() {
    let world = World::new().await;
    world.create("a").await;
    let id = world.core.new_run_id();
    let run = NewRun::of_task(id.clone(), world.key.environment.clone(), "other", "{}".into());
    world.core.trigger_run(&world.key, run, None).await.unwrap();
    let mut worker = TestWorker::connect(&world.core, &world.key, &["other"], 1, Vec::new()).await;
    let lease = worker.assigned().await.lease;
    worker.start(&lease).await;
    let wait = WaitOnChannel {
        run: id.clone(),
        session: named("a"),
        direction: Direction::In,
        last_seq_num: None,
        waitpoint: NewManualWaitpoint::default(),
    };
    let waitpoint = world.core.wait_on_channel(&world.key, wait).await.unwrap().row;
    world.core.suspend(&world.key, &id, &waitpoint.id, None).await.unwrap();
    worker.send(continuo_usecases::WorkerMessage::Suspended(lease));
    delete(&world).await;
    let resumed_by = worker.assigned().await.assignment.resumed_by.expect("the wait that is over");
    assert_eq!(resumed_by.completion, Some(Completion::session_deleted()));
}
