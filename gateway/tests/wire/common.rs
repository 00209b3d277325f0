//! What every route has in common: authentication first, caps, paths, CORS, wrong methods, unknown paths. And the little
//! HTTP client of these tests.

use std::task::Poll;

use axum::{Router, body::Body};
use bytes::Bytes;
use continuo_gateway::{Options, not_found, router};
use continuo_proto::v1::*;
use futures_util::stream;
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt;

use crate::peer::{Peer, status, violations};

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The gateway in front of a peer, as the composition root mounts it.
pub(crate) fn gateway(peer: &Peer, options: Options) -> Router {
    router(peer.clone(), peer.clone(), options).fallback(not_found)
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, "Bearer tr_dev_x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// One request with default options.
pub(crate) async fn call(peer: &Peer, method: &str, path: &str, body: &str) -> Answer {
    call_with(peer, method, path, &[], body).await
}

pub(crate) async fn call_with(peer: &Peer, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    send(gateway(peer, Options::default()), request(method, path, headers, body.to_owned())).await
}

/// Every route: method, path, a body that is accepted.
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/sessions", r#"{"type":"t","taskIdentifier":"k","triggerConfig":{"basePayload":{}}}"#),
    ("GET", "/api/v1/sessions", ""),
    ("GET", "/api/v1/sessions/s", ""),
    ("PATCH", "/api/v1/sessions/s", "{}"),
    ("DELETE", "/api/v1/sessions/s", ""),
    ("POST", "/api/v1/sessions/s/close", ""),
    ("POST", "/api/v1/sessions/s/end-and-continue", r#"{"callingRunId":"run_1","reason":"manual"}"#),
    ("GET", "/api/v1/sessions/s/runs", ""),
    ("PUT", "/api/v1/sessions/s/snapshot-url", ""),
    ("GET", "/api/v1/sessions/s/snapshot-url", ""),
    ("GET", "/api/v1/sessions/s/transcript", ""),
    ("PUT", "/api/v2/packets/a/b", ""),
    ("GET", "/api/v1/packets/a/b", ""),
    ("GET", "/realtime/v1/sessions/s/out", ""),
    ("HEAD", "/realtime/v1/sessions/s/out", ""),
    ("PUT", "/realtime/v1/sessions/s/out", ""),
    ("POST", "/realtime/v1/sessions/s/in/append", "x"),
    ("GET", "/realtime/v1/sessions/s/in/records", ""),
    ("GET", "/realtime/v1/sessions/s/channels/c/out", ""),
    ("HEAD", "/realtime/v1/sessions/s/channels/c/out", ""),
    ("PUT", "/realtime/v1/sessions/s/channels/c/out", ""),
    ("POST", "/realtime/v1/sessions/s/channels/c/in/append", "x"),
    ("GET", "/realtime/v1/sessions/s/channels/c/in/records", ""),
    ("POST", "/api/v1/runs/run_1/session-streams/wait", r#"{"session":"s","io":"in"}"#),
    ("POST", "/engine/v1/runs/run_1/waitpoints/tokens/waitpoint_1/wait", ""),
    ("POST", "/engine/v1/runs/run_1/wait/duration", r#"{"date":"2030-01-01T00:00:00.000Z"}"#),
    ("GET", "/api/v3/runs/run_1", ""),
    ("POST", "/api/v2/runs/run_1/cancel", ""),
    ("POST", "/api/v1/runs/run_1/reschedule", r#"{"delay":"1h"}"#),
    ("POST", "/api/v1/runs/run_1/replay", ""),
    ("GET", "/api/v1/runs", ""),
    ("GET", "/api/v1/runs/run_1/metadata", ""),
    ("PUT", "/api/v1/runs/run_1/metadata", r#"{"metadata":{}}"#),
    ("POST", "/api/v1/runs/run_1/tags", r#"{"tags":"a"}"#),
    ("POST", "/api/v1/tasks/k/trigger", "{}"),
    ("POST", "/api/v1/waitpoints/tokens", "{}"),
    ("GET", "/api/v1/waitpoints/tokens", ""),
    ("GET", "/api/v1/waitpoints/tokens/waitpoint_1", ""),
    ("POST", "/api/v1/waitpoints/tokens/waitpoint_1/complete", "{}"),
    ("POST", "/api/v1/auth/jwt/claims", ""),
    ("POST", "/api/v1/auth/public-tokens", r#"{"scopes":["read:all"]}"#),
];

#[tokio::test]
async fn every_call_carries_the_callers_token_and_nothing_else() {
    for (method, path, body) in ROUTES {
        let peer = Peer::key();
        let smuggled = [
            ("x-continuo-principal", "root"),
            ("grpc-metadata-authorization", "root"),
            ("x-trigger-branch", "default"),
        ];
        let answer = call_with(&peer, method, path, &smuggled, body).await;
        assert!(matches!(answer.status, 200 | 201 | 202 | 204), "{method} {path}: {}", answer.status);
        let authorizations = peer.authorizations();
        assert!(authorizations.len() >= 2, "{method} {path} calls a service");
        assert!(authorizations.iter().all(|a| a == "Bearer tr_dev_x"), "{method} {path}");
    }
}

#[tokio::test]
async fn nobody_unknown_gets_past_authentication() {
    for (method, path, _) in ROUTES {
        let peer = Peer::key();
        peer.refuse_authentication(status(
            "UNAUTHENTICATED",
            Code::Unauthenticated,
            "Public Access Token is invalid",
            &[],
        ));
        // A body that would break: it is not even read.
        let body = Body::from_stream(stream::poll_fn(|_| -> Poll<Option<Result<Bytes, std::io::Error>>> {
            panic!("the body was read before the caller was known")
        }));
        let answer =
            send(gateway(&peer, Options::default()), request(method, path, &[("origin", "https://a")], body)).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        if *method != "HEAD" {
            assert_eq!(answer.json(), json!({ "error": "Public Access Token is invalid" }));
        }
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a"));
        assert_eq!(peer.authorizations().len(), 1);
    }
}

#[tokio::test]
async fn without_a_token() {
    let peer = Peer::key();
    let without = |value: Option<&str>| {
        let mut request = Request::builder().uri("/api/v1/sessions/s");
        if let Some(value) = value {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Body::empty()).unwrap()
    };
    for value in [None, Some("Bearer "), Some("Bearer"), Some("")] {
        let answer = send(gateway(&peer, Options::default()), without(value)).await;
        assert_eq!(
            (answer.status, answer.json()),
            (401, json!({ "error": "Invalid or Missing API key" })),
            "{value:?}"
        );
    }
    for value in ["tr_dev_x", "bearer tr_dev_x", "Bearer   tr_dev_x "] {
        assert_eq!(send(gateway(&peer, Options::default()), without(Some(value))).await.status, 200);
        assert!(peer.authorizations().iter().all(|a| a == "Bearer tr_dev_x"), "{value}");
    }
}

#[tokio::test]
async fn public_tokens_are_no_keys_where_only_keys_are_taken() {
    for (method, path, body) in ROUTES {
        let key_only = path.contains("/wait") && !path.contains("/api/v1/waitpoints")
            || path.contains("/auth/")
            || path.contains("/packets/")
            || path.ends_with("/transcript")
            || (*method, *path) == ("POST", "/api/v1/sessions");
        let answer = call(&Peer::public(), method, path, body).await;
        if key_only {
            assert_eq!((answer.status, answer.json()), (401, json!({ "error": "Invalid API key" })), "{method} {path}");
        } else {
            assert_ne!(answer.status, 401, "{method} {path}");
        }
        assert_ne!(call(&Peer::with(CredentialKind::RunToken), method, path, body).await.status, 401);
    }
    let allowed = gateway(&Peer::public(), Options { create_allow_jwt: true, ..Options::default() });
    assert_eq!(send(allowed, request("POST", ROUTES[0].1, &[], ROUTES[0].2)).await.status, 201);
}

#[tokio::test]
async fn preflights_need_nobody() {
    let paths = ROUTES.iter().map(|(_, path, _)| *path).chain(["/api/v1/unknown", "/nothing"]);
    for path in paths {
        let peer = Peer::key();
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,x-part-id")
            .body(Body::empty())
            .unwrap();
        let answer = send(gateway(&peer, Options::default()), request).await;
        assert_eq!((answer.status, answer.text()), (200, "{}"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,x-part-id"));
        assert_eq!(answer.header("access-control-max-age"), Some("300"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let vary: Vec<_> = answer.headers.get_all("vary").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(vary, ["Origin", "Access-Control-Request-Headers"]);
        assert!(peer.authorizations().is_empty());
    }
    let bare = Request::builder().method(Method::OPTIONS).uri("/api/v1/sessions").body(Body::empty()).unwrap();
    let answer = send(gateway(&Peer::key(), Options::default()), bare).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn every_answer_may_be_read_by_the_asking_origin() {
    let peer = Peer::key();
    let large = "x".repeat(32_769);
    for (method, path, body, expected) in [
        ("GET", "/api/v1/sessions/s", "", 200),
        ("POST", "/api/v1/sessions", large.as_str(), 413),
        ("GET", "/nothing", "", 404),
        ("GET", "/api/v1/sessions/", "", 301),
        ("PUT", "/api/v1/sessions", "", 405),
        ("POST", "/api/v1/sessions", "", 400),
    ] {
        let answer = call_with(&peer, method, path, &[("origin", "null")], body).await;
        assert_eq!(answer.status, expected, "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("null"), "{method} {path}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in [
            "x-trigger-jwt",
            "x-trigger-jwt-claims",
            "x-should-retry",
            "x-ratelimit-reset",
            "X-Session-Settled",
            "X-Stream-Version",
        ] {
            assert!(exposed.split(',').any(|e| e == name), "{name}");
        }
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
}

#[tokio::test]
async fn wrong_methods_name_the_right_ones() {
    for (method, path, allow) in [
        ("GET", "/realtime/v1/sessions/s/in/append", "POST"),
        ("DELETE", "/api/v1/sessions/s/close", "POST"),
        ("PATCH", "/api/v1/sessions", "POST,GET,HEAD"),
    ] {
        let answer = call(&Peer::key(), method, path, "").await;
        assert_eq!((answer.status, answer.json()), (405, json!({ "error": "Method not allowed" })), "{method} {path}");
        let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').collect();
        let mut expected: Vec<_> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected);
    }
}

#[tokio::test]
async fn unknown_paths_are_named() {
    let answer = call(&Peer::key(), "POST", "/api/v1/schedules?secret=1", "").await;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({ "error": "POST /api/v1/schedules is not provided by this server" }))
    );
    assert!(answer.header("content-type").unwrap().starts_with("application/json"));
}

#[tokio::test]
async fn a_trailing_slash_is_redirected_within_this_server() {
    let location = async |path| {
        let answer = call(&Peer::key(), "GET", path, "").await;
        (answer.status, answer.header("location").map(str::to_owned))
    };
    assert_eq!(location("/api/v1/sessions/").await, (301, Some("/api/v1/sessions".into())));
    assert_eq!(location("/api/v1/sessions/a%2Fb/?x=1%20").await, (301, Some("/api/v1/sessions/a%2Fb?x=1%20".into())));
    assert_eq!(location("//evil.example/").await, (404, None));
    assert_eq!(location("/").await, (404, None));
}

#[tokio::test]
async fn any_name_survives_the_path() {
    for name in ["a/b", "a b", "a:channels:b", "ünï·😀", "%2F", "a+b", "..", "?#&=", &"😀".repeat(2_500)] {
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let peer = Peer::key();
        assert_eq!(call(&peer, "GET", &format!("/api/v1/sessions/{encoded}"), "").await.status, 200);
        assert_eq!(peer.the::<GetSessionRequest>().session, name);
        call(&peer, "POST", &format!("/realtime/v1/sessions/{encoded}/channels/{encoded}/in/append"), "x").await;
        let channel = peer.the::<AppendRequest>().channel.unwrap();
        assert_eq!((channel.session.as_str(), channel.name.as_str()), (name, name));
    }
}

#[tokio::test]
async fn paths_that_name_nothing() {
    let peer = Peer::key();
    let params_error = |answer: &Answer, path: &str| {
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "Params Error");
        assert_eq!(answer.json()["details"][0]["path"], json!([path]));
    };
    for path in ["/api/v1/sessions/a%00b", "/api/v1/sessions/%ff", "/api/v1/sessions/a%zz"] {
        params_error(&call(&peer, "GET", path, "").await, "session");
    }
    let answer = call(&peer, "GET", "/realtime/v1/sessions/s/both", "").await;
    params_error(&answer, "io");
    assert_eq!(answer.json()["details"][0]["message"], "Invalid enum value. Expected 'in' | 'out', received 'both'");
    assert_eq!(answer.json()["details"][0]["code"], "invalid_enum_value");
    for rest in ["in", "in/records", "out"] {
        let path = format!("/realtime/v1/sessions/s/channels//{rest}");
        params_error(&call(&peer, "GET", &path, "").await, "channel");
    }
    params_error(&call(&peer, "POST", "/realtime/v1/sessions/s/channels//in/append", "x").await, "channel");
    assert!(peer.all::<AppendRequest>().is_empty(), "no name is not the reserved pair");
    peer.refuse(violations(&[("channel.name", "is not a channel name")]));
    params_error(&call(&peer, "POST", "/realtime/v1/sessions/s/channels/a%20b/in/append", "x").await, "channel");
}

#[tokio::test]
async fn size_comes_before_path_and_body_after_it() {
    let peer = Peer::key();
    let large = "x".repeat(32_769);
    assert_eq!(call(&peer, "PATCH", "/api/v1/sessions/%00", &large).await.status, 413);
    let answer = call(&peer, "PATCH", "/api/v1/sessions/%00", "no json").await;
    assert_eq!(answer.json()["error"], "Params Error");
    // A caller who may not call at all learns nothing of sizes.
    assert_eq!(call(&Peer::public(), "POST", "/api/v1/sessions", &large).await.status, 401);
}

#[tokio::test]
async fn caps() {
    let close = "/api/v1/sessions/s/close";
    let peer = Peer::key();
    let body = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
    assert_eq!(call(&peer, "POST", close, &body(1_024)).await.status, 200);
    let answer = call(&peer, "POST", close, &body(1_025)).await;
    assert_eq!((answer.status, answer.json()), (413, json!({ "error": "Request body too large" })));
    let answer = call_with(&peer, "POST", close, &[("content-length", "many")], "{}").await;
    assert_eq!(answer.status, 413);
    // Without a declared length, as in chunked transfer, the cap holds while reading.
    let chunks = |n| stream::iter((0..n).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 512]))));
    let router = gateway(&peer, Options::default());
    assert_eq!(send(router.clone(), request("POST", close, &[], Body::from_stream(chunks(3)))).await.status, 413);
    let two = send(router, request("POST", close, &[], Body::from_stream(chunks(2)))).await;
    assert_eq!((two.status, two.json()), (400, json!({ "error": "Invalid JSON" })));
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let peer = Peer::key();
    for (method, path, body) in
        ROUTES.iter().filter(|(_, path, body)| body.starts_with('{') && !path.ends_with("/complete"))
    {
        let error =
            async |body: &str| call(&peer, method, path, body).await.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(error("").await, "Request body is empty", "{path}");
        for falsy in ["null", "0", "false", "\"\"", "{", "x"] {
            assert_eq!(error(falsy).await, "Invalid JSON", "{path} {falsy} {body}");
        }
        assert_eq!(error("[]").await, "Validation error: Expected object, received array", "{path}");
    }
}

#[tokio::test]
async fn headers_of_the_sdk_are_tolerated() {
    let headers = [
        ("trigger-version", "4.8.3"),
        ("x-trigger-source", "sdk"),
        ("x-trigger-client", "browser"),
        ("x-trigger-api-version", "2025-07-16"),
        ("x-trigger-realtime-streams-version", "v1"),
        ("x-trigger-worker", "true"),
        ("x-trigger-request-idempotency-key", "k"),
        ("traceparent", "00-0-0-00"),
        ("content-type", "text/plain"),
        ("accept-encoding", "gzip"),
    ];
    for (method, path, body) in ROUTES {
        let answer = call_with(&Peer::key(), method, path, &headers, body).await;
        assert!(answer.status < 300 || answer.status == 501, "{method} {path}");
        assert_eq!(answer.header("content-encoding"), None);
    }
}
