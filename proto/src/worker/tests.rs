//! The loop against a server on a real connection. No test waits for a time to pass: each waits for what it expects.

mod fake;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::fake::{FakeServer, WorkStream, lease};
use super::{Outcome, RunContext, TaskError, Worker, WorkerError};
use crate::v1::work_request::Message as FromWorker;
use crate::v1::work_response::Message as ToWorker;
use crate::v1::*;

/// Long enough not to end in a test, with heartbeats often enough not to be waited for.
const LEASE_MS: u32 = 60_000;
const HEARTBEAT_MS: u32 = 20;

struct Started {
    shutdown: CancellationToken,
    handle: JoinHandle<Result<(), WorkerError>>,
    contexts: mpsc::Receiver<RunContext>,
}

/// A worker whose task hands its context to the test and does what the payload of the run says.
fn start(server: &FakeServer) -> Started {
    let (seen, contexts) = mpsc::channel(8);
    let shutdown = CancellationToken::new();
    let task = move |ctx: RunContext| {
        let seen = seen.clone();
        async move {
            seen.send(ctx.clone()).await?;
            perform(ctx).await
        }
    };
    let worker = Worker::builder(server.url(), "secret").worker_id("w").capacity(3).task("task", task);
    Started { handle: tokio::spawn(worker.run(shutdown.clone())), shutdown, contexts }
}

async fn perform(ctx: RunContext) -> Result<Outcome, TaskError> {
    match ctx.run_id() {
        "run_panics" => panic!("something is wrong"),
        "run_fails" => Err(TaskError::new("no").into_final()),
        "run_suspends" => Ok(Outcome::Suspended),
        "run_reads" => {
            ctx.note_read(7);
            Ok(Outcome::Completed(None))
        }
        "run_waits" => {
            ctx.revoked().cancelled().await;
            Ok(Outcome::Completed(None))
        }
        "run_stops" => {
            ctx.stop_requested().cancelled().await;
            Ok(Outcome::Completed(None))
        }
        "run_drains" => {
            ctx.draining().cancelled().await;
            Ok(Outcome::Completed(None))
        }
        _ => Ok(Outcome::Completed(Some("42".to_owned()))),
    }
}

async fn expect_started(stream: &mut WorkStream, run_id: &str, number: u64) {
    let started = AttemptStarted { lease: Some(lease(run_id, number)) };
    assert_eq!(stream.hear().await, Some(FromWorker::Started(started)));
}

#[tokio::test]
async fn an_assignment_is_started_executed_and_completed() {
    let mut server = FakeServer::start().await;
    let worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    assert_eq!((stream.hello.worker_id.as_str(), stream.hello.capacity), ("w", 3));
    assert_eq!(stream.hello.task_identifiers, ["task"]);
    stream.assign("run_1", 5).await;
    expect_started(&mut stream, "run_1", 5).await;
    let Some(FromWorker::Completed(completed)) = stream.hear().await else { panic!("not completed") };
    assert_eq!((completed.lease, completed.output.as_deref()), (Some(lease("run_1", 5)), Some("42")));

    // The end is named until the server says that the lease is over.
    assert_eq!(stream.hear_heartbeat().await, [lease("run_1", 5)]);
    let over = LeaseRevoked { lease: Some(lease("run_1", 5)), reason: "LEASE_EXPIRED".to_owned() };
    stream.say(ToWorker::Revoked(over)).await;
    while !stream.hear_heartbeat().await.is_empty() {}

    worker.shutdown.cancel();
    assert_eq!(stream.hear().await, Some(FromWorker::Drain(WorkerDrain {})));
    assert_eq!(stream.hear().await, None);
    drop(stream);
    worker.handle.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_resumed_run_announces_no_start_and_a_suspended_one_gives_its_place_back() {
    let mut server = FakeServer::start().await;
    let _worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    let resumed_by = Some(Waitpoint::default());
    stream.say(ToWorker::Assignment(Assignment { resumed_by, ..fake::assignment("run_suspends", 9) })).await;
    let suspended = AttemptSuspended { lease: Some(lease("run_suspends", 9)) };
    assert_eq!(stream.hear().await, Some(FromWorker::Suspended(suspended)));
}

#[tokio::test]
async fn a_panic_and_an_error_are_failed_attempts() {
    let mut server = FakeServer::start().await;
    let _worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_panics", 1).await;
    expect_started(&mut stream, "run_panics", 1).await;
    let Some(FromWorker::Failed(failed)) = stream.hear().await else { panic!("not failed") };
    let error = failed.error.unwrap();
    assert_eq!((error.name.as_str(), error.message.as_str()), ("Panic", "something is wrong"));
    assert!(!failed.is_final);

    stream.assign("run_fails", 2).await;
    expect_started(&mut stream, "run_fails", 2).await;
    let Some(FromWorker::Failed(failed)) = stream.hear().await else { panic!("not failed") };
    assert!(failed.is_final && failed.error.unwrap().message == "no");
}

#[tokio::test]
async fn a_revoked_lease_cancels_its_run_and_is_not_reported() {
    let mut server = FakeServer::start().await;
    let mut worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_waits", 1).await;
    let ctx = worker.contexts.recv().await.unwrap();
    let revoked = LeaseRevoked { lease: Some(lease("run_waits", 1)), reason: "CANCELED".to_owned() };
    stream.say(ToWorker::Revoked(revoked)).await;
    ctx.revoked().cancelled().await;
    expect_started(&mut stream, "run_waits", 1).await;
    // The next message is about another run.
    stream.assign("run_2", 2).await;
    expect_started(&mut stream, "run_2", 2).await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_here_too() {
    let mut server = FakeServer::start().await;
    let mut worker = start(&server);
    let stream = server.welcome(50, HEARTBEAT_MS).await;
    stream.assign("run_waits", 1).await;
    let ctx = worker.contexts.recv().await.unwrap();
    ctx.revoked().cancelled().await;
}

#[tokio::test]
async fn a_stop_request_reaches_the_run() {
    let mut server = FakeServer::start().await;
    let _worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_stops", 1).await;
    expect_started(&mut stream, "run_stops", 1).await;
    stream.say(ToWorker::Stop(StopRequested { lease: Some(lease("run_stops", 1)), grace_ms: 30_000 })).await;
    assert!(matches!(stream.hear().await, Some(FromWorker::Completed(_))));
}

#[tokio::test]
async fn the_read_position_comes_before_the_end() {
    let mut server = FakeServer::start().await;
    let _worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_reads", 1).await;
    expect_started(&mut stream, "run_reads", 1).await;
    let position = ReadPosition { lease: Some(lease("run_reads", 1)), seq_num: 7 };
    assert_eq!(stream.hear().await, Some(FromWorker::ReadPosition(position)));
    assert!(matches!(stream.hear().await, Some(FromWorker::Completed(_))));
}

#[tokio::test]
async fn a_reconnect_keeps_leases_and_repeats_what_may_be_lost() {
    let mut server = FakeServer::start().await;
    let mut worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_waits", 1).await;
    stream.assign("run_2", 2).await;
    let ctx = worker.contexts.recv().await.unwrap();
    while !matches!(stream.hear().await, Some(FromWorker::Completed(_))) {}
    stream.fail(Status::unavailable("stopping")).await;

    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    let mut held = stream.hello.held_leases.clone();
    held.sort_by_key(|lease| lease.lease);
    assert_eq!(held, [lease("run_waits", 1), lease("run_2", 2)]);
    assert_eq!(stream.hello.worker_id, "w");
    let mut repeated = vec![stream.hear().await.unwrap(), stream.hear().await.unwrap(), stream.hear().await.unwrap()];
    repeated.retain(|message| matches!(message, FromWorker::Completed(_)));
    assert_eq!(repeated.len(), 1, "two starts that were never renewed, and the end");
    assert!(!ctx.revoked().is_cancelled());
}

#[tokio::test]
async fn a_renewal_refreshes_the_token_and_pipelined_output_survives_a_broken_stream() {
    let mut server = FakeServer::start().await;
    let mut worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_waits", 1).await;
    let ctx = worker.contexts.recv().await.unwrap();
    assert_eq!(ctx.request(()).metadata().get("authorization").unwrap(), "Bearer token-1");

    let writing = tokio::spawn({
        let ctx = ctx.clone();
        async move {
            let mut out = ctx.out_writer();
            for body in ["a", "b"] {
                out.send(NewRecord { headers: vec![], body: body.into() }).await?;
            }
            out.finish().await
        }
    });
    let mut produce = server.produce.recv().await.unwrap();
    assert_eq!(produce.authorization, "Bearer token-1");
    let first = append(produce.up.message().await.unwrap().unwrap());
    let second = append(produce.up.message().await.unwrap().unwrap());
    assert_ne!(first.part_id, second.part_id);
    produce.down.send(Ok(ack(1))).await.unwrap();

    assert_eq!(stream.hear_heartbeat().await, [lease("run_waits", 1)]);
    let renewed =
        RenewedLease { lease: Some(lease("run_waits", 1)), run_token: "token-2".to_owned(), ..Default::default() };
    stream.say(ToWorker::Renewed(LeasesRenewed { leases: vec![renewed] })).await;
    let mut token = ctx.shared.token.clone();
    token.wait_for(|token| token == "Bearer token-2").await.unwrap();

    produce.down.send(Err(Status::unavailable("gone"))).await.unwrap();
    let mut produce = server.produce.recv().await.unwrap();
    assert_eq!(produce.authorization, "Bearer token-2");
    let again = append(produce.up.message().await.unwrap().unwrap());
    assert_eq!(again, second, "only what was not acknowledged, under the same part id");
    produce.down.send(Ok(ack(2))).await.unwrap();
    assert_eq!(writing.await.unwrap().unwrap().unwrap().seq_num, 2);
}

#[tokio::test]
async fn a_shutdown_lets_runs_end() {
    let mut server = FakeServer::start().await;
    let worker = start(&server);
    let mut stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_drains", 1).await;
    expect_started(&mut stream, "run_drains", 1).await;
    worker.shutdown.cancel();
    // The run may be as quick as the loop: either may come first.
    let heard = [stream.hear().await.unwrap(), stream.hear().await.unwrap()];
    assert!(heard.contains(&FromWorker::Drain(WorkerDrain {})));
    assert!(heard.iter().any(|message| matches!(message, FromWorker::Completed(_))));
    assert_eq!(stream.hear().await, None);
    drop(stream);
    worker.handle.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_drops_runs_after_the_grace() {
    let mut server = FakeServer::start().await;
    let (seen, mut contexts) = mpsc::channel(1);
    let task = move |ctx: RunContext| {
        let seen = seen.clone();
        async move {
            seen.send(ctx).await?;
            std::future::pending().await
        }
    };
    let shutdown = CancellationToken::new();
    let worker = Worker::builder(server.url(), "secret").drain_grace(std::time::Duration::ZERO).task("task", task);
    let handle = tokio::spawn(worker.run(shutdown.clone()));
    let stream = server.welcome(LEASE_MS, HEARTBEAT_MS).await;
    stream.assign("run_1", 1).await;
    let ctx = contexts.recv().await.unwrap();
    shutdown.cancel();
    handle.await.unwrap().unwrap();
    assert!(ctx.revoked().is_cancelled());
}

#[tokio::test]
async fn a_refused_worker_gives_up() {
    let server = FakeServer::start().await;
    let worker = Worker::builder(server.url(), "wrong").task("task", perform);
    let error = worker.run(CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, WorkerError::Refused(_)), "{error}");
}

fn append(request: ProduceRequest) -> ChannelAppend {
    match request.message {
        Some(produce_request::Message::Append(append)) => append,
        other => panic!("no append: {other:?}"),
    }
}

fn ack(next: u64) -> ProduceResponse {
    let end = Some(Position { seq_num: next, timestamp_ms: 0 });
    ProduceResponse { ack: Some(AppendResponse { end, ..Default::default() }) }
}
