//! Over HTTP, as an agent's run does it: ask for a URL, put the snapshot there, find it again.

use crate::gateway_alone::gateway_before;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{KEY, TestNode};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use continuo::config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, taken apart.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One HTTP/1.1 exchange by hand.
async fn http(node: &TestNode, head: &str, body: &[u8]) -> Answer {
    let host = node.url.strip_prefix("http://").unwrap();
    let (request, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut text =
        format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.lines().for_each(|line| text.push_str(&format!("{line}\r\n")));
    let (mut reader, mut writer) = TcpStream::connect(host).await.unwrap().into_split();
    let bytes = [format!("{text}\r\n").as_bytes(), body].concat();
    // A refused body may never be taken whole.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&bytes).await;
        writer
    });
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    sending.abort();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// Path of a URL that was asked for.
async fn presigned(node: &TestNode, bearer: &str, request: &str) -> String {
    let answer = http(node, &format!("{request}\nAuthorization: Bearer {bearer}"), b"").await;
    assert_eq!(answer.status, 200, "{request}: {}", answer.json());
    let url = answer.json()["presignedUrl"].as_str().unwrap().to_owned();
    url.strip_prefix(&node.url).expect("the address the caller used").to_owned()
}

async fn snapshot_url(node: &TestNode, bearer: &str, method: &str, session: &str) -> String {
    presigned(node, bearer, &format!("{method} /api/v1/sessions/{session}/snapshot-url")).await
}

async fn rename(node: &TestNode, from: &str, to: &str) {
    let body = format!(r#"{{"externalId":"{to}"}}"#);
    let head = format!("PATCH /api/v1/sessions/{from}\nAuthorization: Bearer {KEY}");
    assert_eq!(http(node, &head, body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_snapshot_follows_its_session_and_goes_with_it() {
    let mut node = TestNode::start().await;
    let made = node.client().await.create(Some("chat")).await;
    let (id, token) = (made.session.unwrap().id, made.public_access_token);
    let read = snapshot_url(&node, &token, "GET", "chat").await;
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.status, 404, "nothing yet");

    let snapshot: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let write = snapshot_url(&node, &token, "PUT", "chat").await;
    let put = http(&node, &format!("PUT {write}\nContent-Type: application/x-snapshot; v=2"), &snapshot).await;
    assert_eq!(put.status, 200, "{}", put.head);
    let is_there = async |node: &TestNode, path: &str| {
        let got = http(node, &format!("GET {path}"), b"").await;
        assert_eq!((got.status, got.header("content-type")), (200, Some("application/x-snapshot; v=2")));
        assert!(got.body == snapshot, "byte for byte");
    };
    is_there(&node, &read).await;

    rename(&node, "chat", "renamed").await;
    is_there(&node, &snapshot_url(&node, &token, "GET", "renamed").await).await;
    is_there(&node, &snapshot_url(&node, KEY, "GET", &id).await).await;
    let other = node.client().await.create(Some("chat")).await.session.unwrap().id;
    let others = snapshot_url(&node, KEY, "GET", "chat").await;
    assert_eq!(http(&node, &format!("GET {others}"), b"").await.status, 404, "the name's new owner {other} has none");

    node.restart().await;
    is_there(&node, &snapshot_url(&node, KEY, "GET", "renamed").await).await;
    is_there(&node, &read).await;

    let delete = format!("DELETE /api/v1/sessions/{id}\nAuthorization: Bearer {KEY}");
    assert_eq!(http(&node, &delete, b"").await.status, 204);
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.status, 404);
    assert_eq!(http(&node, &format!("PUT {write}"), b"late").await.status, 404);
}

#[tokio::test]
async fn a_url_that_was_tampered_with_is_refused() {
    let node = TestNode::start().await;
    node.client().await.create(Some("mine")).await;
    let other = node.client().await.create(Some("other")).await.session.unwrap().id;
    let write = snapshot_url(&node, KEY, "PUT", "mine").await;
    assert_eq!(http(&node, &format!("GET {write}"), b"").await.status, 403, "the other method");
    assert_eq!(http(&node, &format!("PUT {write}A"), b"x").await.status, 403);
    assert_eq!(http(&node, "PUT /blobs/nothing", b"x").await.status, 403);
    assert_eq!(http(&node, &format!("PUT /blobs/{KEY}"), b"x").await.status, 403, "a key is no URL");

    // Another session's id under the same signature.
    let (payload, mac) = write.strip_prefix("/blobs/tr_blob_").unwrap().split_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let at = bytes.windows(8).position(|w| w == b"session_").unwrap();
    bytes.splice(at.., other.bytes());
    let forged = format!("/blobs/tr_blob_{}.{mac}", URL_SAFE_NO_PAD.encode(bytes));
    let refused = http(&node, &format!("PUT {forged}"), b"x").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("The URL is invalid or has expired")));
    let read = snapshot_url(&node, KEY, "GET", &other).await;
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.status, 404, "nothing was stored");
}

#[tokio::test]
async fn an_under_scoped_token_learns_nothing() {
    let node = TestNode::start().await;
    let made = node.client().await.create(Some("mine")).await;
    node.client().await.create(Some("other")).await;
    for session in ["other", "missing"] {
        for method in ["PUT", "GET"] {
            let head = format!(
                "{method} /api/v1/sessions/{session}/snapshot-url\nAuthorization: Bearer {}",
                made.public_access_token
            );
            let refused = http(&node, &head, b"").await;
            assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("unauthorized")), "{session}");
        }
    }
    for (method, text) in [("PUT", "Resource not found"), ("GET", "Not found")] {
        let head = format!("{method} /api/v1/sessions/missing/snapshot-url\nAuthorization: Bearer {KEY}");
        let missing = http(&node, &head, b"").await;
        assert_eq!((missing.status, missing.json()["error"].as_str()), (404, Some(text)));
    }
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_sent() {
    let node = TestNode::start().await;
    node.client().await.create(Some("mine")).await;
    let write = snapshot_url(&node, KEY, "PUT", "mine").await;
    let host = node.url.strip_prefix("http://").unwrap();
    let head = format!("PUT {write} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", (64 << 20) + 1);
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // A client that goes away half-way leaves what was there before.
    assert_eq!(http(&node, &format!("PUT {write}"), b"first").await.status, 200);
    let head = format!("PUT {write} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nhalf");
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let _ = socket.read_to_end(&mut Vec::new()).await;
    let read = snapshot_url(&node, KEY, "GET", "mine").await;
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.body, b"first");
}

#[tokio::test]
async fn packets_go_out_and_come_back() {
    let node = TestNode::start().await;
    let auth = format!("Authorization: Bearer {KEY}");
    let signed = http(&node, &format!("PUT /api/v2/packets/run_1/payload%20x.json\n{auth}"), b"").await.json();
    assert_eq!(signed["storagePath"], "run_1/payload x.json");
    let write = signed["presignedUrl"].as_str().unwrap().strip_prefix(&node.url).unwrap().to_owned();
    assert_eq!(http(&node, &format!("PUT {write}\nContent-Type: application/json"), b"{\"a\":1}").await.status, 200);
    let read = presigned(&node, KEY, "GET /api/v1/packets/run_1/payload%20x.json").await;
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.body, b"{\"a\":1}");
    assert_eq!(http(&node, &format!("PUT /api/v2/packets/a/..%2F..%2Fb\n{auth}"), b"").await.status, 400);
    let token = node.client().await.create(Some("s")).await.public_access_token;
    let public = http(&node, &format!("GET /api/v1/packets/a\nAuthorization: Bearer {token}"), b"").await;
    assert_eq!((public.status, public.json()["error"].as_str()), (401, Some("Invalid API key")));
}

/// A snapshot of version 2: a line per message between a head and an index.
fn in_lines(messages: &[&str]) -> Vec<u8> {
    let mut text = "{\"v\":2,\"savedAt\":1,\"state\":{\"secret\":1}}\n".to_owned();
    let (mut ids, mut offsets) = (Vec::new(), vec![text.len()]);
    for message in messages {
        let id = serde_json::from_str::<serde_json::Value>(message).unwrap()["id"].clone();
        text.push_str(&format!("{{\"id\":{id},\"final\":true,\"message\":{message}}}\n"));
        ids.push(id);
        offsets.push(text.len());
    }
    let footer = serde_json::json!({ "ids": ids, "offsets": offsets, "lastOutEventId": "9" }).to_string();
    format!("{text}{footer}\n#tt2:{:016}\n", footer.len()).into_bytes()
}

#[tokio::test]
async fn a_transcript_is_read_in_pages() {
    let node = TestNode::start().await;
    let made = node.client().await.create(Some("chat")).await;
    let transcript = async |query: &str| {
        let head = format!("GET /api/v1/sessions/chat/transcript{query}\nAuthorization: Bearer {KEY}");
        http(&node, &head, b"").await
    };
    assert_eq!(transcript("").await.body, br#"{"messages":[],"state":null}"#);
    let messages: Vec<String> = (1..=5).map(|n| format!(r#"{{"id":"m{n}", "n":{n}.0}}"#)).collect();
    let snapshot = format!(r#"{{"version":1,"savedAt":1,"messages":[{}],"lastOutEventId":"9"}}"#, messages.join(","));
    let write = snapshot_url(&node, KEY, "PUT", "chat").await;
    http(&node, &format!("PUT {write}\nContent-Type: application/json"), snapshot.as_bytes()).await;
    let page = transcript("?limit=2").await;
    let newest = r#"{"messages":[{"id":"m4", "n":4.0},{"id":"m5", "n":5.0}],"state":null,"cursors":{"lastOutEventId":"9"},"nextCursor":"m4"}"#;
    assert_eq!(String::from_utf8(page.body).unwrap(), newest);
    assert_eq!(transcript("?limit=2&before=m4").await.json()["nextCursor"], "m2");
    let oldest = transcript("?limit=2&before=m2").await.json();
    assert_eq!((oldest["messages"][0]["id"].as_str(), oldest.get("nextCursor")), (Some("m1"), None));
    assert_eq!(transcript("?limit=1001").await.status, 400);
    assert_eq!(transcript("?before=nobody").await.body, transcript("?before=m1").await.body, "nothing is before it");

    let lines = in_lines(&messages.iter().map(String::as_str).collect::<Vec<_>>());
    http(&node, &format!("PUT {write}"), &lines).await;
    assert_eq!(String::from_utf8(transcript("?limit=2").await.body).unwrap(), newest);
    assert_eq!(transcript("?limit=2&before=m2").await.json(), oldest);
    for cut in [lines.len() - 1, lines.len() / 2, 10] {
        http(&node, &format!("PUT {write}"), &lines[..cut]).await;
        assert_eq!(transcript("?limit=2").await.status, 502, "cut to {cut}");
    }

    http(&node, &format!("PUT {write}"), b"line one\nline two\n").await;
    let unreadable = transcript("").await;
    assert_eq!((unreadable.status, unreadable.json()["error"].as_str()), (502, Some("Failed to read transcript")));
    let token = made.public_access_token;
    let public =
        http(&node, &format!("GET /api/v1/sessions/chat/transcript\nAuthorization: Bearer {token}"), b"").await;
    assert_eq!(public.status, 401);
}

#[tokio::test]
async fn blobs_lie_in_a_bucket_where_there_is_one() {
    let mut server = S3Server::start().await;
    let s3 = config::S3 {
        endpoint: server.endpoint.clone(),
        bucket: BUCKET.into(),
        access_key: ACCESS_KEY.to_owned().into(),
        secret_key: SECRET_KEY.to_owned().into(),
        ..config::S3::default()
    };
    let missing = config::S3 { bucket: "other".into(), ..s3.clone() };
    let refused = TestNode::refused(|config| config.blobs.s3 = Some(missing)).await;
    assert!(refused.contains("has no bucket other; make it"), "{refused}");

    let node = TestNode::start_with(|config| config.blobs.s3 = Some(s3)).await;
    let id = node.client().await.create(Some("chat")).await.session.unwrap().id;
    // So many that their index alone is more than what is looked at first.
    let message = |n| format!(r#"{{"id":"m{n}","text":"{}"}}"#, "x".repeat(300));
    let messages: Vec<String> = (0..6_000).map(message).collect();
    let snapshot = in_lines(&messages.iter().map(String::as_str).collect::<Vec<_>>());
    let (write, read) = (snapshot_url(&node, KEY, "PUT", "chat").await, snapshot_url(&node, KEY, "GET", "chat").await);
    assert_eq!(http(&node, &format!("GET {read}"), b"").await.status, 404);
    assert_eq!(http(&node, &format!("PUT {write}\nContent-Type: a/b"), &snapshot).await.status, 200);
    let got = http(&node, &format!("GET {read}"), b"").await;
    assert!(got.header("content-type") == Some("a/b") && got.body == snapshot, "{}", got.head);
    let transcript = format!("GET /api/v1/sessions/chat/transcript?limit=2&before=m7\nAuthorization: Bearer {KEY}");
    let page = http(&node, &transcript, b"").await.json();
    assert_eq!((page["messages"][1]["id"].as_str(), page["nextCursor"].as_str()), (Some("m6"), Some("m5")));

    let object = server.directory.path().join(BUCKET).join("snapshots").join(format!("env_dev.{id}"));
    assert_eq!(std::fs::read(&object).unwrap(), snapshot);
    let delete = format!("DELETE /api/v1/sessions/chat\nAuthorization: Bearer {KEY}");
    assert_eq!(http(&node, &delete, b"").await.status, 204);
    assert!(!object.exists());

    node.client().await.create(Some("chat")).await;
    let write = snapshot_url(&node, KEY, "PUT", "chat").await;
    server.stop().await;
    let failed = http(&node, &format!("PUT {write}"), b"x").await;
    assert_eq!((failed.status, failed.json()["error"].as_str().is_some()), (503, true), "{}", failed.head);
    assert_eq!(http(&node, &transcript, b"").await.status, 502);
}

#[tokio::test]
async fn a_url_is_for_browsers_too_and_head_says_what_get_would_send() {
    let node = TestNode::start().await;
    node.client().await.create(Some("mine")).await;
    let (write, read) = (snapshot_url(&node, KEY, "PUT", "mine").await, snapshot_url(&node, KEY, "GET", "mine").await);
    let origin = "Origin: https://app.example";
    let preflight = format!(
        "OPTIONS {write}\n{origin}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: content-type"
    );
    let allowed = http(&node, &preflight, b"").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-headers")), (200, Some("content-type")));
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("PUT"));
    assert_eq!(http(&node, &format!("HEAD {read}"), b"").await.status, 404);
    let put = http(&node, &format!("PUT {write}\n{origin}\nContent-Type: a/b"), b"hello").await;
    assert_eq!((put.status, put.header("access-control-allow-origin")), (200, Some("https://app.example")));
    let got = http(&node, &format!("GET {read}\n{origin}"), b"").await;
    assert_eq!(
        (got.body.as_slice(), got.header("access-control-allow-origin")),
        (&b"hello"[..], Some("https://app.example"))
    );
    let head = http(&node, &format!("HEAD {read}"), b"").await;
    let said = |answer: &Answer| ["content-type", "content-length"].map(|name| answer.header(name).map(str::to_owned));
    assert_eq!((head.status, head.body.len(), said(&head)), (200, 0, said(&got)));
    assert_eq!(http(&node, &format!("HEAD {write}"), b"").await.status, 403, "the other method");
    let refused = http(&node, &format!("GET {write}\n{origin}"), b"").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, Some("https://app.example")));
}

#[tokio::test]
async fn a_gateway_alone_moves_blobs_too() {
    let node = TestNode::start().await;
    node.client().await.create(Some("far")).await;
    let (mut gateway, url) = gateway_before(&node).await;
    let script = r#"
        signed() { curl -sf -X "$1" "$URL/api/v1/sessions/far/snapshot-url" -H "Authorization: Bearer $KEY" | cut -d'"' -f4; }
        head -c 2000000 /dev/urandom > "$DIR/sent"
        curl -sf -X PUT "$(signed PUT)" -H 'Content-Type: a/b' --data-binary @"$DIR/sent"
        curl -sf "$(signed GET)" -o "$DIR/got"
        cmp "$DIR/sent" "$DIR/got" && echo same
    "#;
    let dir = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new("bash");
    command.args(["-euc", script]).env("URL", &url).env("KEY", KEY).env("DIR", dir.path());
    let done = command.output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("same"), "{said}\n{errors}");
    gateway.kill().await.unwrap();
}
