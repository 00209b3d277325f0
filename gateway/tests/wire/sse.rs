//! Subscriptions: what is asked of the service, and how its events are printed.

use std::time::Duration;

use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::{read_response::Event, read_start::Start, *};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::{
    common::{call, call_with, gateway, request},
    peer::{Peer, status},
};

const OUT: &str = "/realtime/v1/sessions/s/out";

fn event(event: Event) -> Result<ReadResponse, Status> {
    Ok(ReadResponse { event: Some(event) })
}

fn position(seq_num: u64) -> Option<Position> {
    Some(Position { seq_num, timestamp_ms: 1_767_225_600_000 })
}

fn record(seq_num: u64, body: &'static str) -> Record {
    Record { seq_num, timestamp_ms: 5, headers: vec![], body: body.into() }
}

async fn asked(path: &str, headers: &[(&str, &str)]) -> ReadRequest {
    let peer = Peer::key();
    let answer = call_with(&peer, "GET", path, headers, "").await;
    assert_eq!(answer.status, 200, "{headers:?}");
    peer.the::<ReadRequest>()
}

#[tokio::test]
async fn a_stream_of_everything() {
    let peer = Peer::key();
    let trim = Header { name: Bytes::new(), value: Bytes::from_static(b"trim") };
    let command = Record { seq_num: 13, timestamp_ms: 5, headers: vec![trim], body: Bytes::from_static(&[0, 0xff]) };
    peer.reads(
        vec![
            event(Event::Gap(Gap { requested_seq_num: 3, earliest_seq_num: 12 })),
            event(Event::Batch(RecordBatch { records: vec![record(12, "{\"data\":1}"), command], tail: position(14) })),
            event(Event::Heartbeat(Heartbeat { timestamp_ms: 9, tail: position(14) })),
            event(Event::Batch(RecordBatch { records: vec![record(14, "")], tail: None })),
            event(Event::Settled(Settled { tail: position(15) })),
        ],
        true,
    );
    let answer = call(&peer, "GET", OUT, "").await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("x-stream-version", "v2"),
        ("access-control-expose-headers", "*"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-session-settled", "true"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(
        answer.text(),
        ": gap: records 3 to 11 were trimmed away\n\n\
         event: batch\nid: 13,2,34\ndata: {\"records\":[{\"seq_num\":12,\"timestamp\":5,\"body\":\"{\\\"data\\\":1}\"},\
         {\"seq_num\":13,\"timestamp\":5,\"body\":\"\\u0000\u{fffd}\",\"headers\":[[\"\",\"trim\"]]}],\
         \"tail\":{\"seq_num\":14,\"timestamp\":1767225600000}}\n\n\
         event: ping\ndata: {\"timestamp\":9,\"tail\":{\"seq_num\":14,\"timestamp\":1767225600000}}\n\n\
         event: batch\nid: 14,3,42\ndata: {\"records\":[{\"seq_num\":14,\"timestamp\":5}]}\n\n\
         data: [DONE]\n\n"
    );
}

#[tokio::test]
async fn what_is_asked_by_default() {
    let request = asked(OUT, &[]).await;
    assert_eq!(
        request,
        ReadRequest {
            channel: Some(ChannelRef { session: "s".into(), name: String::new(), direction: Direction::Out.into() }),
            start: None,
            idle_timeout_ms: 60_000,
            peek_settled: false,
            heartbeat_ms: 10_000,
        }
    );
    assert_eq!(call(&Peer::key(), "GET", OUT, "").await.header("x-session-settled"), None);
}

#[tokio::test]
async fn resuming() {
    let start = async |headers: &[(&str, &str)]| {
        asked(OUT, headers).await.start.map(|s| (s.start.unwrap(), s.clamp, s.skip_commands))
    };
    for (cursor, seq_num) in [("0", 1), ("12,3,400", 13), ("7-1", 8), ("99999999999999999999999", u64::MAX)] {
        assert_eq!(start(&[("last-event-id", cursor)]).await, Some((Start::SeqNum(seq_num), true, false)), "{cursor}");
    }
    assert_eq!(start(&[("x-trigger-stream-start", "Latest")]).await, Some((Start::TailOffset(1), true, true)));
    assert_eq!(start(&[("x-trigger-stream-start", "newest")]).await, None);
    let both = [("x-trigger-stream-start", "latest"), ("last-event-id", "4")];
    assert_eq!(start(&both).await, Some((Start::SeqNum(5), true, false)));
    for cursor in ["abc", "-1", "é"] {
        let peer = Peer::key();
        let answer = call_with(&peer, "GET", OUT, &[("last-event-id", cursor)], "").await;
        assert_eq!(peer.the::<ReadRequest>().start, None);
        let comment = ": gap unknown: Last-Event-ID is not a number; starting from the beginning\n\n";
        assert_eq!(answer.text(), format!("{comment}data: [DONE]\n\n"), "{cursor}");
    }
}

#[tokio::test]
async fn settling_is_asked_for_on_the_reserved_out_only() {
    let asked_on = async |path, value| asked(path, &[("x-peek-settled", value)]).await.peek_settled;
    assert!(asked_on(OUT, "1").await);
    assert!(!asked_on(OUT, "true").await);
    assert!(!asked_on("/realtime/v1/sessions/s/in", "1").await);
    assert!(!asked_on("/realtime/v1/sessions/s/channels/c/out", "1").await);
}

#[tokio::test]
async fn timeouts() {
    for (value, ms) in [("1", 1_000), ("600", 600_000), (" 120 ", 120_000), ("+5", 5_000)] {
        assert_eq!(asked(OUT, &[("timeout-seconds", value)]).await.idle_timeout_ms, ms);
    }
    for method in ["GET", "HEAD"] {
        for (value, text) in [
            ("10abc", "Invalid timeout seconds"),
            ("1.5", "Invalid timeout seconds"),
            ("", "Invalid timeout seconds"),
            ("é", "Invalid timeout seconds"),
            ("0", "Timeout seconds must be greater than 0"),
            ("-3", "Timeout seconds must be greater than 0"),
            ("601", "Timeout seconds must be less than 600"),
            ("99999999999999999999", "Timeout seconds must be less than 600"),
        ] {
            let answer = call_with(&Peer::key(), method, OUT, &[("timeout-seconds", value)], "").await;
            assert_eq!(answer.status, 400, "{value}");
            if method == "GET" {
                assert_eq!(answer.text(), text, "{value}");
            }
        }
    }
}

#[tokio::test]
async fn a_probe_is_judged_like_a_read_and_ends_at_once() {
    let peer = Peer::key();
    peer.reads_stay_open();
    let answer = call(&peer, "HEAD", OUT, "").await;
    assert_eq!((answer.status, answer.header("x-last-chunk-index"), answer.text()), (200, Some("0"), ""));
    peer.refuse(status("SESSION_NOT_FOUND", Code::NotFound, "Session not found", &[]));
    assert_eq!(call(&peer, "HEAD", OUT, "").await.status, 404);
}

#[tokio::test]
async fn errors_on_the_way_end_the_stream_without_done() {
    let peer = Peer::key();
    let stopping = || status("SERVER_STOPPING", Code::Unavailable, "the server is\nstopping; reconnect", &[]);
    peer.reads(vec![Err(stopping())], false);
    assert_eq!(call(&peer, "GET", OUT, "").await.text(), "event: error\ndata: the server is stopping; reconnect\n\n");
    // An `error` event makes clients try again with the token they have, and give up; a plain end makes them ask for a new one.
    let ended = status("UNAUTHENTICATED", Code::Unauthenticated, "Public Access Token is invalid", &[]);
    peer.reads(vec![Err(ended)], false);
    assert_eq!(call(&peer, "GET", OUT, "").await.text(), ": Public Access Token is invalid\n\n");
    // Words of the transport are not ours to pass on.
    peer.reads(vec![Err(Status::unavailable("tcp connect error: 10.0.0.7:5432"))], false);
    let text = "event: error\ndata: Service unavailable, please try again.\n\n";
    assert_eq!(call(&peer, "GET", OUT, "").await.text(), text);
}

#[tokio::test]
async fn headers_come_before_any_record_and_stopping_ends_an_open_stream() {
    let peer = Peer::key();
    peer.reads_stay_open();
    let stopping = CancellationToken::new();
    let router = gateway(&peer, Options { stopping: stopping.clone(), ..Options::default() });
    let response = router.oneshot(request("GET", OUT, &[], "")).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert!(tokio::time::timeout(Duration::from_millis(20), body.frame()).await.is_err(), "nothing to say yet");
    stopping.cancel();
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "event: error\ndata: the server is stopping; reconnect\n\n");
}
