//! Bodies that are JSON and say the wrong thing: `Validation error: <message> at "<field.path>"`, every problem at once.

use super::{ORIGIN, assert_refused};
use crate::support::http::Answer;
use crate::support::http::Request;
use crate::support::routes::World;
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};

async fn send(node: &TestNode, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::new(method, path).bearer(KEY).header("Origin", ORIGIN);
    request.body(body.to_string()).send(&node.url).await
}

/// A create body with more in it, or a part of it replaced.
fn create(more: Value) -> Value {
    let mut body = json!({ "type": "t", "taskIdentifier": "task", "triggerConfig": { "basePayload": {} } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn config(more: Value) -> Value {
    let mut config = json!({ "basePayload": {} });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    create(json!({ "triggerConfig": config }))
}

fn texts(n: usize, chars: usize) -> Vec<String> {
    (0..n).map(|i| format!("{i:0>chars$}")).collect()
}

#[tokio::test]
async fn of_a_create() {
    let node = TestNode::start().await;
    let long = |n: usize| "é".repeat(n);
    let rows = [
        (json!({}), r#"Required at "type"; Required at "taskIdentifier"; Required at "triggerConfig""#),
        (create(json!({ "triggerConfig": {} })), r#"Required at "triggerConfig.basePayload""#),
        (
            create(json!({ "type": 1, "tags": 2 })),
            r#"Expected string, received number at "type"; Expected array, received number at "tags""#,
        ),
        (create(json!({ "taskIdentifier": null })), r#"Expected string, received null at "taskIdentifier""#),
        (create(json!({ "externalId": {} })), r#"Expected string, received object at "externalId""#),
        (create(json!({ "tags": ["a", 2] })), r#"Expected string, received number at "tags.1""#),
        (create(json!({ "metadata": [1] })), r#"Expected object, received array at "metadata""#),
        (create(json!({ "triggerConfig": "x" })), r#"Expected object, received string at "triggerConfig""#),
        (create(json!({ "expiresAt": "tomorrow" })), r#"Invalid date at "expiresAt""#),
        (create(json!({ "expiresAt": true })), r#"Invalid date at "expiresAt""#),
        (config(json!({ "basePayload": "x" })), r#"Expected object, received string at "triggerConfig.basePayload""#),
        (config(json!({ "maxAttempts": "3" })), r#"Expected number, received string at "triggerConfig.maxAttempts""#),
        (config(json!({ "maxAttempts": 1.5 })), r#"Expected integer, received float at "triggerConfig.maxAttempts""#),
        (
            config(json!({ "maxDuration": -1 })),
            r#"Number must be greater than or equal to 0 at "triggerConfig.maxDuration""#,
        ),
        (
            config(json!({ "maxDuration": 1e300 })),
            r#"Number must be less than or equal to 4294967295 at "triggerConfig.maxDuration""#,
        ),
        (create(json!({ "type": "" })), r#"is empty at "type""#),
        (create(json!({ "type": long(65) })), r#"is longer than 64 characters at "type""#),
        (create(json!({ "taskIdentifier": long(129) })), r#"is longer than 128 characters at "taskIdentifier""#),
        (create(json!({ "externalId": "  " })), r#"is empty at "externalId""#),
        (create(json!({ "externalId": long(257) })), r#"is longer than 256 characters at "externalId""#),
        (create(json!({ "externalId": "a\nb" })), r#"holds control characters at "externalId""#),
        (create(json!({ "type": "a\u{7f}b" })), r#"holds control characters at "type""#),
        (create(json!({ "taskIdentifier": "a\u{85}b" })), r#"holds control characters at "taskIdentifier""#),
        (create(json!({ "tags": ["a\u{0}b"] })), r#"holds control characters at "tags.0""#),
    ];
    for (body, text) in rows {
        let answer = send(&node, "POST", "/api/v1/sessions", &body).await;
        assert_refused(&body.to_string(), &answer, 400, &json!({ "error": format!("Validation error: {text}") }));
    }
    for (body, path) in [
        (create(json!({ "tags": texts(11, 3) })), "tags"),
        (create(json!({ "tags": texts(1, 129) })), "tags.0"),
        (config(json!({ "tags": texts(11, 3) })), "triggerConfig.tags"),
        (config(json!({ "tags": texts(2, 129) })), "triggerConfig.tags.0"),
        (config(json!({ "machine": "huge" })), "triggerConfig.machine"),
        (config(json!({ "queue": long(129) })), "triggerConfig.queue"),
        (config(json!({ "queue": "" })), "triggerConfig.queue"),
        (config(json!({ "concurrency": ["a", "b", "c"] })), "triggerConfig.concurrency"),
        (config(json!({ "concurrency": ["a".repeat(123)] })), "triggerConfig.concurrency"),
        (config(json!({ "concurrency": ["a b"] })), "triggerConfig.concurrency"),
        (config(json!({ "maxAttempts": 0 })), "triggerConfig.maxAttempts"),
        (config(json!({ "maxAttempts": 11 })), "triggerConfig.maxAttempts"),
        (config(json!({ "maxDuration": 0 })), "triggerConfig.maxDuration"),
        (config(json!({ "idleTimeoutInSeconds": 0 })), "triggerConfig.idleTimeoutInSeconds"),
        (config(json!({ "idleTimeoutInSeconds": 3_601 })), "triggerConfig.idleTimeoutInSeconds"),
        (config(json!({ "ttl": "soon" })), "triggerConfig.ttl"),
    ] {
        let answer = send(&node, "POST", "/api/v1/sessions", &body).await;
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && said.starts_with("Validation error: "), "{body}: {said}");
        assert!(said.contains(&format!(r#" at "{path}""#)), "{body}: {said}");
    }
}

#[tokio::test]
async fn what_belongs_to_the_caller_is_not_judged() {
    let node = TestNode::start().await;
    let metadata = json!({ "text": "a\u{0}b\u{1}", "__proto__": { "a": 1 }, "": [] });
    let made = send(&node, "POST", "/api/v1/sessions", &create(json!({ "metadata": metadata }))).await;
    assert_eq!((made.status, &made.json()["metadata"]), (201, &metadata));
    for query in ["filter[createdAt][period]=soon", "filter[nothing]=x&utterly=unknown", "page[after]="] {
        let answer = send(&node, "GET", &format!("/api/v1/sessions?{query}"), &json!({})).await;
        assert_eq!(answer.status, 200, "{query}");
    }
    // Half of a surrogate pair is JSON, and no text.
    let body = create(json!({ "type": "MARK" })).to_string().replace("MARK", "\\ud800");
    let request = Request::new("POST", "/api/v1/sessions").bearer(KEY).header("Origin", ORIGIN).body(body);
    let text = r#"Validation error: Not valid Unicode at "type""#;
    assert_refused("a half", &request.send(&node.url).await, 400, &json!({ "error": text }));
}

#[tokio::test]
async fn of_everything_else() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "fields").await;
    let run = |path: &str| format!("/{path}").replace("{run}", &world.run);
    let rows = [
        ("PATCH", "/api/v1/sessions/fields".into(), json!({ "tags": 1 }), "tags"),
        ("PATCH", "/api/v1/sessions/fields".into(), json!({ "tags": texts(11, 3) }), "tags"),
        ("PATCH", "/api/v1/sessions/fields".into(), json!({ "metadata": 1 }), "metadata"),
        ("PATCH", "/api/v1/sessions/fields".into(), json!({ "externalId": "x".repeat(257) }), "externalId"),
        ("PATCH", "/api/v1/sessions/fields".into(), json!({ "externalId": "" }), "externalId"),
        ("POST", "/api/v1/sessions/fields/close".into(), json!({ "reason": 1 }), "reason"),
        ("POST", "/api/v1/sessions/fields/close".into(), json!({ "reason": "é".repeat(257) }), "reason"),
        ("POST", "/api/v1/sessions/fields/end-and-continue".into(), json!({ "reason": "r" }), "callingRunId"),
        ("POST", "/api/v1/sessions/fields/end-and-continue".into(), json!({ "callingRunId": "run_1" }), "reason"),
        (
            "POST",
            "/api/v1/sessions/fields/end-and-continue".into(),
            json!({ "callingRunId": "run_1", "reason": "r".repeat(65) }),
            "reason",
        ),
        ("POST", run("api/v1/runs/{run}/session-streams/wait"), json!({ "io": "in" }), "session"),
        ("POST", run("api/v1/runs/{run}/session-streams/wait"), json!({ "session": "a", "io": "both" }), "io"),
        (
            "POST",
            run("api/v1/runs/{run}/session-streams/wait"),
            json!({ "session": "a", "io": "in", "lastSeqNum": "1" }),
            "lastSeqNum",
        ),
        (
            "POST",
            run("api/v1/runs/{run}/session-streams/wait"),
            json!({ "session": "a", "io": "in", "idempotencyKey": "k".repeat(2_049) }),
            "idempotencyKey",
        ),
        (
            "POST",
            run("api/v1/runs/{run}/session-streams/wait"),
            json!({ "session": "a", "io": "in", "idempotencyKeyTTL": "1 week" }),
            "idempotencyKeyTTL",
        ),
        ("POST", run("engine/v1/runs/{run}/wait/duration"), json!({}), "date"),
        ("POST", run("engine/v1/runs/{run}/wait/duration"), json!({ "date": "soon" }), "date"),
        ("POST", run("api/v1/runs/{run}/tags"), json!({}), "tags"),
        ("POST", run("api/v1/runs/{run}/tags"), json!({ "tags": [1] }), "tags.0"),
        ("PUT", run("api/v1/runs/{run}/metadata"), json!({ "metadata": [] }), "metadata"),
        ("PUT", run("api/v1/runs/{run}/metadata"), json!({ "operations": {} }), "operations"),
        ("POST", "/api/v1/tasks/task/trigger".into(), json!({ "options": 1 }), "options"),
        ("POST", "/api/v1/tasks/task/trigger".into(), json!({ "options": { "queue": {} } }), "options.queue.name"),
        (
            "POST",
            "/api/v1/tasks/task/trigger".into(),
            json!({ "options": { "maxAttempts": 1.5 } }),
            "options.maxAttempts",
        ),
        ("POST", "/api/v1/tasks/task/trigger".into(), json!({ "options": { "ttl": "soon" } }), "options.ttl"),
        ("POST", "/api/v1/tasks/task/trigger".into(), json!({ "options": { "delay": "soon" } }), "options.delay"),
        (
            "POST",
            "/api/v1/tasks/task/trigger".into(),
            json!({ "options": { "idempotencyKey": "k".repeat(2_049) } }),
            "options.idempotencyKey",
        ),
        ("POST", "/api/v1/waitpoints/tokens".into(), json!({ "timeout": 5 }), "timeout"),
        ("POST", "/api/v1/waitpoints/tokens".into(), json!({ "idempotencyKey": "k".repeat(2_049) }), "idempotencyKey"),
        ("POST", "/api/v1/auth/public-tokens".into(), json!({}), "scopes"),
        ("POST", "/api/v1/auth/public-tokens".into(), json!({ "scopes": [] }), "scopes"),
        (
            "POST",
            "/api/v1/auth/public-tokens".into(),
            json!({ "scopes": ["read"], "expirationTime": "soon" }),
            "expirationTime",
        ),
        (
            "POST",
            "/api/v1/auth/public-tokens".into(),
            json!({ "scopes": ["read"], "expirationTime": "31d" }),
            "expirationTime",
        ),
        ("POST", "/api/v1/auth/public-tokens".into(), json!({ "scopes": ["read"], "oneTimeUse": 1 }), "oneTimeUse"),
    ];
    for (method, path, body, field) in rows {
        let answer = send(&node, method, &path, &body).await;
        let said = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        let what = format!("{method} {path} {body}: {} {said}", answer.status);
        assert!(answer.status == 400 && said.starts_with("Validation error: "), "{what}");
        assert!(said.contains(&format!(r#" at "{field}""#)), "{what}");
    }
    let long = json!({ "session": "a", "io": "in", "idempotencyKey": "k".repeat(2_049) });
    let answer = send(&node, "POST", &run("api/v1/runs/{run}/session-streams/wait"), &long).await;
    let text = r#"Validation error: idempotencyKey must be 2048 characters or less at "idempotencyKey""#;
    assert_refused("a long key", &answer, 400, &json!({ "error": text }));
}
