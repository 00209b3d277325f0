//! What the state of a session refuses, and which refusals an SDK must not repeat.

use super::{ORIGIN, assert_readable, assert_refused};
use crate::support::http::{Answer, Request};
use crate::support::routes::World;
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

async fn call(node: &TestNode, method: &str, path: &str, body: &str) -> Answer {
    Request::new(method, path).bearer(KEY).header("Origin", ORIGIN).body(body).send(&node.url).await
}

fn create_body(name: &str, more: &str) -> String {
    format!(
        r#"{{"type":"t","externalId":"{name}","taskIdentifier":"task","triggerConfig":{{"basePayload":{{}}}}{more}}}"#
    )
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

fn not_ok(text: &str) -> Value {
    json!({ "ok": false, "error": text })
}

/// Refusals of a session that takes no more; `what` is `closed` or `expired`.
async fn assert_over(node: &TestNode, name: &str, run: &str, what: &str, append_in: (u16, Value, Option<&str>)) {
    let again = call(node, "POST", "/api/v1/sessions", &create_body(name, "")).await;
    let text = format!("Session is {what}; use a different externalId to create a new session");
    assert_refused("create", &again, 409, &error(&text));
    assert_eq!(again.retry(), Some("false"));

    let a = if what == "closed" { "a closed" } else { "an expired" };
    let body = format!(r#"{{"callingRunId":"{run}","reason":"manual"}}"#);
    let swap = call(node, "POST", &format!("/api/v1/sessions/{name}/end-and-continue"), &body).await;
    assert_refused("end-and-continue", &swap, 400, &error(&format!("Cannot end-and-continue {a} session")));

    let channel = |io: &str| format!("/realtime/v1/sessions/{name}/{io}");
    let input = call(node, "POST", &channel("in/append"), "x").await;
    assert_refused("append to in", &input, append_in.0, &append_in.1);
    assert_eq!(input.retry(), append_in.2);
    let refusal = not_ok(&format!("Cannot append to {a} session"));
    for io in ["out/append", "channels/tools/in/append", "channels/tools/out/append"] {
        assert_refused(io, &call(node, "POST", &channel(io), "x").await, 400, &refusal);
    }
}

#[tokio::test]
async fn a_closed_session() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "closed").await;
    world.json("POST", "/api/v1/sessions/closed/close", r#"{"reason":"done"}"#).await;
    let conversation = json!({ "ok": false, "error": "Cannot append to a closed session", "code": "session_closed",
        "closedReason": "done" });
    assert_over(&node, "closed", &world.run, "closed", (409, conversation, Some("false"))).await;
    for io in ["in", "out", "channels/tools/in"] {
        let answer = call(&node, "PUT", &format!("/realtime/v1/sessions/closed/{io}"), "").await;
        let said = (answer.status, answer.text());
        assert_eq!(said, (400, "Cannot initialize a channel on a closed session".to_owned()), "{io}");
        assert_readable(io, &answer);
    }
    // Closed without a reason says so.
    World::build(&node.url, KEY, "silent").await.json("POST", "/api/v1/sessions/silent/close", "").await;
    let answer = call(&node, "POST", "/realtime/v1/sessions/silent/in/append", "x").await;
    assert_eq!(answer.json()["closedReason"], Value::Null);
    // What may still be done: read, look, change the labels.
    for (method, path, body) in [
        ("GET", "/api/v1/sessions/closed", ""),
        ("PATCH", "/api/v1/sessions/closed", r#"{"tags":["x"]}"#),
        ("POST", "/api/v1/sessions/closed/close", "{}"),
        ("GET", "/realtime/v1/sessions/closed/in/records", ""),
    ] {
        assert_eq!(call(&node, method, path, body).await.status, 200, "{method} {path}");
    }
}

#[tokio::test]
async fn an_expired_session() {
    let node = TestNode::start().await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + 300;
    let body = create_body("expired", &format!(r#","expiresAt":{soon}"#));
    let made = call(&node, "POST", "/api/v1/sessions", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let run = made.json()["runId"].as_str().unwrap().to_owned();
    let expired =
        async || call(&node, "GET", "/api/v1/sessions?filter[status]=EXPIRED", "").await.json()["data"].clone();
    while expired().await == json!([]) {}
    let refusal = (400, not_ok("Cannot append to an expired session"), None);
    assert_over(&node, "expired", &run, "expired", refusal).await;
}

#[tokio::test]
async fn names_that_are_taken_or_reserved() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "first").await;
    World::build(&node.url, KEY, "second").await;
    let rename = async |to: &str| {
        call(&node, "PATCH", "/api/v1/sessions/second", &json!({ "externalId": to }).to_string()).await
    };
    let taken = rename("first").await;
    let text = "A session with this externalId already exists in this environment";
    assert_refused("taken", &taken, 409, &error(text));
    assert_eq!(taken.retry(), Some("false"));
    let prefix = "externalId cannot start with 'session_' (reserved prefix for internal friendlyIds)";
    let ending = "externalId cannot contain \":channels:\" or end in \":out\" or \":in\"";
    for (name, text) in
        [("session_x", prefix), (" session_x", prefix), ("a:in", ending), ("a:out", ending), ("a:channels:b", ending)]
    {
        assert_refused(name, &rename(name).await, 422, &error(text));
        let made = call(&node, "POST", "/api/v1/sessions", &create_body(name, "")).await;
        assert_refused(name, &made, 422, &error(text));
    }
}

#[tokio::test]
async fn a_part_id_with_another_body() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "parts").await;
    for io in ["in", "out", "channels/tools/in"] {
        let append = async |body: &str| {
            let request = Request::new("POST", &format!("/realtime/v1/sessions/parts/{io}/append")).bearer(KEY);
            request.header("Origin", ORIGIN).header("X-Part-Id", "p:1").body(body).send(&node.url).await
        };
        let first = append("a").await;
        assert_eq!((append("a").await.json(), first.status), (first.json(), 200));
        let refused = append("b").await;
        assert_eq!((refused.status, refused.retry()), (409, Some("false")));
        let body = refused.json();
        assert_eq!((&body["ok"], &body["code"]), (&json!(false), &json!("part_id_reused")));
        assert_readable(io, &refused);
    }
}

#[tokio::test]
async fn runs_and_tokens() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "runs").await;
    let swap = r#"{"callingRunId":"run_missing","reason":"manual"}"#;
    let answer = call(&node, "POST", "/api/v1/sessions/runs/end-and-continue", swap).await;
    assert_refused("swap", &answer, 404, &error("callingRunId not found in this environment"));
    let eleven = json!({ "tags": (0..11).map(|n| n.to_string()).collect::<Vec<_>>() });
    let text = "Waitpoints can only have 10 tags, you're trying to set 11.";
    let created = call(&node, "POST", "/api/v1/waitpoints/tokens", &eleven.to_string()).await;
    assert_refused("token", &created, 422, &error(text));
    let mut wait = json!({ "session": "runs", "io": "in" });
    wait["tags"] = eleven["tags"].clone();
    let path = format!("/api/v1/runs/{}/session-streams/wait", world.run);
    assert_refused("wait", &call(&node, "POST", &path, &wait.to_string()).await, 422, &error(text));
    let missing = call(&node, "POST", &path, r#"{"session":"session_missing","io":"in"}"#).await;
    assert_refused("wait", &missing, 404, &error("Session not found"));
    let suspend = format!("/engine/v1/runs/{}/waitpoints/tokens/waitpoint_missing/wait", world.run);
    assert_refused("suspend", &call(&node, "POST", &suspend, "").await, 404, &error("Waitpoint not found"));
    let scopes = r#"{"scopes":[]}"#;
    let none = call(&node, "POST", "/api/v1/auth/public-tokens", scopes).await;
    assert_eq!(none.status, 400, "{}", none.text());
}
