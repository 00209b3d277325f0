//! gRPC, gRPC-Web, REST and SSE meet on one port and on the same records.

use crate::support::{KEY, TestNode};
use continuo_proto::v1::Direction;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One HTTP/1.1 exchange by hand; the whole answer.
async fn http(node: &TestNode, head: &str, body: &[u8]) -> String {
    let host = node.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let (request, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut text =
        format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.lines().for_each(|line| text.push_str(&format!("{line}\r\n")));
    socket.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_rest_appends_grpc_and_sse_read() {
    let node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("meet")).await.session.unwrap();
    let bearer = format!("Authorization: Bearer {KEY}");
    let appended = http(&node, &format!("POST /realtime/v1/sessions/meet/out/append\n{bearer}"), b"hi").await;
    assert!(appended.starts_with("HTTP/1.1 200") && appended.contains(r#""ok":true"#), "{appended}");
    let seq = client.append(&session.id, Direction::Out, "there").await.unwrap();
    let head = format!("GET /realtime/v1/sessions/meet/out\n{bearer}\nTimeout-Seconds: 1");
    let sse = http(&node, &head, b"").await;
    assert!(sse.contains("x-stream-version: v2"), "{sse}");
    assert!(sse.contains(r#"\"data\":\"hi\""#) && sse.contains(&format!(r#""seq_num":{seq}"#)), "{sse}");
    assert!(sse.contains("data: [DONE]"), "{sse}");
}

#[tokio::test]
async fn grpc_web_answers_on_the_same_port() {
    let node = TestNode::start().await;
    let head = format!(
        "POST /continuo.v1.TokenService/Authenticate\nAuthorization: Bearer {KEY}\nContent-Type: application/grpc-web+proto\nX-Grpc-Web: 1"
    );
    let answer = http(&node, &head, &[0; 5]).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("application/grpc-web+proto"), "{answer}");
    assert!(answer.contains("env_dev") && answer.contains("grpc-status:0"), "{answer}");
}

#[tokio::test]
async fn what_nobody_knows_is_answered_in_the_callers_protocol() {
    let node = TestNode::start().await;
    let rest = http(&node, "GET /api/v1/nothing", b"").await;
    assert!(rest.starts_with("HTTP/1.1 404") && rest.contains("GET /api/v1/nothing"), "{rest}");
    let service = http(&node, "POST /nobody.v1.Nothing/Nothing\nContent-Type: application/grpc", &[0; 5]).await;
    assert!(service.contains("grpc-status: 12"), "{service}");
    let method = "POST /continuo.v1.SessionService/Nothing\nContent-Type: application/grpc-web+proto";
    let method = http(&node, method, &[0; 5]).await;
    assert!(method.contains("grpc-status: 12") || method.contains("grpc-status:12"), "{method}");
    let probe = http(&node, "GET /healthz", b"").await;
    assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");
}
