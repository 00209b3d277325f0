//! A worker takes a session's run, the run answers its client, and hands back its place.

use super::harness::{Node, bad_fields, by, channel, reason, record};
use continuo_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::Direction::In;
use v1::attach_request::Message as ToServer;
use v1::attach_response::Message as FromServer;
use v1::work_request::Message as Say;
use v1::work_response::Message as Hear;

pub(super) fn say(message: Say) -> v1::WorkRequest {
    v1::WorkRequest { message: Some(message) }
}

pub(super) fn hello() -> v1::WorkRequest {
    say(Say::Hello(v1::WorkerHello {
        worker_id: "w1".into(),
        task_identifiers: vec!["agent".into()],
        capacity: 2,
        ..Default::default()
    }))
}

pub(super) async fn hear(events: &mut Streaming<v1::WorkResponse>) -> Hear {
    loop {
        match events.message().await.unwrap().unwrap().message.unwrap() {
            Hear::Renewed(renewed) if renewed.leases.is_empty() => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn a_run_is_executed_from_hello_to_completed() {
    let node = Node::start().await;
    let made = node.create_session("chat").await;
    let question = v1::AppendRequest {
        channel: Some(channel("chat", In)),
        records: vec![record("question")],
        ..Default::default()
    };
    node.channels().append(node.key(question)).await.unwrap();

    let (worker, inbound) = mpsc::channel(8);
    let mut events = node.workers().work(node.key(ReceiverStream::new(inbound))).await.unwrap().into_inner();
    worker.send(hello()).await.unwrap();
    assert!(matches!(hear(&mut events).await, Hear::Welcome(_)));
    let Hear::Assignment(assignment) = hear(&mut events).await else { panic!("an assignment comes first") };
    let lease = v1::LeaseRef { run_id: made.run_id.clone(), lease: assignment.lease };
    assert_eq!((assignment.attempt_number, assignment.in_seq_num), (1, 0));
    assert_eq!(assignment.session.unwrap().external_id(), "chat");
    worker.send(say(Say::Started(v1::AttemptStarted { lease: Some(lease.clone()) }))).await.unwrap();

    // The run attaches the mirror image: it reads `.in` and writes `.out`.
    let (run, said) = mpsc::channel(8);
    let request = by(&assignment.run_token, ReceiverStream::new(said));
    let mut answers = node.channels().attach(request).await.unwrap().into_inner();
    let open = v1::AttachOpen { session: "chat".into(), ..Default::default() };
    run.send(v1::AttachRequest { message: Some(ToServer::Open(open)) }).await.unwrap();
    let batch = loop {
        match answers.message().await.unwrap().unwrap().message.unwrap() {
            FromServer::Batch(batch) => break batch,
            FromServer::Heartbeat(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(batch.records[0].body, "question");
    run.send(v1::AttachRequest { message: Some(ToServer::ReadSeqNum(1)) }).await.unwrap();
    let answer = v1::ChannelAppend { records: vec![record("answer")], ..Default::default() };
    run.send(v1::AttachRequest { message: Some(ToServer::Append(answer)) }).await.unwrap();
    drop(run);
    while answers.message().await.unwrap().is_some() {}
    assert_eq!(node.bodies(channel("chat", v1::Direction::Out)).await, ["answer"]);

    let done = v1::AttemptCompleted { lease: Some(lease), output: Some("1".into()), output_type: String::new() };
    worker.send(say(Say::Completed(done))).await.unwrap();
    drop(worker);
    assert!(events.message().await.unwrap().is_none(), "a worker that has said all is let go");
    let get = node.key(v1::GetRunRequest { run_id: made.run_id });
    let run = node.runs().get_run(get).await.unwrap().into_inner().run.unwrap();
    assert_eq!((run.status.as_str(), run.output(), run.output_type()), ("COMPLETED", "1", "application/json"));
    // It has said how far it read, so nothing is left for a continuation.
    let audit = node.key(v1::ListSessionRunsRequest { session: "chat".into() });
    assert_eq!(node.sessions().list_session_runs(audit).await.unwrap().into_inner().session_runs.len(), 1);
}

#[tokio::test]
async fn a_worker_says_hello_first_and_has_a_key() {
    let node = Node::start().await;
    let first = |message| ReceiverStream::new(filled(message));
    let drain = say(Say::Drain(v1::WorkerDrain {}));
    let mut events = node.workers().work(node.key(first(drain))).await.unwrap().into_inner();
    assert_eq!(bad_fields(&events.message().await.unwrap_err()), ["message"]);
    let token = node.create_session("chat").await.public_access_token;
    let mut events = node.workers().work(by(&token, first(hello()))).await.unwrap().into_inner();
    assert_eq!(reason(&events.message().await.unwrap_err()), "PERMISSION_DENIED");
}

fn filled(message: v1::WorkRequest) -> mpsc::Receiver<v1::WorkRequest> {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(message).unwrap();
    receiver
}
