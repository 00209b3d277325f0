//! A run waits for input, on the wire: registered before or after the record, for every environment its own.

use crate::support::rest::Rest;
use crate::support::{KEY, OTHER_KEY, TestNode};
use serde_json::{Value, json};

const IN: &str = "/realtime/v1/sessions/chat/in/append";

async fn create(rest: &Rest) -> Value {
    let body = json!({
        "type": "chat.agent", "externalId": "chat", "taskIdentifier": "nobody", "triggerConfig": { "basePayload": {} },
    });
    let made = rest.post("/api/v1/sessions", body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

/// A run of no session; with the words of a client that thinks in streams of an older kind.
async fn run(rest: &Rest, streams: &str) -> String {
    let headers = [("x-trigger-realtime-streams-version", streams)];
    let made = rest.call("POST", "/api/v1/tasks/waiter/trigger", &headers, "{}").await;
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn wait(rest: &Rest, run: &str, more: Value) -> String {
    let mut body = json!({ "session": "chat", "io": "in" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = rest.post(&format!("/api/v1/runs/{run}/session-streams/wait"), body.to_string()).await;
    assert_eq!((answer.status, &answer.json()["isCached"]), (200, &json!(false)), "{}", answer.text());
    answer.json()["waitpointId"].as_str().unwrap().to_owned()
}

async fn say(rest: &Rest, text: &str, part_id: &str) -> u64 {
    let answer = rest.call("POST", IN, &[("X-Part-Id", part_id)], text.to_owned()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["seq"].as_u64().unwrap()
}

/// Status and output of a waitpoint.
async fn state(rest: &Rest, waitpoint: &str) -> (String, Value) {
    let item = rest.get(&format!("/api/v1/waitpoints/tokens/{waitpoint}")).await.json();
    (item["status"].as_str().unwrap().to_owned(), item["output"].clone())
}

fn waiting() -> (String, Value) {
    ("WAITING".into(), Value::Null)
}

fn completed(output: &str) -> (String, Value) {
    ("COMPLETED".into(), json!(output))
}

#[tokio::test]
async fn a_record_that_is_there_completes_the_wait_whatever_streams_the_run_itself_has() {
    let node = TestNode::start().await;
    let rest = node.rest();
    create(&rest).await;
    say(&rest, "zero", "p0").await;
    say(&rest, r#"{"one":1}"#, "p1").await;
    for streams in ["v2", "v1"] {
        let run = run(&rest, streams).await;
        for (last, expected) in [
            (json!({}), completed("zero")),
            (json!({ "lastSeqNum": 0 }), completed(r#"{"one":1}"#)),
            (json!({ "lastSeqNum": 1 }), waiting()),
        ] {
            let waitpoint = wait(&rest, &run, last.clone()).await;
            assert_eq!(state(&rest, &waitpoint).await, expected, "{streams} {last}");
        }
    }
}

#[tokio::test]
async fn all_waiters_wake_with_the_raw_text_when_the_append_is_acknowledged_and_a_repeat_wakes_nobody() {
    let node = TestNode::start().await;
    let rest = node.rest();
    create(&rest).await;
    let run = run(&rest, "v2").await;
    let mut waits = Vec::new();
    for timeout in [json!({}), json!({ "timeout": "7d" }), json!({ "timeout": "2s" }), json!({ "timeout": "nonsense" })]
    {
        waits.push(wait(&rest, &run, timeout).await);
    }
    let first = say(&rest, r#"{"kind":"message"}"#, "p").await;
    for waitpoint in &waits {
        assert_eq!(state(&rest, waitpoint).await, completed(r#"{"kind":"message"}"#));
    }
    let next = wait(&rest, &run, json!({ "lastSeqNum": first })).await;
    assert_eq!(say(&rest, r#"{"kind":"message"}"#, "p").await, first);
    assert_eq!(state(&rest, &next).await, waiting());
    say(&rest, "news", "q").await;
    assert_eq!(state(&rest, &next).await, completed("news"));
}

#[tokio::test]
async fn the_same_name_elsewhere_wakes_nobody_here() {
    let node = TestNode::start().await;
    let (ours, theirs) = (node.rest_as(KEY), node.rest_as(OTHER_KEY));
    create(&theirs).await;
    // Ours comes before its session does.
    let our_wait = wait(&ours, &run(&ours, "v2").await, json!({})).await;
    let their_wait = wait(&theirs, &run(&theirs, "v2").await, json!({})).await;
    say(&theirs, "theirs", "p").await;
    assert_eq!(state(&theirs, &their_wait).await, completed("theirs"));
    assert_eq!(state(&ours, &our_wait).await, waiting());
    create(&ours).await;
    say(&theirs, "theirs again", "q").await;
    assert_eq!(state(&ours, &our_wait).await, waiting());
    say(&ours, "ours", "p").await;
    assert_eq!(state(&ours, &our_wait).await, completed("ours"));
    let foreign = ours.get(&format!("/api/v1/waitpoints/tokens/{their_wait}")).await;
    assert_eq!(foreign.status, 404);
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_said() {
    let node = TestNode::start().await;
    let rest = node.rest();
    let run = run(&rest, "v2").await;
    let refused = async |run: &str, session: &str| {
        let body = json!({ "session": session, "io": "in" }).to_string();
        let answer = rest.post(&format!("/api/v1/runs/{run}/session-streams/wait"), body).await;
        (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(&run, "session_missing").await, (404, "Session not found".into()));
    assert_eq!(refused("run_missing", "chat").await, (404, "Run not found".into()));
    let suspended = rest.post(&format!("/engine/v1/runs/{run}/waitpoints/tokens/waitpoint_missing/wait"), "").await;
    assert_eq!((suspended.status, &suspended.json()["error"]), (404, &json!("Waitpoint not found")));
}
