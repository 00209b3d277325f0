//! How long a client that comes back to an idle conversation waits until it is told that nothing more will come.

use crate::support::{KEY, TestNode, channel};
use crate::{ms, percentile, sized};
use continuo_proto::v1::{AppendRequest, Direction, Header, NewRecord};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Trim commands behind the turn that is over: a walk back must get past them.
const COMMANDS: [usize; 3] = [1, 100, 1_000];

pub(crate) async fn run() {
    let rounds = sized(1_000);
    let node = TestNode::start().await;
    let host = node.url.strip_prefix("http://").unwrap();
    let mut floor = Vec::new();
    for _ in 0..rounds {
        floor.push(until_the_end(host, "/healthz", "").await);
    }
    let floor = percentile(&mut floor, 50);
    println!(
        "a settled conversation, connect to end of stream; a bare answer over a new connection: p50 {:.3} ms",
        ms(floor)
    );
    for commands in COMMANDS {
        let name = format!("settled-{commands}");
        idle_conversation(&node, &name, commands).await;
        let path = format!("/realtime/v1/sessions/{name}/out");
        let headers = format!("Authorization: Bearer {KEY}\r\nX-Peek-Settled: 1\r\nLast-Event-ID: 0\r\n");
        let mut samples = Vec::new();
        for _ in 0..rounds {
            samples.push(until_the_end(host, &path, &headers).await);
        }
        let (p50, p99) = (percentile(&mut samples, 50), percentile(&mut samples, 99));
        println!(
            "  {commands:4} commands at the tail: p50 {:.3} ms, p99 {:.3} ms (wanted: below 100), {:.1} x the bare answer",
            ms(p50),
            ms(p99),
            p50.as_secs_f64() / floor.as_secs_f64()
        );
    }
}

async fn idle_conversation(node: &TestNode, name: &str, commands: usize) {
    let client = node.client().await;
    client.create(Some(name)).await;
    let header = |name: &str, value: &str| Header { name: name.to_owned().into(), value: value.to_owned().into() };
    let over = NewRecord { headers: vec![header("trigger-control", "turn-complete")], body: Default::default() };
    let trim = NewRecord { headers: vec![header("", "trim")], body: vec![0; 8].into() };
    for records in [vec![over], vec![trim; commands]] {
        let append = AppendRequest { channel: channel(name, Direction::Out), records, ..Default::default() };
        client.channels.clone().append(append).await.unwrap();
    }
}

async fn until_the_end(host: &str, path: &str, headers: &str) -> Duration {
    let began = Instant::now();
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let took = began.elapsed();
    assert!(headers.is_empty() || answer.contains("x-session-settled: true"), "{answer}");
    took
}
