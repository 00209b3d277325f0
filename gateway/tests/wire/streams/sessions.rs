//! Append sessions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::body::Body;
use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::*;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::ServiceExt;

use super::{FRAMES, OUT, frame, frames, input, session};
use crate::{
    common::{gateway, request},
    peer::{Peer, status},
};

fn appended(peer: &Peer) -> Vec<Bytes> {
    let bodies = peer.all::<ProduceRequest>().into_iter().filter_map(|message| match message.message? {
        produce_request::Message::Open(_) => None,
        produce_request::Message::Append(append) => Some(append.records[0].body.clone()),
    });
    bodies.collect()
}

#[tokio::test]
async fn a_session_acknowledges_each_input_in_order() {
    let peer = Peer::key();
    let bytes = ["a", "b", "ü😀"].map(|body| frame(0x1f, &input(body))).concat();
    let pieces = bytes.chunks(3).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
    let body = Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()));
    assert_eq!(session(&peer, body).await, (vec![1, 2, 3], None));
    assert_eq!(appended(&peer), ["a", "b", "ü😀"]);
    assert_eq!(session(&Peer::key(), Body::empty()).await, (vec![], None));
}

#[tokio::test]
async fn a_refusal_comes_after_what_was_made() {
    let peer = Peer::key();
    peer.refuse_from(2, status("SESSION_CLOSED", Code::FailedPrecondition, "closed", &[]));
    let bytes = ["a", "b", "c", "d"].map(|body| frame(0, &input(body))).concat();
    let (acknowledged, last_word) = session(&peer, bytes).await;
    assert_eq!(acknowledged, [1, 2]);
    assert_eq!(last_word, Some((409, json!({ "code": "session_closed", "message": "closed" }))));
}

#[tokio::test]
async fn frames_that_are_none_end_the_session_after_those_that_are() {
    let half = &frame(0, &input("half"))[..9];
    for (broken, expected) in [
        (&[0, 0, 0][..], "bad_frame"),
        (&[0xff, 0xff, 0xff], "bad_frame"),
        (half, "bad_frame"),
        (&frame(0x80, b"\x01\xf4{}"), "bad_frame"),
        (&frame(0x20, b"no zstd"), "bad_frame"),
        (&frame(0x40, b"no gzip"), "bad_frame"),
        (&frame(0x60, b""), "bad_frame"),
        (&frame(0, b"\xff\xff"), "bad_proto"),
    ] {
        let peer = Peer::key();
        let (acknowledged, last_word) = session(&peer, [&frame(0, &input("good")), broken].concat()).await;
        assert_eq!((acknowledged, appended(&peer)), (vec![1], vec![Bytes::from("good")]));
        let (status, body) = last_word.unwrap();
        assert_eq!((status, body["code"].as_str()), (400, Some(expected)), "{broken:?}");
    }
}

#[tokio::test]
async fn a_node_that_stops_ends_an_idle_session_with_a_word() {
    let stopping = CancellationToken::new();
    let router = gateway(&Peer::key(), Options { stopping: stopping.clone(), ..Options::default() });
    let open = stream::iter([Ok::<_, std::io::Error>(Bytes::from(frame(0, &input("a"))))]).chain(stream::pending());
    let response = router.oneshot(request("POST", OUT, &[FRAMES], Body::from_stream(open))).await.unwrap();
    let mut body = response.into_body();
    let ack = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frames(&ack), (vec![1], None));
    stopping.cancel();
    let (acknowledged, last_word) = frames(&body.collect().await.unwrap().to_bytes());
    let (status, told) = last_word.unwrap();
    assert_eq!((acknowledged, status, &told["code"]), (vec![], 503, &json!("server_draining")));
}

#[tokio::test]
async fn a_credential_that_ends_is_the_last_word_of_an_idle_session_too() {
    let peer = Peer::key();
    peer.end_appends(status("UNAUTHENTICATED", Code::Unauthenticated, "Stream token is invalid", &[]));
    let (acknowledged, last_word) =
        session(&peer, Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).await;
    assert_eq!(acknowledged, [] as [u64; 0]);
    assert_eq!(last_word, Some((401, json!({ "code": "authn", "message": "Stream token is invalid" }))));
}

#[tokio::test]
async fn what_the_log_does_not_take_is_not_read() {
    let peer = Peer::key();
    peer.hold_from(3);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from(frame(0, &input(&"x".repeat(100_000)))))
    });
    let router = gateway(&peer, Options::default());
    let response = router.oneshot(request("POST", OUT, &[FRAMES], Body::from_stream(endless))).await.unwrap();
    let mut body = response.into_body();
    let mut acknowledged = Vec::new();
    for _ in 0..1_000 {
        if let Some(Some(Ok(frame))) = body.frame().now_or_never() {
            acknowledged.extend(frames(&frame.into_data().unwrap()).0);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(acknowledged, [1, 2, 3]);
    // One append may be on its way.
    assert!(read.load(Ordering::Relaxed) <= 4, "{read:?} frames were read");
}
