//! TLS on the one port: every protocol and every client of ours over it, and settings that cannot work.

use crate::gateway_alone::gateway_with;
use crate::support::{Client, KEY, TestNode};
use continuo::app::Node;
use continuo::config::{Config, Mode};
use continuo_proto::v1::Direction;
use continuo_proto::with_tls;
use continuo_proto::worker::{Outcome, RunContext, TaskError, Worker};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// A certificate for the loopback address, signed by itself.
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    pem: String,
    dir: TempDir,
}

impl Identity {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let CertifiedKey { cert: made, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, made.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        Self { cert, key, pem: made.pem(), dir }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn use_in(&self, config: &mut Config) {
        config.tls.cert = Some(self.cert.clone());
        config.tls.key = Some(self.key.clone());
    }

    async fn node(&self) -> TestNode {
        TestNode::start_with(|config| self.use_in(config)).await
    }

    async fn client(&self, node: &TestNode) -> Client {
        let endpoint = Endpoint::from_shared(node.url.clone()).unwrap();
        Client::over(with_tls(endpoint, Some(&self.pem)).unwrap().connect().await.unwrap(), KEY)
    }

    fn ca_file(&self) -> &str {
        self.cert.to_str().unwrap()
    }
}

/// What curl says, which knows this certificate only.
async fn curl(identity: &Identity, url: &str, args: &[&str]) -> String {
    let done = Command::new("curl")
        .args(["-sS", "--cacert", identity.ca_file(), "-H", &format!("Authorization: Bearer {KEY}"), url])
        .args(args)
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn rest_sse_and_grpc_meet_over_tls_in_the_protocol_the_client_asks_for() {
    let identity = Identity::new();
    let node = identity.node().await;
    assert!(node.url.starts_with("https://127.0.0.1:"), "{}", node.url);
    let client = identity.client(&node).await;
    let session = client.create(Some("safe")).await.session.unwrap();
    let append = format!("{}/realtime/v1/sessions/safe/out/append", node.url);
    for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let said = curl(&identity, &append, &[protocol, "-d", version, "-w", " in HTTP/%{http_version}"]).await;
        assert!(said.contains(r#""ok":true"#) && said.ends_with(&format!(" in HTTP/{version}")), "{said}");
    }
    client.append(&session.id, Direction::Out, "by gRPC").await.unwrap();
    let out = format!("{}/realtime/v1/sessions/safe/out", node.url);
    for protocol in ["--http2", "--http1.1"] {
        let sse = curl(&identity, &out, &[protocol, "-i", "-N", "-H", "Timeout-Seconds: 1"]).await;
        assert!(sse.to_lowercase().contains("x-stream-version: v2"), "{sse}");
        for expected in [r#"\"data\":\"2\""#, r#"\"data\":\"1.1\""#, "by gRPC", "data: [DONE]"] {
            assert!(sse.contains(expected), "{expected} in {sse}");
        }
    }
}

#[tokio::test]
async fn urls_that_the_gateway_makes_say_https_and_work() {
    let identity = Identity::new();
    let node = identity.node().await;
    identity.client(&node).await.create(Some("snap")).await;
    let presign = format!("{}/api/v1/sessions/snap/snapshot-url", node.url);
    for protocol in ["--http2", "--http1.1"] {
        let said = curl(&identity, &presign, &[protocol, "-X", "PUT"]).await;
        let url = said.split('"').find(|part| part.contains("/blobs/")).unwrap();
        assert!(url.starts_with(&format!("{}/blobs/", node.url)), "{said}");
        let put = curl(&identity, url, &["-X", "PUT", "-d", "{}", "-w", "%{http_code}"]).await;
        assert!(put.ends_with("200"), "{put}");
    }
    let stream = curl(&identity, &format!("{}/realtime/v1/sessions/snap/out", node.url), &["-X", "PUT", "-i"]).await;
    assert!(stream.contains(&format!("x-s2-endpoint: {}/", node.url)), "{stream}");
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_its_own_affair() {
    let identity = Identity::new();
    let node = identity.node().await;
    let address = node.url.strip_prefix("https://").unwrap();
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "TLS only");
    assert_eq!(curl(&identity, &format!("{}/healthz", node.url), &[]).await, "ok");
}

#[tokio::test]
async fn a_worker_reaches_a_server_over_tls() {
    let identity = Identity::new();
    let node = identity.node().await;
    let (ran, mut runs) = tokio::sync::mpsc::channel(1);
    let task = move |ctx: RunContext| {
        let ran = ran.clone();
        async move {
            ran.send(ctx.run_id().to_owned()).await.map_err(|_| TaskError::new("nobody waits"))?;
            Ok(Outcome::Completed(None))
        }
    };
    let leaving = CancellationToken::new();
    let worker = Worker::builder(&node.url, KEY).ca_certificate(&identity.pem).task("task", task);
    let working = tokio::spawn(worker.run(leaving.clone()));
    let made = identity.client(&node).await.create(Some("work")).await;
    assert_eq!(runs.recv().await, Some(made.run_id));
    leaving.cancel();
    working.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_gateway_speaks_tls_on_both_sides() {
    let identity = Identity::new();
    let node = identity.node().await;
    let key = identity.key.to_str().unwrap();
    let ca = identity.ca_file();
    let (mut gateway, url) = gateway_with(&node, &["--ca-file", ca, "--tls-cert", ca, "--tls-key", key]).await;
    assert!(url.starts_with("https://"), "{url}");
    identity.client(&node).await.create(Some("two")).await;
    let said = curl(&identity, &format!("{url}/realtime/v1/sessions/two/in/append"), &["-d", "hello"]).await;
    assert!(said.contains(r#""ok":true"#), "{said}");
    gateway.kill().await.unwrap();
}

async fn cli(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_continuo")).args(args).env("CONTINUO_SECRET_KEY", KEY).output().await.unwrap()
}

#[tokio::test]
async fn the_command_line_and_the_demo_agent_of_dev_work_over_tls() {
    let identity = Identity::new();
    let data = tempfile::tempdir().unwrap();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_continuo"))
        .args(["dev", "--listen", "127.0.0.1:0", "--demo-token-ms", "0", "--dev-secret-key", KEY, "--log", "warn"])
        .env("CONTINUO_DATA_DIR", data.path())
        .env("CONTINUO_TLS_CERT", &identity.cert)
        .env("CONTINUO_TLS_KEY", &identity.key)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let mut find = async |prefix: &str| loop {
        if let Some(found) = lines.next_line().await.unwrap().unwrap().strip_prefix(prefix) {
            break found.to_owned();
        }
    };
    let url = find("listening on ").await;
    let ca = find("export CONTINUO_CA_FILE=").await;
    assert!(url.starts_with("https://") && ca == identity.ca_file(), "{url} {ca}");

    let at = ["--url", &url, "--ca-file", &ca];
    let create = cli(&[&["sessions", "create", "c", "--task", "demo-agent"], &at[..]].concat()).await;
    assert!(create.status.success(), "{}", String::from_utf8_lossy(&create.stderr));
    let sent = cli(&[&["sessions", "send", "c", "Hello", "--wait"], &at[..]].concat()).await;
    assert!(String::from_utf8_lossy(&sent.stdout).contains("You said: “Hello”"), "{sent:?}");

    let untrusting = cli(&["sessions", "list", "--url", &url]).await;
    let said = String::from_utf8_lossy(&untrusting.stderr).into_owned();
    assert!(!untrusting.status.success() && said.contains("--ca-file"), "{said}");
    dev.kill().await.unwrap();
}

#[tokio::test]
async fn certificates_and_keys_that_cannot_be_used_are_refused_at_the_start_by_file() {
    let (identity, other) = (Identity::new(), Identity::new());
    let start = async |cert: &Path, key: &Path| {
        let mut config = Config::defaults(Mode::Serve);
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.data_dir = identity.dir.path().join("data");
        (config.tls.cert, config.tls.key) = (Some(cert.to_owned()), Some(key.to_owned()));
        Node::start(config).await.err().expect("the start is refused").to_string()
    };
    let empty = identity.file("empty.pem", "");
    let gone = identity.dir.path().join("gone.pem");
    let refused = start(&empty, &identity.key).await;
    assert!(refused.contains("empty.pem holds no certificate") && refused.contains("CONTINUO_TLS_CERT"), "{refused}");
    let refused = start(&identity.cert, &empty).await;
    assert!(refused.contains("empty.pem holds no private key") && refused.contains("CONTINUO_TLS_KEY"), "{refused}");
    let refused = start(&gone, &identity.key).await;
    assert!(refused.contains("cannot read") && refused.contains("gone.pem"), "{refused}");
    let refused = start(&identity.cert, &other.key).await;
    assert!(refused.contains("is not that of the first certificate"), "{refused}");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let refused = start(&identity.file("odd.pem", garbage), &identity.key).await;
    assert!(refused.contains("odd.pem"), "{refused}");
    assert!(!identity.dir.path().join("data").exists(), "nothing was begun");
}

#[tokio::test]
async fn one_of_the_two_files_and_a_ca_file_without_a_certificate_are_wrong_usage() {
    let identity = Identity::new();
    let alone = cli(&["serve", "--tls-cert", identity.ca_file()]).await;
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(2) && said.contains("set CONTINUO_TLS_KEY"), "{said}");
    let key = identity.key.to_str().unwrap();
    let no_ca = cli(&["sessions", "list", "--url", "https://127.0.0.1:1", "--ca-file", key]).await;
    let said = String::from_utf8_lossy(&no_ca.stderr).into_owned();
    assert!(no_ca.status.code() == Some(2) && said.contains("holds no certificate"), "{said}");
}
