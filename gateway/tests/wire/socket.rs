//! What only a real connection shows: when headers leave, and whether an early answer arrives.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use continuo_gateway::Options;

use crate::{common::gateway, peer::Peer};

/// Sends a request and reads until `enough`, on a connection of its own.
async fn exchange(peer: &Peer, head: &str, body_bytes: usize, enough: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, gateway(peer, Options::default())).into_future());
    let head = format!("{head}\r\nhost: x\r\nauthorization: Bearer tr_dev_x\r\ncontent-length: {body_bytes}\r\n\r\n");
    let client = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&vec![b'x'; body_bytes]).unwrap();
        let (mut seen, mut buffer) = (String::new(), [0; 4_096]);
        while !seen.contains(enough) {
            let n = socket.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the connection ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        seen
    });
    let seen = client.await.unwrap();
    server.abort();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_stream_leave_before_there_is_anything_to_say() {
    let peer = Peer::key();
    peer.reads_stay_open();
    let seen = exchange(&peer, "GET /realtime/v1/sessions/s/out HTTP/1.1", 0, "\r\n\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK") && seen.contains("x-stream-version: v2"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_reads_the_refusal() {
    let text = r#"{"error":"Request body too large"}"#;
    let seen = exchange(&Peer::key(), "POST /realtime/v1/sessions/s/in/append HTTP/1.1", 6 << 20, text).await;
    assert!(seen.starts_with("HTTP/1.1 413 "), "{seen}");
}
