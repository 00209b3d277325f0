//! The connected workers and the queues, as a client sees them.

use super::harness::{Node, bad_fields, by, reason};
use super::work::{hear, say};
use continuo_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::work_request::Message as Say;
use v1::work_response::Message as Hear;

/// A stream of a worker that the server has welcomed.
struct Connected {
    say: mpsc::Sender<v1::WorkRequest>,
    events: Streaming<v1::WorkResponse>,
}

async fn connect(node: &Node, worker_id: &str, version: &str) -> Connected {
    let (worker, inbound) = mpsc::channel(8);
    let hello = v1::WorkerHello {
        worker_id: worker_id.into(),
        version: version.into(),
        task_identifiers: vec!["agent".into(), "other".into()],
        capacity: 2,
        held_leases: Vec::new(),
    };
    worker.send(say(Say::Hello(hello))).await.unwrap();
    let mut events = node.workers().work(node.key(ReceiverStream::new(inbound))).await.unwrap().into_inner();
    assert!(matches!(hear(&mut events).await, Hear::Welcome(_)));
    Connected { say: worker, events }
}

async fn list(node: &Node, page_size: i32, page_token: &str) -> v1::ListWorkersResponse {
    let request = v1::ListWorkersRequest { page_size, page_token: page_token.into() };
    node.workers().list_workers(node.key(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn who_works_is_listed_until_its_stream_ends() {
    let node = Node::start().await;
    assert_eq!(list(&node, 0, "").await, v1::ListWorkersResponse::default());
    let run = node.create_session("chat").await.run_id;
    let mut first = connect(&node, "first", "v1").await;
    let Hear::Assignment(assignment) = hear(&mut first.events).await else { panic!("the session's run") };
    assert_eq!(assignment.run.unwrap().id, run);
    // Also within one millisecond: then the greater name comes first.
    let second = connect(&node, "second", "").await;

    let all = list(&node, 0, "").await;
    let [newer, older] = &all.workers[..] else { panic!("{all:?}") };
    assert_eq!((newer.worker_id.as_str(), newer.version.as_str(), newer.held_leases), ("second", "", 0));
    assert_eq!((older.worker_id.as_str(), older.version.as_str(), older.held_leases), ("first", "v1", 1));
    assert_eq!((older.capacity, older.task_identifiers.len(), older.is_draining), (2, 2, false));
    assert_eq!((older.connected_at, all.next_page_token.as_str()), (older.seen_at, ""));
    let page = list(&node, 1, "").await;
    let rest = list(&node, 1, &page.next_page_token).await;
    assert_eq!((&page.workers[0], &rest.workers[0]), (newer, older));
    assert_eq!(rest.next_page_token, "");

    second.say.send(say(Say::Drain(v1::WorkerDrain {}))).await.unwrap();
    let drains = async { while !list(&node, 0, "").await.workers[0].is_draining {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), drains).await.expect("that it drains is not noted");
    drop(first.say);
    while first.events.message().await.unwrap().is_some() {}
    let left = list(&node, 0, "").await.workers;
    assert_eq!((left.len(), left[0].worker_id.as_str()), (1, "second"), "when the stream has ended it is not there");
}

#[tokio::test]
async fn what_waits_is_counted_by_queue() {
    let node = Node::start().await;
    let queues = async |limit| {
        let request = v1::ListQueuesRequest { limit };
        node.runs().list_queues(node.key(request)).await.unwrap().into_inner()
    };
    assert_eq!(queues(0).await, v1::ListQueuesResponse::default());
    let trigger = async |queue: Option<&str>, delay_s| {
        let start = std::time::SystemTime::now() + std::time::Duration::from_secs(delay_s);
        let request = v1::TriggerRunRequest {
            task_identifier: "job".into(),
            payload: "1".into(),
            queue: queue.map(Into::into),
            delay_until: (delay_s > 0).then(|| start.into()),
            ..Default::default()
        };
        node.runs().trigger_run(node.key(request)).await.unwrap().into_inner().run.unwrap()
    };
    trigger(Some("mail"), 0).await;
    trigger(Some("mail"), 3_600).await;
    let first = trigger(None, 0).await;
    trigger(None, 0).await;

    let answer = queues(1_000).await;
    let [job, mail] = &answer.queues[..] else { panic!("{answer:?}") };
    assert_eq!((job.name.as_str(), job.pending, job.delayed), ("task/job", 2, 0));
    assert_eq!(job.oldest_pending_at, first.created_at);
    assert_eq!((mail.name.as_str(), mail.pending, mail.delayed), ("mail", 1, 1));
    let others = [mail.dequeued, mail.executing, mail.retrying, mail.waiting];
    assert_eq!((others, answer.has_more), ([0; 4], false));
    let one = queues(1).await;
    assert_eq!((one.queues.len(), one.queues[0].name.as_str(), one.has_more), (1, "task/job", true));
}

#[tokio::test]
async fn lists_for_keys_take_a_thousand_and_no_more() {
    let node = Node::start().await;
    for limit in [-1, 1_001, i32::MAX, i32::MIN] {
        let wrong = node.key(v1::ListQueuesRequest { limit });
        assert_eq!(bad_fields(&node.runs().list_queues(wrong).await.unwrap_err()), ["limit"], "{limit}");
        let wrong = node.key(v1::ListWorkersRequest { page_size: limit, page_token: "garbage".into() });
        let status = node.workers().list_workers(wrong).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["page_size", "page_token"], "{limit}");
    }
    for limit in [0, 1, 1_000] {
        assert!(list(&node, limit, "").await.workers.is_empty());
        node.runs().list_queues(node.key(v1::ListQueuesRequest { limit })).await.unwrap();
    }
    let token = node.create_session("chat").await.public_access_token;
    let workers = node.workers().list_workers(by(&token, v1::ListWorkersRequest::default())).await.unwrap_err();
    let queues = node.runs().list_queues(by(&token, v1::ListQueuesRequest::default())).await.unwrap_err();
    assert_eq!([reason(&workers), reason(&queues)], ["PERMISSION_DENIED"; 2]);
}

#[tokio::test]
async fn a_page_token_is_its_own_lists() {
    let node = Node::start().await;
    let (_one, _two) = (connect(&node, "one", "").await, connect(&node, "two", "").await);
    let token = list(&node, 1, "").await.next_page_token;
    assert!(!token.is_empty());
    let runs = v1::ListRunsRequest { page_token: token.clone(), ..Default::default() };
    assert_eq!(bad_fields(&node.runs().list_runs(node.key(runs)).await.unwrap_err()), ["page_token"]);
    let elsewhere = node.new_environment("other").await.root_key;
    let stolen = by(&elsewhere, v1::ListWorkersRequest { page_size: 1, page_token: token });
    assert_eq!(bad_fields(&node.workers().list_workers(stolen).await.unwrap_err()), ["page_token"]);
    let theirs = by(&elsewhere, v1::ListWorkersRequest::default());
    assert!(node.workers().list_workers(theirs).await.unwrap().into_inner().workers.is_empty());
}

#[tokio::test]
async fn a_version_is_short() {
    let node = Node::start().await;
    let _fits = connect(&node, "w", &"v".repeat(128)).await;
    let (worker, inbound) = mpsc::channel(1);
    let hello = v1::WorkerHello {
        worker_id: "w".into(),
        version: "v".repeat(129),
        task_identifiers: vec!["agent".into()],
        capacity: 1,
        held_leases: Vec::new(),
    };
    worker.send(say(Say::Hello(hello))).await.unwrap();
    let mut events = node.workers().work(node.key(ReceiverStream::new(inbound))).await.unwrap().into_inner();
    assert_eq!(bad_fields(&events.message().await.unwrap_err()), ["hello.version"]);
}
