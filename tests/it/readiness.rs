//! What probes are told while an engine is away, what callers are told meanwhile, and that a node comes back by itself.

use crate::support::postgres::PostgresDatabase;
use crate::support::proxy::Proxy;
use crate::support::rest::Rest;
use crate::support::{ADMIN_KEY, KEY, TestNode, create_request};
use continuo_proto::v1::session_service_client::SessionServiceClient;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

const CREATE: &str =
    r#"{"type":"chat.agent","externalId":"c","taskIdentifier":"t","triggerConfig":{"basePayload":{}}}"#;

/// A way to the server that a URL names, and the URL by that way.
async fn by_proxy(url: &str) -> (Proxy, String) {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let address = authority.rsplit('@').next().unwrap();
    let proxy = Proxy::start(address.parse::<SocketAddr>().unwrap()).await;
    let by_proxy = url.replacen(address, &format!("127.0.0.1:{}", proxy.port), 1);
    (proxy, by_proxy)
}

/// Asks until the answer is this one.
async fn until_ready_is(rest: &Rest, status: u16, text: &str) {
    let asked = async {
        loop {
            let answer = rest.get("/readyz").await;
            if (answer.status, answer.text().as_str()) == (status, text) {
                assert_eq!(answer.header("retry-after").is_some(), status == 503);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("never {status} {text}"));
}

async fn is_serving(url: &str) -> bool {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status() == ServingStatus::Serving
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_database_is_away_says_so_and_comes_back() {
    let database = PostgresDatabase::migrated().await;
    let (proxy, url) = by_proxy(&database.url).await;
    let node = TestNode::start_with(|config| {
        config.database.url = Some(url.into());
        config.keys.master_key = Some("aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=".to_owned().into());
        config.keys.admin_key = Some(ADMIN_KEY.to_owned().into());
    })
    .await;
    let rest = node.rest();
    until_ready_is(&rest, 200, "ready").await;
    assert!(is_serving(&node.url).await);

    // A database that says nothing is as far away as one that is not there.
    proxy.silence();
    until_ready_is(&rest, 503, "the database cannot be reached").await;
    proxy.down();
    until_ready_is(&rest, 503, "the database cannot be reached").await;
    assert_eq!(rest.status("GET", "/healthz", "").await, 200);
    assert!(!is_serving(&node.url).await);

    let refused = rest.post("/api/v1/sessions", CREATE).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    let client = node.client_with(KEY).await;
    let refused: Result<_, tonic::Status> =
        SessionServiceClient::clone(&client.sessions).create_session(create_request(None)).await.map(drop);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());

    proxy.up();
    until_ready_is(&rest, 200, "ready").await;
    assert!(is_serving(&node.url).await);
    assert_eq!(rest.status("POST", "/api/v1/sessions", CREATE).await, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_s2_is_away_says_so_and_comes_back() {
    let endpoint = std::env::var("CONTINUO_TEST_S2_ENDPOINT");
    let endpoint = endpoint.expect("no S2 to test on; start one with: eval \"$(tests/services up)\"");
    let (proxy, url) = by_proxy(&endpoint).await;
    let node = TestNode::start_with(|config| {
        config.s2.endpoint = Some(url);
        config.s2.basin_prefix = format!("readiness-{}", std::process::id());
    })
    .await;
    let rest = node.rest();
    assert_eq!(rest.status("POST", "/api/v1/sessions", CREATE).await, 201);
    assert_eq!(rest.status("POST", "/realtime/v1/sessions/c/in/append", "one").await, 200);

    proxy.down();
    until_ready_is(&rest, 503, "the channel log cannot be reached").await;
    let refused = rest.post("/realtime/v1/sessions/c/in/append", "two").await;
    assert!(refused.status >= 500 && refused.header("retry-after").is_some(), "{} {}", refused.status, refused.text());

    proxy.up();
    until_ready_is(&rest, 200, "ready").await;
    assert_eq!(rest.status("POST", "/realtime/v1/sessions/c/in/append", "three").await, 200);
}
