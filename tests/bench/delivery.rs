//! From an append to its subscribers: one over gRPC, one over SSE, one record at a time.

use crate::support::{KEY, TestNode, append_request, channel};
use crate::{disk, ms, percentile, sized};
use continuo_proto::v1::read_response::Event;
use continuo_proto::v1::{Direction, ReadRequest};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const WARM_UP: usize = 200;

pub(crate) async fn run() {
    let records = sized(2_000);
    let node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("delivery")).await.session.unwrap().id;
    let mut over_grpc = grpc_subscriber(&node, &session).await;
    let mut over_sse = sse_subscriber(&node, &session).await;
    let (mut ack, mut grpc, mut sse) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..WARM_UP + records {
        let body = format!("@@{n:08}{}", "x".repeat(502));
        let began = Instant::now();
        client.channels.clone().append(append_request(&session, Direction::Out, &body)).await.unwrap();
        let acked = began.elapsed();
        let (at_grpc, at_sse) = (over_grpc.recv().await.unwrap(), over_sse.recv().await.unwrap());
        assert_eq!((at_grpc.0, at_sse.0), (n, n));
        if n >= WARM_UP {
            ack.push(acked);
            grpc.push(at_grpc.1 - began);
            sse.push(at_sse.1 - began);
        }
    }
    let mut syncs = disk::syncs();
    let sync = percentile(&mut syncs, 50);
    println!("delivery of 512 B, {records} records, one at a time; the disk's own sync p50 {:.3} ms", ms(sync));
    for (name, mut samples) in [("acknowledged", ack), ("gRPC subscriber", grpc), ("SSE subscriber", sse)] {
        let (p50, p99) = (percentile(&mut samples, 50), percentile(&mut samples, 99));
        let above = ms(p50) - ms(sync);
        println!(
            "  {name:16} p50 {:.3} ms  p99 {:.3} ms  p50 above the sync {above:.3} ms (wanted: below 1)",
            ms(p50),
            ms(p99)
        );
    }
}

type Arrivals = mpsc::Receiver<(usize, Instant)>;

fn number_in(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(2).position(|w| w == b"@@")?;
    std::str::from_utf8(bytes.get(at + 2..at + 10)?).ok()?.parse().ok()
}

async fn grpc_subscriber(node: &TestNode, session: &str) -> Arrivals {
    let request = ReadRequest { channel: channel(session, Direction::Out), ..Default::default() };
    let mut events = node.client().await.channels.read(request).await.unwrap().into_inner();
    let (arrived, arrivals) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(Some(message)) = events.message().await {
            let now = Instant::now();
            let Some(Event::Batch(batch)) = message.event else { continue };
            for number in batch.records.iter().filter_map(|r| number_in(&r.body)) {
                arrived.send((number, now)).await.unwrap();
            }
        }
    });
    arrivals
}

async fn sse_subscriber(node: &TestNode, session: &str) -> Arrivals {
    let host = node.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let head = format!(
        "GET /realtime/v1/sessions/{session}/out HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nTimeout-Seconds: 600\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut part = vec![0; 64 * 1024];
    let mut greeting = String::new();
    while !greeting.contains("event: ping") {
        let length = socket.read(&mut part).await.unwrap();
        greeting.push_str(std::str::from_utf8(&part[..length]).unwrap());
    }
    let (arrived, arrivals) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut unread = Vec::new();
        while let Ok(length @ 1..) = socket.read(&mut part).await {
            let now = Instant::now();
            unread.extend_from_slice(&part[..length]);
            while let Some(number) = number_in(&unread) {
                let at = unread.windows(2).position(|w| w == b"@@").unwrap();
                unread.drain(..at + 10);
                arrived.send((number, now)).await.unwrap();
            }
        }
    });
    arrivals
}
