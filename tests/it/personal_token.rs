//! The admin key as the personal access token of command line tools.

use crate::gateway_alone::gateway_before;
use crate::support::TestNode;
use crate::support::rest::Rest;
use serde_json::json;

const JWT: &str = "/api/v1/projects/proj_dev/dev/jwt";
const SCOPES: &str = r#"{"claims":{"scopes":["read:sessions"]}}"#;

/// Whatever the admin key is, these hold of it.
async fn opens_what_it_should(url: &str, admin_key: &str) {
    let operator = Rest::new(url, Some(admin_key));
    let user = operator.get("/api/v2/whoami").await.json();
    assert_eq!((&user["userId"], &user["dashboardUrl"]), (&"operator".into(), &url.into()));

    let made = operator.post(JWT, SCOPES).await.json();
    let token = Rest::new(url, made["token"].as_str());
    assert_eq!(token.get("/api/v1/sessions").await.status, 200);
    assert_eq!(token.get("/api/v1/runs").await.status, 403, "its scopes and no more");

    let elsewhere = operator.post("/api/v1/projects/proj_other/dev/jwt", SCOPES).await;
    assert_eq!((elsewhere.status, elsewhere.json()), (404, json!({ "error": "Project not found" })));
    let empty = operator.post(JWT, r#"{"claims":{"scopes":[]}}"#).await;
    let text = "Validation error: must hold 1 to 256 scopes at \"scopes\"";
    assert_eq!((empty.status, empty.json()), (400, json!({ "error": text })));
}

#[tokio::test]
async fn a_fresh_admin_key_has_the_form_that_tools_take() {
    let node = TestNode::start().await;
    let admin_key = std::fs::read_to_string(node.dir().join("admin.key")).unwrap();
    assert!(admin_key.starts_with("tr_pat_"));
    opens_what_it_should(&node.url, &admin_key).await;
    let (mut gateway, url) = gateway_before(&node).await;
    opens_what_it_should(&url, &admin_key).await;
    gateway.kill().await.unwrap();
}

#[tokio::test]
async fn an_admin_key_of_any_other_form_does_the_same() {
    let node = TestNode::start_with(|config| config.keys.admin_key = Some("of another form".to_owned().into())).await;
    opens_what_it_should(&node.url, "of another form").await;
}
