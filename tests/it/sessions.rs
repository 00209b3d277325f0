//! The life of a session over REST: one run at a time, named in every answer, and none for a session that is over.

use crate::support::rest::Rest;
use crate::support::worker::Worker;
use crate::support::{TestNode, create_request};
use serde_json::{Value, json};

fn new_session(name: &str) -> Value {
    json!({
        "type": "chat.agent", "externalId": name, "taskIdentifier": create_request(None).task_identifier,
        "triggerConfig": { "basePayload": { "message": "once", "messages": [1], "trigger": "submit-message", "keep": 1 } },
    })
}

async fn create(rest: &Rest, name: &str) -> Value {
    rest.post("/api/v1/sessions", new_session(name).to_string()).await.json()
}

/// What the audit says of the runs of a session, oldest first.
async fn audit(rest: &Rest, name: &str) -> Vec<(String, String)> {
    let runs = rest.get(&format!("/api/v1/sessions/{name}/runs")).await.json();
    let text = |run: &Value, key: &str| run[key].as_str().unwrap().to_owned();
    runs["data"].as_array().unwrap().iter().map(|run| (text(run, "reason"), text(run, "runId"))).collect()
}

async fn cancel(rest: &Rest, run: &Value) {
    let canceled = rest.post(&format!("/api/v2/runs/{}/cancel", run.as_str().unwrap()), "").await;
    assert_eq!(canceled.status, 200, "{}", canceled.text());
}

#[tokio::test]
async fn every_answer_names_the_current_run_by_the_id_that_callers_know() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let made = create(&rest, "chat").await;
    let (id, run) = (made["id"].as_str().unwrap(), &made["runId"]);
    assert!(run.as_str().unwrap().starts_with("run_"), "{run}");
    assert_eq!(create(&rest, "chat").await["runId"], *run);
    let by_id = format!("/api/v1/sessions/{id}");
    let answers = [
        made.clone(),
        rest.get(&by_id).await.json(),
        rest.get("/api/v1/sessions/chat").await.json(),
        rest.call("PATCH", &by_id, &[], r#"{"tags":["t"]}"#).await.json(),
        rest.get("/api/v1/sessions?filter[tags]=t").await.json()["data"][0].clone(),
        rest.post(&format!("{by_id}/close"), r#"{"reason":"one"}"#).await.json(),
        rest.post("/api/v1/sessions/chat/close", r#"{"reason":"two"}"#).await.json(),
        rest.get("/api/v1/sessions?filter[status]=ACTIVE,CLOSED").await.json()["data"][0].clone(),
    ];
    for answer in &answers {
        assert_eq!(answer["currentRunId"], *run, "{answer}");
    }
    assert_eq!(rest.get(&format!("/api/v3/runs/{}", run.as_str().unwrap())).await.json()["id"], *run);
}

#[tokio::test]
async fn the_first_appends_right_after_a_create_start_no_second_run() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let run = create(&rest, "chat").await["runId"].as_str().unwrap().to_owned();
    let appends = (0..8).map(|n| {
        let rest = rest.clone();
        tokio::spawn(async move { rest.post("/realtime/v1/sessions/chat/in/append", n.to_string()).await.status })
    });
    for append in appends.collect::<Vec<_>>() {
        assert_eq!(append.await.unwrap(), 200);
    }
    assert_eq!(audit(&rest, "chat").await, [("initial".into(), run)]);
}

#[tokio::test]
async fn a_session_that_is_over_is_refused_and_nothing_is_started_or_changed() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let made = create(&rest, "idle").await;
    cancel(&rest, &made["runId"]).await;
    create(&rest, "busy").await;
    for name in ["idle", "busy"] {
        rest.post(&format!("/api/v1/sessions/{name}/close"), "").await;
    }
    let mut expired = new_session("expired");
    expired["expiresAt"] = json!(1);
    assert_eq!(rest.post("/api/v1/sessions", expired.to_string()).await.status, 409, "born expired");
    for (name, state, mut request) in [
        ("idle", "closed", new_session("idle")),
        ("busy", "closed", new_session("busy")),
        ("expired", "expired", expired),
    ] {
        let row = rest.get(&format!("/api/v1/sessions/{name}")).await;
        request["triggerConfig"]["basePayload"]["keep"] = json!(2);
        let refused = rest.post("/api/v1/sessions", request.to_string()).await;
        let text = format!("Session is {state}; use a different externalId to create a new session");
        assert_eq!((refused.status, &refused.json()["error"]), (409, &json!(text)), "{name}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert_eq!(row.status, 200);
        assert_eq!(rest.get(&format!("/api/v1/sessions/{name}")).await.body, row.body);
    }
    assert_eq!((audit(&rest, "idle").await.len(), audit(&rest, "busy").await.len()), (1, 1));
    assert_eq!(audit(&rest, "expired").await.len(), 0, "the row is there, without a run");
}

#[tokio::test]
async fn a_continuation_starts_without_the_first_message_and_names_its_predecessor() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let made = create(&rest, "chat").await;
    cancel(&rest, &made["runId"]).await;
    rest.post("/realtime/v1/sessions/chat/in/append", "hello").await;
    let continued = rest.get("/api/v1/sessions/chat").await.json()["currentRunId"].as_str().unwrap().to_owned();
    let swap = json!({ "callingRunId": continued, "reason": "upgrade" }).to_string();
    let swapped = rest.post("/api/v1/sessions/chat/end-and-continue", swap.clone()).await.json();
    assert_eq!(swapped["swapped"], true);
    let lost = rest.post("/api/v1/sessions/chat/end-and-continue", swap).await.json();
    assert_eq!(lost, json!({ "runId": swapped["runId"], "swapped": false }), "the winner, and never the caller");

    let successor = swapped["runId"].as_str().unwrap();
    for (run, previous) in [(continued.as_str(), made["runId"].as_str().unwrap()), (successor, continued.as_str())] {
        let payload = rest.get(&format!("/api/v3/runs/{run}")).await.json()["payload"].clone();
        let expected = json!({ "keep": 1, "sessionId": made["id"], "continuation": true, "previousRunId": previous });
        assert_eq!(payload, expected);
    }
    let reasons: Vec<_> = audit(&rest, "chat").await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["initial", "continuation", "upgrade"]);
}

#[tokio::test]
async fn what_a_client_writes_is_a_string_and_what_a_run_writes_is_a_value() {
    let node = TestNode::start().await;
    let (rest, client) = (node.rest(), node.client().await);
    create(&rest, "chat").await;
    let texts = [r#"{"type":"trigger:turn-complete"}"#, r#""text""#, "text"];
    for text in texts {
        rest.post("/realtime/v1/sessions/chat/in/append", text).await;
    }
    let records = rest.get("/realtime/v1/sessions/chat/in/records").await.json();
    for (record, text) in records["records"].as_array().unwrap().iter().zip(texts) {
        assert_eq!(record["data"], json!(text), "never parsed");
    }
    for data in [r#"{"type":"text-delta"}"#, r#""{\"type\":\"text-delta\"}""#, "7"] {
        let body = format!(r#"{{"data":{data},"id":"p"}}"#);
        let seq_num = client.put_out("chat", crate::support::record(&[], &body)).await;
        let path = format!("/realtime/v1/sessions/chat/out/records?afterEventId={}", seq_num - 1);
        let listed = rest.get(&path).await;
        assert_eq!(listed.text(), format!(r#"{{"records":[{{"data":{data},"id":"p","seqNum":{seq_num}}}]}}"#));
    }
}

#[tokio::test]
async fn after_a_close_the_live_run_finishes_its_output_and_everybody_else_is_refused() {
    let node = TestNode::start_with(|config| config.worker.lease_ms = 600_000).await;
    let rest = node.rest();
    create(&rest, "chat").await;
    let run = Worker::connect(&node.client().await, 1).await.take().await;
    let as_run = node.rest_as(&run.run_token);
    rest.post("/api/v1/sessions/chat/close", r#"{"reason":"bye"}"#).await;
    let append = |io: &str| format!("/realtime/v1/sessions/chat/{io}/append");
    let (late_in, late_out) = (rest.post(&append("in"), "late").await, rest.post(&append("out"), "late").await);
    let text = "Cannot append to a closed session";
    let body = json!({ "ok": false, "error": text, "code": "session_closed", "closedReason": "bye" });
    assert_eq!((late_in.status, late_in.json(), late_in.header("x-should-retry")), (409, body, Some("false")));
    assert_eq!((late_out.status, late_out.json()), (400, json!({ "ok": false, "error": text })));

    let last_word = as_run.post(&append("out"), "good night").await;
    assert_eq!(last_word.status, 200, "{}", last_word.text());
    assert_eq!(as_run.post(&append("in"), "late").await.status, 409, "its input is closed for it, too");
    let out = rest.get("/realtime/v1/sessions/chat/out/records").await.json();
    assert_eq!(out["records"].as_array().unwrap().len(), 1);
    assert_eq!(out["records"][0]["data"], "good night");
}

#[tokio::test]
async fn a_subscriber_by_name_receives_what_comes_once_the_session_is_there() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let browser = node.rest_as(&crate::support::token::scoped(&["read:sessions:chat"]));
    let path = "/realtime/v1/sessions/chat/out";
    let mut readers = [rest.subscribe(path, &[]).await, browser.subscribe(path, &[]).await];
    for reader in &mut readers {
        assert_eq!(reader.status, 200);
        reader.is_held().await;
    }
    create(&rest, "chat").await;
    let seq = rest.post(&format!("{path}/append"), "hello").await.json()["seq"].clone();
    for reader in &mut readers {
        let record = loop {
            let record = reader.record().await;
            if record["headers"][0][0] != "" {
                break record;
            }
        };
        assert_eq!(record["seq_num"], seq);
        assert!(record["body"].as_str().unwrap().contains(r#""data":"hello""#), "{record}");
    }
}
