//! The table of refusals, row by row: what a reason looks like on the routes that print it differently.

use std::time::Duration;

use continuo_proto::v1::ErrorReason;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    common::{Answer, ROUTES, call},
    peer::{Peer, details, status, violations},
};

const CREATE: (&str, &str) = ("POST", "/api/v1/sessions");
const LIST: (&str, &str) = ("GET", "/api/v1/sessions");
const GET: (&str, &str) = ("GET", "/api/v1/sessions/s");
const PATCH: (&str, &str) = ("PATCH", "/api/v1/sessions/s");
const DELETE: (&str, &str) = ("DELETE", "/api/v1/sessions/s");
const CLOSE: (&str, &str) = ("POST", "/api/v1/sessions/s/close");
const CONTINUE: (&str, &str) = ("POST", "/api/v1/sessions/s/end-and-continue");
const AUDIT: (&str, &str) = ("GET", "/api/v1/sessions/s/runs");
const READ: (&str, &str) = ("GET", "/realtime/v1/sessions/s/out");
const RECORDS: (&str, &str) = ("GET", "/realtime/v1/sessions/s/in/records");
const INIT: (&str, &str) = ("PUT", "/realtime/v1/sessions/s/out");
const IN: (&str, &str) = ("POST", "/realtime/v1/sessions/s/in/append");
const OUT: (&str, &str) = ("POST", "/realtime/v1/sessions/s/out/append");
const NAMED: (&str, &str) = ("POST", "/realtime/v1/sessions/s/channels/c/in/append");
const WAIT: (&str, &str) = ("POST", "/api/v1/runs/run_1/session-streams/wait");
const SUSPEND: (&str, &str) = ("POST", "/engine/v1/runs/run_1/waitpoints/tokens/waitpoint_1/wait");
const RUN: (&str, &str) = ("GET", "/api/v3/runs/run_1");
const CANCEL: (&str, &str) = ("POST", "/api/v2/runs/run_1/cancel");
const TAGS: (&str, &str) = ("POST", "/api/v1/runs/run_1/tags");
const TRIGGER: (&str, &str) = ("POST", "/api/v1/tasks/k/trigger");
const TOKEN: (&str, &str) = ("GET", "/api/v1/waitpoints/tokens/waitpoint_1");
const TOKENS: (&str, &str) = ("POST", "/api/v1/auth/public-tokens");
const COMPLETE: (&str, &str) = ("POST", "/api/v1/waitpoints/tokens/waitpoint_1/complete");

async fn refused(route: (&str, &str), refusal: Status) -> Answer {
    let peer = Peer::key();
    peer.refuse(refusal);
    let body = ROUTES.iter().find(|(method, path, _)| (*method, *path) == route).map_or("x", |(_, _, body)| body);
    call(&peer, route.0, route.1, body).await
}

/// Status, body and `x-should-retry` of a refusal without metadata, whose text is `said`.
async fn row(reason: &str, code: Code, route: (&str, &str)) -> (u16, Value, Option<String>) {
    let answer = refused(route, status(reason, code, "said", &[])).await;
    let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::from(answer.text()));
    (answer.status, body, answer.header("x-should-retry").map(str::to_owned))
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

fn not_ok(text: &str) -> Value {
    json!({ "ok": false, "error": text })
}

fn no() -> Option<String> {
    Some("false".to_owned())
}

#[tokio::test]
async fn scopes() {
    let body =
        json!({ "error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization" });
    for (method, path, _) in ROUTES.iter().filter(|(method, ..)| *method != "HEAD") {
        let found = row("PERMISSION_DENIED", Code::PermissionDenied, (*method, *path)).await;
        assert_eq!(found, (403, body.clone(), None), "{method} {path}");
    }
    let refusal = status("SCOPES_EXCEED_KEY", Code::PermissionDenied, "x", &[("denied_scopes", "read:a write:b")]);
    let answer = refused(TOKENS, refusal).await;
    let body = json!({ "error": "Requested scopes exceed the API key's access", "code": "scopes_exceed_key_access",
        "deniedScopes": ["read:a", "write:b"] });
    assert_eq!((answer.status, answer.json()), (403, body));
    let text = Value::from("Initializing the out channel requires secret key authentication");
    assert_eq!(row("OUT_NEEDS_SECRET_KEY", Code::PermissionDenied, INIT).await, (403, text, None));
    let body = not_ok("Appending to the out channel requires secret key authentication");
    assert_eq!(row("OUT_NEEDS_SECRET_KEY", Code::PermissionDenied, OUT).await, (403, body, None));
    let body = not_ok("Reading the in channel requires secret key authentication");
    for route in [READ, RECORDS] {
        assert_eq!(row("IN_NEEDS_SECRET_KEY", Code::PermissionDenied, route).await, (403, body.clone(), None));
    }
}

#[tokio::test]
async fn tokens_refused_by_the_call_itself() {
    assert_eq!(row("UNAUTHENTICATED", Code::Unauthenticated, GET).await, (401, error("said"), None));
    let answer = refused(GET, status("UNAUTHENTICATED", Code::Unauthenticated, "", &[])).await;
    assert_eq!(answer.json(), error("Invalid or Missing API key"));
}

#[tokio::test]
async fn missing_sessions() {
    let missing = async |route| row("SESSION_NOT_FOUND", Code::NotFound, route).await;
    for route in [GET, AUDIT, READ, RECORDS] {
        assert_eq!(missing(route).await, (404, error("Not found"), no()), "{route:?}");
    }
    for route in [PATCH, CLOSE, DELETE, WAIT] {
        assert_eq!(missing(route).await, (404, error("Session not found"), None), "{route:?}");
    }
    for route in [CONTINUE, IN, OUT, NAMED] {
        assert_eq!(missing(route).await, (404, error("Resource not found"), None), "{route:?}");
    }
    assert_eq!(missing(INIT).await, (404, Value::from("Session not found"), None));
}

#[tokio::test]
async fn closed_and_expired_sessions() {
    let closed = async |route| row("SESSION_CLOSED", Code::FailedPrecondition, route).await;
    let text = "Cannot append to a closed session";
    let body = json!({ "ok": false, "error": text, "code": "session_closed", "closedReason": null });
    assert_eq!(closed(IN).await, (409, body, no()));
    let refusal = status("SESSION_CLOSED", Code::FailedPrecondition, "x", &[("closed_reason", "done: \"now\"")]);
    assert_eq!(refused(IN, refusal).await.json()["closedReason"], "done: \"now\"");
    for route in [OUT, NAMED] {
        assert_eq!(closed(route).await, (400, not_ok(text), None));
    }
    assert_eq!(closed(INIT).await, (400, Value::from("Cannot initialize a channel on a closed session"), None));
    assert_eq!(closed(CONTINUE).await, (400, error("Cannot end-and-continue a closed session"), None));
    assert_eq!(closed(WAIT).await.0, 422);

    let expired = async |route| row("SESSION_EXPIRED", Code::FailedPrecondition, route).await;
    for route in [IN, OUT, NAMED] {
        assert_eq!(expired(route).await, (400, not_ok("Cannot append to an expired session"), None));
    }
    assert_eq!(expired(CONTINUE).await, (400, error("Cannot end-and-continue an expired session"), None));
    assert_eq!(expired(WAIT).await, (422, error("said"), None));

    let text = "Session is closed; use a different externalId to create a new session";
    assert_eq!(row("SESSION_ALREADY_CLOSED", Code::AlreadyExists, CREATE).await, (409, error(text), no()));
    let text = "Session is expired; use a different externalId to create a new session";
    assert_eq!(row("SESSION_ALREADY_EXPIRED", Code::AlreadyExists, CREATE).await, (409, error(text), no()));
    let text = "A session with this externalId already exists in this environment";
    assert_eq!(row("EXTERNAL_ID_TAKEN", Code::AlreadyExists, PATCH).await, (409, error(text), no()));
    for route in [CREATE, PATCH] {
        assert_eq!(row("EXTERNAL_ID_RESERVED", Code::InvalidArgument, route).await, (422, error("said"), None));
    }
}

#[tokio::test]
async fn records_and_positions() {
    let ours = |code: &str| json!({ "ok": false, "error": "said", "code": code });
    assert_eq!(row("RECORD_TOO_LARGE", Code::InvalidArgument, IN).await, (413, not_ok("said"), None));
    assert_eq!(row("SEQ_NUM_MISMATCH", Code::Aborted, IN).await, (412, ours("seq_num_mismatch"), None));
    assert_eq!(row("FENCED", Code::Aborted, OUT).await, (412, ours("fenced"), None));
    assert_eq!(row("PART_ID_REUSED", Code::AlreadyExists, IN).await, (409, ours("part_id_reused"), no()));
    assert_eq!(row("PAST_TAIL", Code::OutOfRange, READ).await, (416, error("said"), None));
}

#[tokio::test]
async fn runs_and_waitpoints() {
    let missing = async |route| row("RUN_NOT_FOUND", Code::NotFound, route).await;
    assert_eq!(missing(RUN).await, (404, error("Not found"), Some("true".to_owned())));
    assert_eq!(missing(CANCEL).await, (404, error("Resource not found"), None));
    assert_eq!(missing(CONTINUE).await, (404, error("callingRunId not found in this environment"), None));
    for route in [WAIT, SUSPEND, TAGS] {
        assert_eq!(missing(route).await, (404, error("Run not found"), None));
    }
    let missing = async |route| row("WAITPOINT_NOT_FOUND", Code::NotFound, route).await;
    assert_eq!(missing(SUSPEND).await, (404, error("Waitpoint not found"), None));
    assert_eq!(missing(COMPLETE).await, (404, error("Waitpoint not found"), None));
    assert_eq!(missing(TOKEN).await, (404, error("Not found"), no()));
    assert_eq!(row("TASK_NOT_FOUND", Code::NotFound, TRIGGER).await, (404, error("Task not found"), None));
    assert_eq!(row("TASK_NOT_FOUND", Code::NotFound, CREATE).await, (422, error("said"), None));
    assert_eq!(row("STALE_SNAPSHOT", Code::Aborted, SUSPEND).await, (409, error("said"), no()));
    assert_eq!(row("RUN_NOT_READY", Code::FailedPrecondition, SUSPEND).await, (422, error("said"), None));
}

#[tokio::test]
async fn our_own_failures_say_nothing_about_us() {
    for reason in ["INTERNAL", "DATA_LOSS", "OUTCOME_UNKNOWN", "NO_SUCH_REASON"] {
        let body = async |route| {
            let (status, body, _) = row(reason, Code::Internal, route).await;
            assert_eq!(status, 500);
            body
        };
        for route in [CREATE, WAIT, TRIGGER] {
            assert_eq!(body(route).await, error("Something went wrong"), "{reason}");
        }
        assert_eq!(body(IN).await, not_ok("Something went wrong, please try again."));
        assert_eq!(body(CONTINUE).await, error("Failed to swap session run"));
        assert_eq!(body(SUSPEND).await, error("Failed to wait for waitpoint token"));
        for route in [LIST, GET, CLOSE, READ, RUN, TOKEN, TOKENS] {
            assert_eq!(body(route).await, error("Internal Server Error"));
        }
    }
}

#[tokio::test]
async fn what_may_be_tried_again_says_when() {
    for reason in ["RUN_NOT_CLAIMED", "BOOT_BACKOFF", "INDEX_BEHIND", "BACKEND_UNAVAILABLE", "SERVER_STOPPING"] {
        let mut with_retry = details(reason, &[]);
        with_retry.set_retry_info(Some(Duration::from_millis(1_500)));
        let refusal = Status::with_error_details(Code::Unavailable, "said", with_retry);
        let answer = refused(CREATE, refusal.clone()).await;
        assert_eq!(
            (answer.status, answer.json(), answer.header("retry-after")),
            (503, error("said"), Some("2")),
            "{reason}"
        );
        assert_eq!(refused(IN, refusal).await.json(), not_ok("said"));
    }
    let mut limited = details("LIMIT_EXCEEDED", &[]);
    limited.set_retry_info(Some(Duration::from_secs(3)));
    let answer = refused(IN, Status::with_error_details(Code::ResourceExhausted, "said", limited)).await;
    assert_eq!((answer.status, answer.json()), (429, not_ok("said")));
    assert_eq!((answer.header("retry-after"), answer.header("x-ratelimit-remaining")), (Some("3"), Some("0")));
    let reset: i64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!(reset > 1_767_225_600_000);
}

#[tokio::test]
async fn a_write_whose_outcome_is_not_known_may_be_tried_again_too() {
    let mut unknown = details("OUTCOME_UNKNOWN", &[]);
    unknown.set_retry_info(Some(Duration::from_secs(1)));
    let answer = refused(IN, Status::with_error_details(Code::Unknown, "said", unknown)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (500, Some("1")));
}

#[tokio::test]
async fn violations_stand_where_the_field_was_sent() {
    let found = async |route, field: &str| {
        let answer = refused(route, violations(&[(field, "is wrong")])).await;
        assert_eq!(answer.status, 400);
        let body = answer.json();
        (body["error"].as_str().unwrap().to_owned(), body["details"][0]["path"][0].as_str().map(str::to_owned))
    };
    let details = |title: &str, path: &str| (title.to_owned(), Some(path.to_owned()));
    assert_eq!(found(GET, "session").await, details("Params Error", "session"));
    assert_eq!(found(RUN, "run_id").await, details("Params Error", "runId"));
    assert_eq!(found(TRIGGER, "task_identifier").await, details("Params Error", "taskId"));
    assert_eq!(found(LIST, "filter.tags").await, details("Query Error", "filter[tags]"));
    assert_eq!(found(IN, "part_id").await, details("Headers Error", "X-Part-Id"));
    assert_eq!(found(WAIT, "session").await.0, "Validation error: is wrong at \"session\"");
    assert_eq!(found(PATCH, "value.metadata_json").await.0, "Validation error: is wrong at \"metadata\"");
    assert_eq!(found(TOKENS, "scopes[1]").await.0, "Validation error: is wrong at \"scopes.1\"");
    assert_eq!(
        refused(IN, violations(&[("records[0].body", "is wrong")])).await.json(),
        not_ok("is wrong at \"records.0.body\"")
    );
    assert_eq!(
        refused(GET, status("INVALID_ARGUMENT", Code::InvalidArgument, "said", &[])).await.json(),
        error("said")
    );
}

#[tokio::test]
async fn statuses_that_are_not_the_services() {
    for (code, expected, text) in [
        (Code::Unavailable, 503, "Service unavailable, please try again."),
        (Code::DeadlineExceeded, 503, "Service unavailable, please try again."),
        (Code::ResourceExhausted, 429, "Too many requests, please try again."),
        (Code::InvalidArgument, 400, "Invalid request"),
        (Code::Unauthenticated, 401, "Invalid API key"),
        (Code::Unknown, 500, "Internal Server Error"),
        (Code::Unimplemented, 500, "Internal Server Error"),
    ] {
        let answer = refused(GET, Status::new(code, "10.0.0.7: secret")).await;
        assert_eq!((answer.status, answer.json()), (expected, error(text)), "{code:?}");
        assert_eq!(answer.header("retry-after"), (expected == 503).then_some("1"), "{code:?}");
    }
    let foreign = ErrorDetails::with_error_info("SESSION_NOT_FOUND", "elsewhere", []);
    assert_eq!(refused(GET, Status::with_error_details(Code::Internal, "x", foreign)).await.status, 500);
}

#[tokio::test]
async fn every_reason_has_a_row() {
    // A new reason is an enum value without a test above until it is added there and here.
    assert!(ErrorReason::try_from(35).is_ok() && ErrorReason::try_from(36).is_err());
}
