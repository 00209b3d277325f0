//! Nobody gets in without a token, wherever there is a door.

use super::harness::{ADMIN_KEY, Node, bad_fields, by, reason};
use axum::body::{Body, to_bytes};
use continuo_proto::{FILE_DESCRIPTOR_SET, SETTLED_METADATA, v1};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION,
    CONTENT_TYPE, ORIGIN,
};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tower::ServiceExt;

/// Every rpc there is, from the definitions: a new one is tested before its author thinks of it.
fn every_rpc() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().filter(|f| f.package() == "continuo.v1").flat_map(|f| &f.service);
    services.flat_map(|s| s.method.iter().map(|m| format!("/continuo.v1.{}/{}", s.name(), m.name()))).collect()
}

/// Calls an rpc with an empty message.
async fn call(node: &Node, rpc: &str, bearer: Option<&str>) -> Status {
    let mut request = Request::post(rpc).version(http::Version::HTTP_2).header(CONTENT_TYPE, "application/grpc");
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    // What a proxy or an attacker might put there.
    request = request.header("x-principal", "root").header("x-continuo-environment", "env_a");
    let mut request = request.body(Body::from(vec![0_u8; 5])).unwrap();
    request.extensions_mut().insert(continuo_domain::principal::Credential::RootKey);
    let response = node.router.clone().oneshot(request).await.unwrap();
    let headers: &HeaderMap = response.headers();
    Status::from_header_map(headers).unwrap_or_else(|| Status::ok("a stream has begun"))
}

#[tokio::test]
async fn every_rpc_asks_who_is_there() {
    let node = Node::start().await;
    let rpcs = every_rpc();
    assert!(rpcs.len() >= 42, "the definitions are read: {}", rpcs.len());
    for rpc in &rpcs {
        for bearer in
            [None, Some(""), Some("Bearer"), Some("Bearer tr_dev_nobody"), Some("Bearer tr_run_x.y"), Some("a.b.c")]
        {
            let status = call(&node, rpc, bearer).await;
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::Unauthenticated, "UNAUTHENTICATED"),
                "{rpc} {bearer:?}"
            );
        }
        let missing = call(&node, rpc, None).await;
        assert_eq!(missing.message(), "Invalid or Missing API key", "{rpc}");
    }
}

#[tokio::test]
async fn the_admin_key_and_the_tenants_keys_open_their_own_doors_only() {
    let node = Node::start().await;
    for rpc in every_rpc() {
        let is_admin = rpc.contains("AdminService");
        let foreign = if is_admin { &node.root_key } else { ADMIN_KEY };
        assert_eq!(call(&node, &rpc, Some(foreign)).await.code(), Code::Unauthenticated, "{rpc}");
        let own = if is_admin { ADMIN_KEY } else { &node.root_key };
        assert_ne!(call(&node, &rpc, Some(own)).await.code(), Code::Unauthenticated, "{rpc}");
    }
}

#[tokio::test]
async fn keys_are_made_rotated_and_revoked() {
    let node = Node::start().await;
    let made = node.new_environment("second").await;
    let environment_id = made.environment.unwrap().id;
    let whoami = async |token: &str| node.tokens().authenticate(by(token, v1::AuthenticateRequest {})).await;
    let root = whoami(&made.root_key).await.unwrap().into_inner();
    assert_eq!((root.kind(), &root.environment_id), (v1::CredentialKind::RootKey, &environment_id));

    let rotate = v1::RotateRootKeyRequest { environment_id: environment_id.clone() };
    let renewed = node.admin().rotate_root_key(by(ADMIN_KEY, rotate)).await.unwrap().into_inner().root_key;
    assert!(renewed != made.root_key && renewed.starts_with("tr_dev_"));
    for key in [&renewed, &made.root_key] {
        assert_eq!(whoami(key).await.unwrap().into_inner().environment_id, environment_id, "both count in the grace");
    }

    let new = v1::CreateApiKeyRequest {
        environment_id: environment_id.clone(),
        name: "reader".into(),
        scopes: vec!["read:sessions".into()],
    };
    let key = node.admin().create_api_key(by(ADMIN_KEY, new)).await.unwrap().into_inner();
    let caller = whoami(&key.secret).await.unwrap().into_inner();
    assert_eq!((caller.kind(), caller.scopes), (v1::CredentialKind::AdditionalKey, vec!["read:sessions".to_owned()]));
    let list = v1::ListApiKeysRequest { environment_id: environment_id.clone() };
    let rows = node.admin().list_api_keys(by(ADMIN_KEY, list)).await.unwrap().into_inner().api_keys;
    assert_eq!(rows, [key.api_key.clone().unwrap()]);

    let api_key_id = key.api_key.unwrap().id;
    let revoke = v1::RevokeApiKeyRequest { environment_id, api_key_id };
    node.admin().revoke_api_key(by(ADMIN_KEY, revoke)).await.unwrap();
    assert_eq!(whoami(&key.secret).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_admin_key_makes_tokens_for_an_environment() {
    let node = Node::start().await;
    let environment_id = node.new_environment("second").await.environment.unwrap().id;
    let ask = async |environment_id: &str, scopes: &[&str]| {
        let request = v1::CreateEnvironmentTokenRequest {
            environment_id: environment_id.into(),
            scopes: scopes.iter().map(|&scope| scope.into()).collect(),
            expires_at: None,
        };
        node.admin().create_environment_token(by(ADMIN_KEY, request)).await.map(|made| made.into_inner().token)
    };
    let token = ask(&environment_id, &["write:tasks", "read:runs"]).await.unwrap();
    let who = node.tokens().authenticate(by(&token, v1::AuthenticateRequest {})).await.unwrap().into_inner();
    assert_eq!((who.kind(), &who.environment_id), (v1::CredentialKind::PublicToken, &environment_id));
    assert_eq!(who.scopes, ["write:tasks", "read:runs"]);

    let refused = ask("second", &["read:runs", ""]).await.unwrap_err();
    assert_eq!(
        (refused.code(), bad_fields(&refused)),
        (Code::InvalidArgument, vec!["environment_id".into(), "scopes".into()])
    );
    for (id, scopes, field) in [("env_nowhere", &["read:runs"][..], "environment_id"), (&environment_id, &[], "scopes")]
    {
        let refused = ask(id, scopes).await.unwrap_err();
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn browsers_speak_grpc_web_over_http_1() {
    let node = Node::start().await;
    let request = Request::post("/continuo.v1.TokenService/GetClaims")
        .header(CONTENT_TYPE, "application/grpc-web+proto")
        .header(AUTHORIZATION, format!("Bearer {}", node.root_key))
        .body(Body::from(vec![0_u8; 5]))
        .unwrap();
    let response = node.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc-web+proto");
    let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("env_") && text.contains("grpc-status:0"), "{text}");
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_and_read_refusals() {
    let node = Node::start().await;
    let preflight = Request::options("/continuo.v1.ChannelService/Read")
        .header(ORIGIN, "https://page.example")
        .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-grpc-web")
        .body(Body::empty())
        .unwrap();
    let answer = node.router.clone().oneshot(preflight).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS], "POST");
    assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "authorization,x-grpc-web");

    let call = |origin: Option<&str>| {
        let mut request = Request::post("/continuo.v1.TokenService/GetClaims");
        request = request.header(CONTENT_TYPE, "application/grpc-web+proto");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        node.router.clone().oneshot(request.body(Body::from(vec![0_u8; 5])).unwrap())
    };
    let refused = call(Some("https://page.example")).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "16", "in the headers, where nothing follows");
    assert_eq!(refused.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let exposed = refused.headers()[ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", SETTLED_METADATA] {
        assert!(exposed.split(',').any(|header| header == name), "{name} in {exposed}");
    }
    let from_no_page = call(None).await.unwrap();
    assert!(from_no_page.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn health_and_reflection_need_no_token_and_unknown_methods_say_so() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let node = Node::start().await;
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(node.router.clone()).check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(check("continuo.v1.SessionService").await, ServingStatus::Serving);
    node.health.set_serving(false).await;
    assert_eq!(check("").await, ServingStatus::NotServing);
    for version in ["v1", "v1alpha"] {
        let rpc = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        assert_eq!(call(&node, &rpc, None).await.code(), Code::Ok, "{version}");
    }
    assert_eq!(call(&node, "/continuo.v1.SessionService/Nothing", None).await.code(), Code::Unimplemented);
    let response = crate::unimplemented_response();
    assert_eq!(response.headers().get("grpc-status").unwrap(), "12");
}
