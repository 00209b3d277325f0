//! The gateway as a process of its own: the same answers, with the services behind a connection.

use crate::support::{KEY, TestNode};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A gateway process in front of the node, and where it answers.
pub(crate) async fn gateway_before(node: &TestNode) -> (Child, String) {
    gateway_with(node, &[]).await
}

/// As [`gateway_before`], with further arguments.
pub(crate) async fn gateway_with(node: &TestNode, args: &[&str]) -> (Child, String) {
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_continuo"))
        .args(["gateway", "--upstream", &node.url])
        .args(args)
        .env("CONTINUO_LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let said = lines.next_line().await.unwrap().unwrap();
    let url = said.strip_prefix("listening on ").unwrap().to_owned();
    (gateway, url)
}

#[tokio::test]
async fn a_gateway_in_front_of_a_server_elsewhere_answers_the_same() {
    let node = TestNode::start().await;
    let (mut gateway, url) = gateway_before(&node).await;
    let script = r#"
        auth="Authorization: Bearer $KEY"
        curl -sf "$URL/api/v1/sessions" -H "$auth" -d '{"type":"t","externalId":"g","taskIdentifier":"x","triggerConfig":{"basePayload":{}}}'
        curl -sf "$URL/realtime/v1/sessions/g/in/append" -H "$auth" -d hello
        curl -sf "$URL/realtime/v1/sessions/g/in/records" -H "$auth"
        curl -sf "$URL/realtime/v1/sessions/g/in" -H "$auth" -H 'Timeout-Seconds: 1'
        curl -s "$URL/api/v1/sessions/missing" -H "$auth"
    "#;
    let done = Command::new("bash").args(["-euc", script]).env("URL", &url).env("KEY", KEY).output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{errors}");
    for expected in [r#""isCached":false"#, r#""ok":true"#, r#""data":"hello""#, "event: batch", "[DONE]", "Not found"]
    {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    gateway.kill().await.unwrap();
}
