//! `POST /api/v1/sessions` with something less than the root key: closed to public tokens, and where it is opened to them,
//! by the rule of two permissions.

use crate::support::rest::{Answer, Rest};
use crate::support::token::scoped;
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};

/// What the scopes of a token allow of a create of `chat-1` for task `chat`.
const TABLE: [(&[&str], bool); 18] = [
    (&[], false),
    (&["write:sessions"], false),
    (&["trigger:tasks:chat"], false),
    (&["write:tasks:chat"], false),
    (&["write:sessions", "trigger:tasks:chat"], true),
    (&["write:sessions", "write:tasks:chat"], true),
    (&["write:sessions", "trigger:tasks"], true),
    (&["write:sessions", "write:tasks"], true),
    (&["write:sessions", "trigger:tasks:other"], false),
    (&["write:sessions", "read:tasks:chat"], false),
    (&["write:sessions:chat-1", "trigger:tasks:chat"], true),
    (&["write:sessions:chat-2", "trigger:tasks:chat"], false),
    (&["write:sessions:chat-1:in", "trigger:tasks:chat"], false),
    (&["read:sessions:chat-1", "trigger:tasks:chat"], false),
    (&["write"], false),
    (&["admin:all"], false),
    (&["write:all"], true),
    (&["admin"], true),
];

async fn create(rest: &Rest, task: &str, payload: Value) -> Answer {
    let body = json!({
        "type": "chat.agent", "externalId": "chat-1", "taskIdentifier": task, "triggerConfig": { "basePayload": payload },
    });
    rest.post("/api/v1/sessions", body.to_string()).await
}

async fn open_node() -> TestNode {
    TestNode::start_with(|config| config.create.allow_jwt = true).await
}

#[tokio::test]
async fn a_public_token_creates_nothing_whatever_it_holds() {
    let node = TestNode::start().await;
    for (scopes, _) in TABLE {
        let refused = create(&node.rest_as(&scoped(scopes)), "chat", json!({})).await;
        assert_eq!((refused.status, refused.json()), (401, json!({ "error": "Invalid API key" })), "{scopes:?}");
    }
    assert_eq!(node.rest().get("/api/v1/sessions").await.json()["data"], json!([]));
    assert_eq!(create(&node.rest_as(KEY), "chat", json!({})).await.status, 201);
}

#[tokio::test]
async fn where_it_is_allowed_a_public_token_creates_by_the_rule_of_two_permissions() {
    let node = open_node().await;
    let is_there = async || node.rest().get("/api/v1/sessions/chat-1").await.status == 200;
    for (scopes, allowed) in TABLE {
        let token = node.rest_as(&scoped(scopes));
        for status in if allowed { [201, 200] } else { [403, 403] } {
            let answer = create(&token, "chat", json!({})).await;
            assert_eq!(answer.status, status, "{scopes:?} {}", answer.text());
            assert_eq!(answer.json().get("error"), (!allowed).then_some(&json!("Unauthorized")));
        }
        assert_eq!(is_there().await, allowed, "{scopes:?}");
        node.rest().call("DELETE", "/api/v1/sessions/chat-1", &[], "").await;
    }
}

#[tokio::test]
async fn a_create_that_finds_a_session_of_a_task_the_caller_may_not_trigger_changes_nothing() {
    let node = open_node().await;
    let made = create(&node.rest(), "chat", json!({ "mine": true })).await.json();
    let row = async || node.rest().get("/api/v1/sessions/chat-1").await.text();
    let before = row().await;
    let thief = node.rest_as(&scoped(&["write:sessions:chat-1", "trigger:tasks:theirs"]));
    for task in ["theirs", "chat"] {
        assert_eq!(create(&thief, task, json!({ "stolen": true })).await.status, 403, "{task}");
        assert_eq!(row().await, before);
    }
    let by_id = format!("write:sessions:{}", made["id"].as_str().unwrap());
    let owner = node.rest_as(&scoped(&[by_id.as_str(), "trigger:tasks:chat"]));
    assert_eq!(create(&owner, "chat", json!({ "fresh": true })).await.status, 200, "the id in a scope is as good");
    assert!(row().await.contains("fresh"));
}

#[tokio::test]
async fn a_sessions_own_token_creates_no_other() {
    let node = open_node().await;
    let made = create(&node.rest(), "chat", json!({})).await.json();
    let token = node.rest_as(made["publicAccessToken"].as_str().unwrap());
    assert_eq!(create(&token, "chat", json!({})).await.status, 403, "it triggers no task");
}
