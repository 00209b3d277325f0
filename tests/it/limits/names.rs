//! Names with any character in them, and the fields of a session at the last value that passes.

use crate::support::http::Request;
use crate::support::routes::World;
use crate::support::{KEY, TestNode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

async fn call(node: &TestNode, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer = Request::new(method, path).bearer(KEY).body(body).send(&node.url).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn create(more: Value) -> String {
    let mut body = json!({ "type": "t", "taskIdentifier": "task", "triggerConfig": { "basePayload": {} } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn a_name_may_hold_anything() {
    let node = TestNode::start().await;
    let names = [
        "a".to_owned(),
        "a".repeat(256),
        "é".repeat(256),
        "😀".repeat(256),
        "a/b/c".into(),
        "/".into(),
        "//".into(),
        "a b  c".into(),
        "a:b".into(),
        ":in:".into(),
        "in".into(),
        "a/in".into(),
        "a/channels/b".into(),
        "%2F".into(),
        "%".into(),
        "%zz".into(),
        "?a=b#c".into(),
        "a+b&c=d".into(),
        "..".into(),
        ".".into(),
        "../../etc".into(),
        "a\\b".into(),
        "'\"<>`".into(),
        "\u{202e}abc\u{200d}".into(),
        "e\u{301}".into(),
        "Session_x".into(),
    ];
    for (n, name) in names.iter().enumerate() {
        let (status, made) = call(&node, "POST", "/api/v1/sessions", &create(json!({ "externalId": name }))).await;
        assert_eq!((status, &made["externalId"]), (201, &json!(name)), "{made}");
        let in_path = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let (status, found) = call(&node, "GET", &format!("/api/v1/sessions/{in_path}"), "").await;
        assert_eq!((status, &found["id"]), (200, &made["id"]), "{name:.20}");
        // Its own token, whose scopes spell the name, opens it.
        let token = made["publicAccessToken"].as_str().unwrap();
        let path = format!("/realtime/v1/sessions/{in_path}/out");
        assert_eq!(Request::new("HEAD", &path).bearer(token).send(&node.url).await.status, 200, "{name:.20}");
        let channel = format!("/realtime/v1/sessions/{in_path}/in");
        let text = format!("text {n}");
        assert_eq!(call(&node, "POST", &format!("{channel}/append"), &text).await.0, 200, "{name:.20}");
        // By name and by id it is the same stream, and nobody else's.
        for key in [in_path.as_str(), made["id"].as_str().unwrap()] {
            let (_, drained) = call(&node, "GET", &format!("/realtime/v1/sessions/{key}/in/records"), "").await;
            let records = drained["records"].as_array().unwrap();
            assert_eq!((records.len(), &records[0]["data"]), (1, &json!(text)), "{name:.20}");
        }
        let filter = format!("/api/v1/sessions?filter[externalId]={in_path}");
        assert_eq!(call(&node, "GET", &filter, "").await.1["data"][0]["id"], made["id"], "{name:.20}");
    }
    // Surrounding white space is dropped, also before characters are counted.
    let padded = format!(" \t{}\n ", "p".repeat(256));
    let (status, made) = call(&node, "POST", "/api/v1/sessions", &create(json!({ "externalId": padded }))).await;
    assert_eq!((status, &made["externalId"]), (201, &json!("p".repeat(256))));
}

/// Every field as long, as many and as large as it may be. What is beyond is in the table of refusals.
#[tokio::test]
async fn a_session_at_all_its_limits() {
    let node = TestNode::start().await;
    let tags = |chars: usize| (0..10).map(|n| format!("{n}{}", "é".repeat(chars - 1))).collect::<Vec<_>>();
    let config = json!({ "basePayload": {}, "machine": "large-2x", "queue": "é".repeat(128), "concurrency": ["a".repeat(122), "b_-9"],
        "concurrencyKey": 12.50, "tags": tags(128), "maxAttempts": 10, "maxDuration": u32::MAX, "lockToVersion": "v".repeat(128),
        "externalDeploymentId": format!(" {} ", "d".repeat(128)), "region": "r".repeat(128), "idleTimeoutInSeconds": 3_600, "ttl": 0 });
    let all = json!({ "type": "é".repeat(64), "taskIdentifier": "😀".repeat(128), "tags": tags(128), "triggerConfig": config,
        "metadata": { "a": 1 }, "expiresAt": "9999-12-31T23:59:59.999Z" });
    let (status, made) = call(&node, "POST", "/api/v1/sessions", &create(all.clone())).await;
    assert_eq!(status, 201, "{made}");
    for field in ["type", "taskIdentifier", "tags", "metadata", "expiresAt"] {
        assert_eq!(made[field], all[field], "{field}");
    }
    let stored = &made["triggerConfig"];
    for field in ["queue", "concurrency", "tags", "maxAttempts", "maxDuration", "idleTimeoutInSeconds", "ttl"] {
        assert_eq!(stored[field], config[field], "{field}");
    }
    assert_eq!((&stored["concurrencyKey"], &stored["externalDeploymentId"]), (&json!("12.5"), &json!("d".repeat(128))));
    for least in [
        json!({ "type": "t", "maxAttempts": 1 }),
        json!({ "maxDuration": 1, "idleTimeoutInSeconds": 1, "ttl": "1s", "tags": [], "concurrency": [] }),
    ] {
        let mut config = json!({ "basePayload": {} });
        config.as_object_mut().unwrap().extend(least.as_object().unwrap().clone());
        let (status, made) = call(&node, "POST", "/api/v1/sessions", &create(json!({ "triggerConfig": config }))).await;
        assert_eq!(status, 201, "{made}");
    }
    let id = made["id"].as_str().unwrap();
    let (status, closed) =
        call(&node, "POST", &format!("/api/v1/sessions/{id}/close"), &json!({ "reason": "é".repeat(256) }).to_string())
            .await;
    assert_eq!((status, &closed["closedReason"]), (200, &json!("é".repeat(256))));
}

#[tokio::test]
async fn a_channel_at_the_limits_of_its_name() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "names").await;
    let append = async |name: &str| {
        call(&node, "POST", &format!("/realtime/v1/sessions/names/channels/{name}/in/append"), "x").await.0
    };
    for name in ["a", "AZaz09._-", "..", ".", &"n".repeat(128)] {
        assert_eq!(append(name).await, 200, "{name}");
    }
    assert_eq!(append(&"n".repeat(129)).await, 400);
}

#[tokio::test]
async fn timeouts_at_their_limits() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "names").await;
    for text in ["1", "600", "007", " 5 ", "+5"] {
        for channel in ["out", "in", "channels/tools/in"] {
            let request = Request::new("HEAD", &format!("/realtime/v1/sessions/names/{channel}")).bearer(KEY);
            let answer = request.header("Timeout-Seconds", text).send(&node.url).await;
            assert_eq!(answer.status, 200, "{text:?}");
        }
    }
}
