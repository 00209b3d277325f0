//! `/api/v1/sessions`: what is read from requests and printed of rows.

use continuo_gateway::Options;
use continuo_proto::v1::*;
use prost_types::Timestamp;
use serde_json::json;

use crate::{
    common::{call, gateway, request, send},
    peer::{Peer, violations},
};

fn at(seconds: i64, ms: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: ms * 1_000_000 })
}

fn session() -> Session {
    Session {
        id: "session_1".into(),
        external_id: Some("chat-1".into()),
        r#type: "chat.agent".into(),
        task_identifier: "chat".into(),
        trigger_config: Some(TriggerConfig {
            base_payload_json: r#"{"z": 1.0,"a":[ ]}"#.into(),
            machine: Some("micro".into()),
            concurrency_key: Some("7".into()),
            tags: vec!["t".into()],
            max_attempts: Some(3),
            max_duration_s: Some(60),
            idle_timeout_s: Some(30),
            ttl: Some("600".into()),
            ..Default::default()
        }),
        tags: vec!["a".into()],
        metadata_json: Some(r#"{"b":1e3,"a":null}"#.into()),
        current_run_id: Some("run_1".into()),
        closed_at: at(1_767_225_600, 7),
        closed_reason: Some("done".into()),
        created_at: at(1_767_225_600, 0),
        updated_at: at(1_767_225_600, 1),
        ..Default::default()
    }
}

const ITEM: &str = r#"{"id":"session_1","externalId":"chat-1","type":"chat.agent","taskIdentifier":"chat","triggerConfig":{"basePayload":{"z": 1.0,"a":[ ]},"machine":"micro","concurrencyKey":"7","tags":["t"],"maxAttempts":3,"maxDuration":60,"idleTimeoutInSeconds":30,"ttl":600},"currentRunId":"run_1","tags":["a"],"metadata":{"b":1e3,"a":null},"closedAt":"2026-01-01T00:00:00.007Z","closedReason":"done","expiresAt":null,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.001Z"}"#;

#[tokio::test]
async fn create_reads_every_field_and_prints_the_row() {
    let peer = Peer::key();
    let response = CreateSessionResponse {
        session: Some(session()),
        run_id: "run_1".into(),
        public_access_token: "jwt".into(),
        is_cached: false,
    };
    peer.answer(response.clone());
    let body = r#"{"type":"chat.agent","externalId":" chat-1 ","taskIdentifier":"chat","unknown":1,
        "triggerConfig":{"basePayload": {"z": 1.0,"a":[ ]},"machine":"micro","queue":"q","concurrency":["c"],"concurrencyKey":7,
            "tags":["t"],"maxAttempts":3,"maxDuration":60,"lockToVersion":"v","externalDeploymentId":" d ","region":"eu",
            "idleTimeoutInSeconds":30,"ttl":600,"other":true},
        "tags":["a"],"metadata":{"b":1e3,"a":null},"expiresAt":"2026-01-01T00:00:00.000Z"}"#;
    let answer = call(&peer, "POST", "/api/v1/sessions", body).await;
    let created =
        ITEM.strip_suffix('}').unwrap().to_owned() + r#","runId":"run_1","publicAccessToken":"jwt","isCached":false}"#;
    assert_eq!((answer.status, answer.text()), (201, created.as_str()));
    assert_eq!(
        peer.the::<CreateSessionRequest>(),
        CreateSessionRequest {
            external_id: Some(" chat-1 ".into()),
            r#type: "chat.agent".into(),
            task_identifier: "chat".into(),
            trigger_config: Some(TriggerConfig {
                base_payload_json: r#"{"z": 1.0,"a":[ ]}"#.into(),
                machine: Some("micro".into()),
                queue: Some("q".into()),
                concurrency: vec!["c".into()],
                concurrency_key: Some("7".into()),
                tags: vec!["t".into()],
                max_attempts: Some(3),
                max_duration_s: Some(60),
                lock_to_version: Some("v".into()),
                external_deployment_id: Some("d".into()),
                region: Some("eu".into()),
                idle_timeout_s: Some(30),
                ttl: Some("600".into()),
            }),
            tags: vec!["a".into()],
            metadata_json: Some(r#"{"b":1e3,"a":null}"#.into()),
            expires_at: at(1_767_225_600, 0),
            is_test: false,
        }
    );
    peer.answer(CreateSessionResponse { is_cached: true, ..response });
    let answer = call(&peer, "POST", "/api/v1/sessions", body).await;
    assert_eq!((answer.status, &answer.json()["isCached"]), (200, &json!(true)));
}

#[tokio::test]
async fn wrong_types_are_told_all_at_once() {
    let error = async |body: &str| {
        let answer = call(&Peer::key(), "POST", "/api/v1/sessions", body).await;
        assert_eq!(answer.status, 400);
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        error("{}").await,
        r#"Validation error: Required at "type"; Required at "taskIdentifier"; Required at "triggerConfig""#
    );
    assert_eq!(
        error(r#"{"type":1,"taskIdentifier":null,"externalId":[],"triggerConfig":{"basePayload":[],"tags":["a",2],"maxAttempts":1.5,
            "maxDuration":-1,"concurrencyKey":{}},"tags":"a","metadata":null,"expiresAt":"soon"}"#)
        .await,
        "Validation error: Expected string, received number at \"type\"; Expected string, received array at \"externalId\"; \
         Expected string, received null at \"taskIdentifier\"; Expected object, received array at \"triggerConfig.basePayload\"; \
         Invalid input at \"triggerConfig.concurrencyKey\"; Expected string, received number at \"triggerConfig.tags.1\"; \
         Expected integer, received float at \"triggerConfig.maxAttempts\"; \
         Number must be greater than or equal to 0 at \"triggerConfig.maxDuration\"; \
         Expected array, received string at \"tags\"; Expected object, received null at \"metadata\"; Invalid date at \"expiresAt\""
    );
}

#[tokio::test]
async fn limits_are_told_by_the_service_in_the_callers_words() {
    let peer = Peer::key();
    peer.refuse(violations(&[("trigger_config.tags[3]", "is longer than 128 characters"), ("type", "is empty")]));
    let body = r#"{"type":"","taskIdentifier":"k","triggerConfig":{"basePayload":{}}}"#;
    let answer = call(&peer, "POST", "/api/v1/sessions", body).await;
    let text = r#"Validation error: is longer than 128 characters at "triggerConfig.tags.3"; is empty at "type""#;
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })));
}

#[tokio::test]
async fn deployment_ids_that_are_none() {
    for id in ["null", "\" \"", "7", &format!("\"{}\"", "x".repeat(129))] {
        let peer = Peer::key();
        let body = format!(
            r#"{{"type":"t","taskIdentifier":"k","triggerConfig":{{"basePayload":{{}},"externalDeploymentId":{id}}}}}"#
        );
        assert_eq!(call(&peer, "POST", "/api/v1/sessions", &body).await.status, 201);
        assert_eq!(peer.the::<CreateSessionRequest>().trigger_config.unwrap().external_deployment_id, None, "{id}");
    }
}

#[tokio::test]
async fn expiry_as_milliseconds_and_ttl_as_text() {
    let peer = Peer::key();
    let body =
        r#"{"type":"t","taskIdentifier":"k","triggerConfig":{"basePayload":{},"ttl":"10m"},"expiresAt":1767225600007}"#;
    call(&peer, "POST", "/api/v1/sessions", body).await;
    let request = peer.the::<CreateSessionRequest>();
    assert_eq!(request.expires_at, at(1_767_225_600, 7));
    assert_eq!(request.trigger_config.unwrap().ttl.as_deref(), Some("10m"));
}

#[tokio::test]
async fn lists_pass_filters_and_tokens_on() {
    let peer = Peer::key();
    peer.answer(ListSessionsResponse {
        sessions: vec![Session { trigger_config: None, ..session() }],
        next_page_token: "older".into(),
        ..Default::default()
    });
    let query = "page[size]=7&page[after]=tok%2Fen&filter[type]=chat.agent&filter[tags]=a,%20b&filter[tags]=c\
                 &filter[taskIdentifier]=chat&filter[externalId]=x%2Cy&filter[status]=ACTIVE,CLOSED\
                 &filter[createdAt][from]=1767225600000&filter[createdAt][to]=1767225600007";
    let answer = call(&peer, "GET", &format!("/api/v1/sessions?{query}"), "").await;
    let item: serde_json::Value = {
        let mut item: serde_json::Value = serde_json::from_str(ITEM).unwrap();
        item.as_object_mut().unwrap().remove("triggerConfig");
        item
    };
    assert_eq!((answer.status, answer.json()), (200, json!({ "data": [item], "pagination": { "next": "older" } })));
    assert_eq!(
        peer.the::<ListSessionsRequest>(),
        ListSessionsRequest {
            filter: Some(SessionFilter {
                types: vec!["chat.agent".into()],
                tags: vec!["a".into(), "b".into(), "c".into()],
                task_identifiers: vec!["chat".into()],
                external_id: Some("x,y".into()),
                statuses: vec![SessionStatus::Active.into(), SessionStatus::Closed.into()],
                created_from: at(1_767_225_600, 0),
                created_to: at(1_767_225_600, 7),
            }),
            page_size: 7,
            page_token: "tok/en".into(),
            page_direction: PageDirection::Older.into(),
            wait_as_of: String::new(),
        }
    );
    assert_eq!(answer.header("continuo-as-of"), None);
}

#[tokio::test]
async fn how_far_a_list_is_comes_and_goes_as_headers() {
    let list = async |wait: &str| {
        let peer = Peer::key();
        peer.answer(ListSessionsResponse { as_of: "1-16b3748".into(), ..Default::default() });
        let headers = [("continuo-wait-as-of", wait), ("origin", "https://app.example")];
        let answer = send(gateway(&peer, Options::default()), request("GET", "/api/v1/sessions", &headers, "")).await;
        assert_eq!((answer.status, answer.header("continuo-as-of")), (200, Some("1-16b3748")));
        assert!(
            answer.header("access-control-expose-headers").unwrap().contains(",continuo-as-of"),
            "pages may read it"
        );
        peer.the::<ListSessionsRequest>().wait_as_of
    };
    for (sent, asked) in [("now", "now"), (" 1-16b3748 ", "1-16b3748"), ("", ""), ("j\u{e4}", "?")] {
        assert_eq!(list(sent).await, asked, "{sent}");
    }
    let peer = Peer::key();
    peer.refuse(violations(&[("wait_as_of", "must be `now`")]));
    let answer = call(&peer, "GET", "/api/v1/sessions", "").await;
    let detail = json!({ "code": "custom", "path": ["continuo-wait-as-of"], "message": "must be `now`" });
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": "Headers Error", "details": [detail] })));
}

#[tokio::test]
async fn lists_refuse_what_they_cannot_read() {
    let details = async |peer: &Peer, query: &str| {
        let answer = call(peer, "GET", &format!("/api/v1/sessions?{query}"), "").await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("Query Error")), "{query}");
        answer.json()["details"][0].clone()
    };
    let peer = Peer::key();
    let both = details(&peer, "page[after]=a&page[before]=b").await;
    assert_eq!(both["message"], "Cannot pass both page[after] and page[before] on the same request");
    assert_eq!(details(&peer, "page[size]=0").await["path"], json!(["page[size]"]));
    assert_eq!(details(&peer, "page[size]=101").await["code"], "too_big");
    assert_eq!(details(&peer, "filter[status]=OPEN").await["code"], "invalid_enum_value");
    assert_eq!(details(&peer, "filter[createdAt][from]=yesterday").await["message"], "Expected number, received nan");
    peer.refuse(violations(&[("page_token", "is not a page token")]));
    assert_eq!(
        details(&peer, "page[before]=x").await,
        json!({ "code": "custom", "path": ["page[before]"], "message": "is not a page token" })
    );
}

#[tokio::test]
async fn retrieve_prints_the_row() {
    let peer = Peer::key();
    peer.answer(GetSessionResponse { session: Some(session()) });
    let answer = call(&peer, "GET", "/api/v1/sessions/chat-1", "").await;
    assert_eq!((answer.status, answer.text()), (200, ITEM));
}

#[tokio::test]
async fn patches_name_the_fields_that_were_sent() {
    let update = async |body: &str| {
        let peer = Peer::key();
        peer.answer(UpdateSessionResponse { session: Some(session()) });
        let answer = call(&peer, "PATCH", "/api/v1/sessions/a", body).await;
        assert_eq!((answer.status, answer.text()), (200, ITEM));
        let request = peer.the::<UpdateSessionRequest>();
        (request.update_mask.unwrap().paths, request.value.unwrap())
    };
    let (paths, value) = update(r#"{"metadata":{"b": 1.0},"tags":[],"externalId":"n","type":"x"}"#).await;
    assert_eq!(paths, ["tags", "metadata_json", "external_id"]);
    let expected =
        Session { metadata_json: Some(r#"{"b": 1.0}"#.into()), external_id: Some("n".into()), ..Session::default() };
    assert_eq!(value, expected);
    let (paths, value) = update(r#"{"metadata":null,"externalId":null}"#).await;
    assert_eq!((paths, value), (vec!["metadata_json".to_owned(), "external_id".to_owned()], Session::default()));
    assert!(update("{}").await.0.is_empty());
}

#[tokio::test]
async fn close_takes_no_body_for_an_empty_one() {
    for (body, reason, run) in [
        ("", None, None),
        ("{}", None, None),
        (r#"{"reason":"done","callingRunId":"run_1"}"#, Some("done"), Some("run_1")),
    ] {
        let peer = Peer::key();
        peer.answer(CloseSessionResponse { session: Some(session()) });
        let answer = call(&peer, "POST", "/api/v1/sessions/a/close", body).await;
        assert_eq!((answer.status, answer.text()), (200, ITEM));
        let request = peer.the::<CloseSessionRequest>();
        assert_eq!((request.reason.as_deref(), request.calling_run_id.as_deref()), (reason, run));
    }
}

#[tokio::test]
async fn end_and_continue() {
    let peer = Peer::key();
    peer.answer(EndAndContinueResponse { run_id: "run_2".into(), swapped: true });
    let body = r#"{"callingRunId":"run_1","reason":"upgrade","externalDeploymentId":"sha"}"#;
    let answer = call(&peer, "POST", "/api/v1/sessions/a/end-and-continue", body).await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"runId":"run_2","swapped":true}"#));
    let expected = EndAndContinueRequest {
        session: "a".into(),
        calling_run_id: "run_1".into(),
        reason: "upgrade".into(),
        external_deployment_id: Some("sha".into()),
    };
    assert_eq!(peer.the::<EndAndContinueRequest>(), expected);
}

#[tokio::test]
async fn the_audit_and_the_end() {
    let peer = Peer::key();
    let run = Run { status: "COMPLETED".into(), started_at: at(1_767_225_600, 5), ..Default::default() };
    peer.answer(ListSessionRunsResponse {
        session_runs: vec![SessionRun {
            run_id: "run_1".into(),
            reason: "initial".into(),
            version: 1,
            triggered_at: at(1_767_225_600, 0),
            run: Some(run),
        }],
    });
    let answer = call(&peer, "GET", "/api/v1/sessions/a/runs", "").await;
    let row = json!({ "runId": "run_1", "reason": "initial", "version": 1, "triggeredAt": "2026-01-01T00:00:00.000Z",
        "status": "COMPLETED", "startedAt": "2026-01-01T00:00:00.005Z", "finishedAt": null });
    assert_eq!((answer.status, answer.json()), (200, json!({ "data": [row] })));
    let answer = call(&peer, "DELETE", "/api/v1/sessions/a", "").await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(peer.the::<DeleteSessionRequest>().session, "a");
}

#[tokio::test]
async fn metadata_that_is_no_json_is_not_printed() {
    let peer = Peer::key();
    peer.answer(GetSessionResponse { session: Some(Session { metadata_json: Some("{".into()), ..session() }) });
    let answer = send(gateway(&peer, Options::default()), request("GET", "/api/v1/sessions/a", &[], "")).await;
    assert_eq!(answer.json()["metadata"], json!(null));
}
