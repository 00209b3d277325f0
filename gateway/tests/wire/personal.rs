//! The routes of the personal access token.

use axum::body::Body;
use continuo_gateway::Options;
use continuo_proto::v1::*;
use futures_util::stream;
use http::{Request, header};
use serde_json::json;
use std::task::Poll;
use tonic::Code;

use crate::{
    common::{call, call_with, gateway, request, send},
    peer::{Peer, status, violations},
};

const WHOAMI: &str = "/api/v2/whoami";
const JWT: &str = "/api/v1/projects/proj_1/dev/jwt";
const BODY: &str = r#"{"claims":{"scopes":["read:runs","write:sessions"]}}"#;

/// A server with two projects.
fn peer() -> Peer {
    let environment = |id: &str, project_id: &str, slug: &str| Environment {
        id: id.into(),
        organization_id: "org_1".into(),
        project_id: project_id.into(),
        r#type: "DEVELOPMENT".into(),
        slug: slug.into(),
    };
    let environments = vec![
        environment("env_0", "proj_0", "dev"),
        environment("env_1", "proj_1", "dev"),
        environment("env_2", "proj_1", "night shift"),
    ];
    let peer = Peer::default();
    peer.answer(ListEnvironmentsResponse { environments });
    peer.answer(CreateEnvironmentTokenResponse { token: "a.b.c".into() });
    peer
}

#[tokio::test]
async fn whoever_has_the_token_is_the_operator() {
    let peer = peer();
    let answer = call_with(&peer, "GET", WHOAMI, &[("host", "chat.example:8080")], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "userId": "operator",
            "email": "operator@continuo.invalid",
            "dashboardUrl": "http://chat.example:8080",
        })
    );
    assert_eq!(peer.authorizations(), ["Bearer tr_dev_x"]);
    let options = Options { public_base_url: Some("https://chat.example/".into()), ..Options::default() };
    let answer = send(gateway(&peer, options), request("GET", WHOAMI, &[], "")).await;
    assert_eq!(answer.json()["dashboardUrl"], "https://chat.example");
}

#[tokio::test]
async fn a_token_is_made_for_the_environment_that_is_named() {
    for (path, environment_id) in [
        (JWT, "env_1"),
        ("/api/v1/projects/proj_0/dev/jwt", "env_0"),
        ("/api/v1/projects/proj_1/night%20shift/jwt", "env_2"),
    ] {
        let peer = peer();
        let answer = call(&peer, "POST", path, BODY).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "token": "a.b.c" })), "{path}");
        let asked = CreateEnvironmentTokenRequest {
            environment_id: environment_id.into(),
            scopes: vec!["read:runs".into(), "write:sessions".into()],
            expires_at: None,
        };
        assert_eq!(peer.the::<CreateEnvironmentTokenRequest>(), asked, "{path}");
        assert_eq!(peer.authorizations(), ["Bearer tr_dev_x", "Bearer tr_dev_x"]);
    }
}

#[tokio::test]
async fn a_token_may_be_asked_for_until_a_moment() {
    let peer = peer();
    call(&peer, "POST", JWT, r#"{"claims":{"scopes":["read:runs"]},"expirationTime":2000000000}"#).await;
    let asked = peer.the::<CreateEnvironmentTokenRequest>();
    assert_eq!(asked.expires_at.unwrap().seconds, 2_000_000_000);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    for (path, text) in [
        ("/api/v1/projects/proj_9/dev/jwt", "Project not found"),
        ("/api/v1/projects/proj/dev/jwt", "Project not found"),
        ("/api/v1/projects//dev/jwt", "Project not found"),
        ("/api/v1/projects/proj_1/prod/jwt", "Environment not found"),
        ("/api/v1/projects/proj_0/night%20shift/jwt", "Environment not found"),
    ] {
        let peer = peer();
        let answer = call(&peer, "POST", path, BODY).await;
        assert_eq!((answer.status, answer.json()), (404, json!({ "error": text })), "{path}");
        assert!(peer.all::<CreateEnvironmentTokenRequest>().is_empty());
    }
    for (branch, expected) in [("feature", 404), ("default", 200), (" ", 200)] {
        let answer = call_with(&peer(), "POST", JWT, &[("x-trigger-branch", branch)], BODY).await;
        assert_eq!(answer.status, expected, "{branch}");
    }
    let answer = call(&peer(), "POST", "/api/v1/projects/%zz/dev/jwt", BODY).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("Params Error")));
}

#[tokio::test]
async fn nobody_else_is_heard() {
    let unknown = json!({ "error": "Invalid or Missing Access Token" });
    for (method, path) in [("GET", WHOAMI), ("POST", JWT), ("POST", "/api/v1/projects/proj_9/dev/jwt")] {
        let peer = peer();
        peer.refuse(status("UNAUTHENTICATED", Code::Unauthenticated, "Invalid API key", &[]));
        // A body that would break: it is not even read.
        let body = Body::from_stream(stream::poll_fn(|_| -> Poll<Option<Result<bytes::Bytes, std::io::Error>>> {
            panic!("the body was read before the caller was known")
        }));
        let answer = send(gateway(&peer, Options::default()), request(method, path, &[], body)).await;
        assert_eq!((answer.status, answer.json()), (401, unknown.clone()), "{method} {path}");
        for value in [None, Some(""), Some("Bearer"), Some("Bearer \u{e4}")] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(value) = value {
                request = request.header(header::AUTHORIZATION, value.as_bytes());
            }
            let answer = send(gateway(&peer, Options::default()), request.body(Body::empty()).unwrap()).await;
            assert_eq!((answer.status, answer.json()), (401, unknown.clone()), "{method} {path} {value:?}");
        }
        assert_eq!(peer.authorizations().len(), 1, "who sends nothing is not asked about");
    }
}

#[tokio::test]
async fn bodies_that_ask_for_no_token() {
    for (body, text) in [
        ("", "Request body is empty"),
        ("{", "Invalid JSON"),
        ("[]", "Validation error: Expected object, received array"),
        ("{}", "Validation error: Required at \"claims\""),
        (r#"{"claims":7}"#, "Validation error: Expected object, received number at \"claims\""),
        (r#"{"claims":{}}"#, "Validation error: Required at \"claims.scopes\""),
        (r#"{"claims":{"scopes":"a"}}"#, "Validation error: Expected array, received string at \"claims.scopes\""),
        (r#"{"claims":{"scopes":[1]}}"#, "Validation error: Expected string, received number at \"claims.scopes.0\""),
        (
            r#"{"claims":{"scopes":["a"]},"expirationTime":"soon"}"#,
            "Validation error: Invalid expiration time at \"expirationTime\"",
        ),
    ] {
        let peer = peer();
        let answer = call(&peer, "POST", JWT, body).await;
        assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })), "{body}");
        assert!(peer.all::<CreateEnvironmentTokenRequest>().is_empty());
    }
    let large = format!(r#"{{"claims":{{"scopes":["{}"]}}}}"#, "x".repeat(10_240));
    assert_eq!(call(&peer(), "POST", JWT, &large).await.status, 413);
}

#[tokio::test]
async fn what_the_services_refuse_is_passed_on() {
    for (refusal, expected) in [
        (violations(&[("scopes", "must hold 1 to 256 scopes")]), 400),
        (status("BACKEND_UNAVAILABLE", Code::Unavailable, "the store is not available; try again", &[]), 503),
        (status("INTERNAL", Code::Internal, "what broke", &[]), 500),
    ] {
        let peer = peer();
        peer.refuse(refusal);
        let answer = call(&peer, "POST", JWT, BODY).await;
        assert_eq!(answer.status, expected);
        assert!(!answer.text().contains("what broke"), "{}", answer.text());
    }
}

#[tokio::test]
async fn browsers_ask_first_and_wrong_methods_are_named() {
    let peer = peer();
    for (method, path) in [("POST", WHOAMI), ("GET", JWT)] {
        let answer = call(&peer, method, path, "").await;
        assert_eq!((answer.status, answer.json()), (405, json!({ "error": "Method not allowed" })), "{method} {path}");
        let answer = call_with(&peer, "OPTIONS", path, &[("origin", "https://app.example")], "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://app.example")));
    }
    assert!(peer.authorizations().is_empty());
}
