//! A server with many sessions on disk and nothing to do: how soon it is ready, how much memory it holds.

use crate::support::{Client, KEY, create_request};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WRITERS: usize = 64;

pub(crate) async fn run(sessions: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, url, _) = start(dir.path()).await;
    let began = Instant::now();
    create(&url, sessions).await;
    println!(
        "idle: {sessions} sessions created, each with a run, at {:.0}/s",
        sessions as f64 / began.elapsed().as_secs_f64()
    );
    println!("  after creating them: RSS {} MiB", rss_mib(&server));
    stop(&mut server);
    let (mut server, _, ready) = start(dir.path()).await;
    println!(
        "  ready in {:.2} s (wanted: below 2), RSS {} MiB (wanted: below 150)",
        ready.as_secs_f64(),
        rss_mib(&server)
    );
    stop(&mut server);
}

async fn create(url: &str, sessions: usize) {
    let writers = (0..WRITERS).map(|writer| {
        let url = url.to_owned();
        tokio::spawn(async move {
            let client = Client::connect(&url, KEY).await;
            for n in (writer..sessions).step_by(WRITERS) {
                client.sessions.clone().create_session(create_request(Some(&format!("idle-{n}")))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// The server's own binary, built by the same `cargo bench`.
async fn start(dir: &Path) -> (Child, String, Duration) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = Instant::now();
    let server = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_continuo")))
        .arg("serve")
        .env("CONTINUO_LISTEN", address.to_string())
        .env("CONTINUO_DATA_DIR", dir)
        .env("CONTINUO_DEV_SECRET_KEY", KEY)
        .env("CONTINUO_LOG", "warn")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !is_ready(&address.to_string()).await {
        assert!(began.elapsed() < Duration::from_secs(60), "the server is not ready after a minute");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (server, format!("http://{address}"), began.elapsed())
}

async fn is_ready(address: &str) -> bool {
    let Ok(mut socket) = TcpStream::connect(address).await else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    socket.write_all(request.as_bytes()).await.is_ok()
        && socket.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

fn stop(server: &mut Child) {
    let terminated = Command::new("kill").arg(server.id().to_string()).status().unwrap();
    assert!(terminated.success());
    server.wait().unwrap();
}

fn rss_mib(server: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}
