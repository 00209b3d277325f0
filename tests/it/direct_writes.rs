//! Direct writes, as far as other promises lean on them: which number a writer is told, and who may still write after a close
//! or a hand-over.

use crate::support::rest::{Answer, Rest};
use crate::support::worker::Worker;
use crate::support::{TestNode, create_request};
use serde_json::{Value, json};

/// A stream that PUT of a channel handed out.
struct Stream {
    rest: Rest,
    path: String,
}

impl Stream {
    /// The reserved `.out` of `chat`, for this caller.
    async fn open(node: &TestNode, bearer: &str) -> Self {
        let put = node.rest_as(bearer).call("PUT", "/realtime/v1/sessions/chat/out", &[], "").await;
        assert_eq!(put.status, 202, "{}", put.text());
        let header = |name: &str| put.header(name).unwrap().to_owned();
        assert_eq!(header("x-s2-endpoint"), format!("{}/v1", node.url));
        let name = header("x-s2-stream-name").replace('/', "%2F");
        Self { rest: node.rest_as(&header("x-s2-access-token")), path: format!("/v1/streams/{name}/records") }
    }

    async fn append(&self, records: Value) -> Answer {
        let body = json!({ "records": records }).to_string();
        self.rest.call("POST", &self.path, &[("Content-Type", "application/json")], body).await
    }

    async fn data(&self, text: &str) -> u16 {
        self.append(json!([{ "body": json!({ "data": text, "id": text }).to_string() }])).await.status
    }

    async fn control(&self, subtype: &str) -> Answer {
        self.append(json!([{ "body": "", "headers": [["trigger-control", subtype]] }])).await
    }
}

async fn create(rest: &Rest) -> Value {
    let body = json!({
        "type": "chat.agent", "externalId": "chat", "taskIdentifier": create_request(None).task_identifier,
        "triggerConfig": { "basePayload": {} },
    });
    rest.post("/api/v1/sessions", body.to_string()).await.json()
}

/// Data and subtypes of `.out`, with their numbers.
async fn records(rest: &Rest) -> Vec<(String, u64)> {
    let listed = rest.get("/realtime/v1/sessions/chat/out/records").await.json();
    let text = |r: &Value| r["headers"][0][1].as_str().or(r["data"].as_str()).unwrap().to_owned();
    listed["records"].as_array().unwrap().iter().map(|r| (text(r), r["seqNum"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn a_writer_is_told_where_its_records_begin_and_end() {
    let node = TestNode::start().await;
    let rest = node.rest();
    create(&rest).await;
    let stream = Stream::open(&node, crate::support::KEY).await;
    let body = |n: u32| json!({ "body": json!({ "data": n.to_string(), "id": "p" }).to_string() });
    let position = |answer: &Answer, key: &str| answer.json()[key]["seq_num"].as_u64().unwrap();

    let three = stream.append(json!([body(1), body(2), body(3)])).await;
    let control = stream.control("turn-complete").await;
    let (last_of_three, of_control) = (position(&three, "end") - 1, position(&control, "start"));
    let stored = records(&rest).await;
    assert_eq!(stored[2], ("3".into(), last_of_three), "a stream's last event is the one before its end");
    assert_eq!(stored[3], ("turn-complete".into(), of_control), "a control record's is its start");
    assert_eq!(position(&control, "end"), of_control + 1);
    assert_eq!(position(&control, "tail"), of_control + 1);

    // That number is a cursor: what follows it comes next, and nothing else.
    let cursor = last_of_three.to_string();
    let headers = [("Last-Event-ID", cursor.as_str()), ("X-Peek-Settled", "1")];
    let mut read = rest.subscribe("/realtime/v1/sessions/chat/out", &headers).await;
    assert!(read.is_settled());
    let rest_of_it: Vec<_> = read.rest().await.iter().map(|r| r["seq_num"].as_u64().unwrap()).collect();
    assert_eq!(rest_of_it, [of_control]);
}

#[tokio::test]
async fn after_a_close_the_writers_of_the_current_run_finish_and_nobody_begins() {
    let node = TestNode::start_with(|config| config.worker.lease_ms = 600_000).await;
    let rest = node.rest();
    create(&rest).await;
    let run = Worker::connect(&node.client().await, 1).await.take().await;
    // A run that has its own token, and one that was given the environment's key.
    let (own, by_key) = (Stream::open(&node, &run.run_token).await, Stream::open(&node, crate::support::KEY).await);
    rest.post("/api/v1/sessions/chat/close", "{}").await;

    assert_eq!((own.data("own").await, by_key.data("by key").await), (200, 200));
    let refused = rest.call("PUT", "/realtime/v1/sessions/chat/out", &[], "").await;
    let text = "Cannot initialize a channel on a closed session";
    assert_eq!((refused.status, refused.text()), (400, text.to_owned()));
    assert_eq!(rest.post("/realtime/v1/sessions/chat/out/append", "late").await.status, 400);
    // Clients ask anew before each control record: its own run is still answered.
    assert_eq!(Stream::open(&node, &run.run_token).await.control("turn-complete").await.status, 200);

    let stored: Vec<_> = records(&rest).await.into_iter().map(|(text, _)| text).collect();
    assert_eq!(stored, ["own", "by key", "turn-complete"]);
}

#[tokio::test]
async fn a_run_that_was_superseded_or_canceled_has_lost_its_stream() {
    let node = TestNode::start_with(|config| config.worker.lease_ms = 600_000).await;
    let rest = node.rest();
    create(&rest).await;
    let mut worker = Worker::connect(&node.client().await, 2).await;
    let old = worker.take().await;
    let old_run = old.run.as_ref().unwrap().id.clone();
    let stream = Stream::open(&node, &old.run_token).await;
    assert_eq!(stream.data("mine").await, 200);
    let swap = json!({ "callingRunId": old_run, "reason": "upgrade" }).to_string();
    let swapped = rest.post("/api/v1/sessions/chat/end-and-continue", swap).await.json();
    assert_eq!(stream.data("late").await, 412);
    assert_eq!(stream.control("upgrade-required").await.status, 200, "its farewell passes");

    let new = Stream::open(&node, &worker.take().await.run_token).await;
    assert_eq!(new.data("hers").await, 200);
    assert_eq!(stream.control("turn-complete").await.status, 412, "and not after the successor has written");
    rest.post(&format!("/api/v2/runs/{}/cancel", swapped["runId"].as_str().unwrap()), "").await;
    assert_eq!((new.data("late").await, new.control("turn-complete").await.status), (412, 412));
    let stored: Vec<_> = records(&rest).await.into_iter().map(|(text, _)| text).collect();
    assert_eq!(stored, ["mine", "upgrade-required", "hers"]);
}
