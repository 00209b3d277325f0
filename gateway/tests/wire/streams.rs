//! The stream API: what is asked of the services, and the protocol's own forms of answers.

use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::{read_response::Event, read_start::Start, *};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use prost::Message;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::{
    common::{Answer, call, call_with, gateway, request, send},
    peer::{Peer, status, violations},
};

const OUT: &str = "/v1/streams/session_1%2Fout/records";
const FRAMES: (&str, &str) = ("content-type", "s2s/proto");

/// `AppendInput` and `AppendAck` with the fields these tests need.
#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Written>,
    #[prost(uint64, optional, tag = "2")]
    match_seq_num: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Written {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Ack {
    #[prost(message, optional, tag = "1")]
    start: Option<At>,
    #[prost(message, optional, tag = "2")]
    end: Option<At>,
}

#[derive(Clone, PartialEq, Message)]
struct At {
    #[prost(uint64, tag = "1")]
    seq_num: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    records: Vec<At>,
    #[prost(message, optional, tag = "2")]
    tail: Option<At>,
}

fn input(body: &str) -> Vec<u8> {
    let record = Written { timestamp: Some(3), body: body.to_owned().into() };
    Input { records: vec![record], match_seq_num: None }.encode_to_vec()
}

fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32 + 1).to_be_bytes();
    [&length[1..], &[flags], payload].concat()
}

/// The frames of an answer: acknowledged ends, and the last word if there is one.
fn frames(body: &[u8]) -> (Vec<u64>, Option<(u16, Value)>) {
    let (mut rest, mut ends) = (body, Vec::new());
    while !rest.is_empty() {
        let length = usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let (flags, payload) = (rest[3], &rest[4..3 + length]);
        rest = &rest[3 + length..];
        if flags == 0x80 {
            assert!(rest.is_empty(), "the terminal frame is the last");
            let status = u16::from_be_bytes([payload[0], payload[1]]);
            return (ends, Some((status, serde_json::from_slice(&payload[2..]).unwrap())));
        }
        assert_eq!(flags, 0);
        ends.push(Ack::decode(payload).unwrap().end.unwrap().seq_num);
    }
    (ends, None)
}

async fn session(peer: &Peer, body: impl Into<Body>) -> (Vec<u64>, Option<(u16, Value)>) {
    let answer = send(gateway(peer, Options::default()), request("POST", OUT, &[FRAMES], body)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("s2s/proto")));
    frames(&answer.body)
}

fn appended(peer: &Peer) -> Vec<Bytes> {
    let bodies = peer.all::<ProduceRequest>().into_iter().filter_map(|message| match message.message? {
        produce_request::Message::Open(_) => None,
        produce_request::Message::Append(append) => Some(append.records[0].body.clone()),
    });
    bodies.collect()
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn event(event: Event) -> Result<ReadResponse, Status> {
    Ok(ReadResponse { event: Some(event) })
}

fn batch(seq_nums: std::ops::Range<u64>) -> Result<ReadResponse, Status> {
    let record = |seq_num| Record { seq_num, timestamp_ms: 100 + seq_num as i64, headers: vec![], body: "b".into() };
    event(Event::Batch(RecordBatch { tail: at(seq_nums.end), records: seq_nums.map(record).collect() }))
}

fn caught_up(tail: u64) -> Result<ReadResponse, Status> {
    event(Event::Heartbeat(Heartbeat { timestamp_ms: 9, tail: at(tail) }))
}

fn at(seq_num: u64) -> Option<Position> {
    Some(Position { seq_num, timestamp_ms: 5 })
}

#[tokio::test]
async fn an_append_in_every_form() {
    let json = r#"{"records":[{"body":"é","headers":[["k","v"]],"timestamp":3}],"match_seq_num":0,"fencing_token":""}"#;
    let base64 = r#"{"records":[{"body":"w6k=","headers":[["aw==","dg=="]]}],"match_seq_num":0,"fencing_token":""}"#;
    for (headers, body) in [
        (vec![], json),
        (vec![("content-type", "application/json; charset=utf-8")], json),
        (vec![("s2-format", "base64")], base64),
    ] {
        let peer = Peer::key();
        peer.answer(AppendResponse { start: at(4), end: at(5), tail: at(6), repeated: false });
        let answer = call_with(&peer, "POST", OUT, &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["start"], json!({ "seq_num": 4, "timestamp": 5 }));
        assert_eq!(answer.json()["tail"]["seq_num"], 6);
        let asked = peer.the::<AppendRequest>();
        assert_eq!(asked.channel.unwrap(), ChannelRef { session: "session_1".into(), name: "".into(), direction: 2 });
        let header = Header { name: "k".into(), value: "v".into() };
        assert_eq!(asked.records, [NewRecord { headers: vec![header], body: "é".into() }]);
        assert_eq!((asked.match_seq_num, asked.fencing_token.as_deref(), asked.part_id), (Some(0), Some(""), None));
    }
    let peer = Peer::key();
    peer.answer(AppendResponse { start: at(4), end: at(5), tail: at(5), repeated: false });
    let protobuf = [("content-type", "application/protobuf"), ("accept", "application/protobuf")];
    let answer = send(gateway(&peer, Options::default()), request("POST", OUT, &protobuf, input("b"))).await;
    assert_eq!(answer.header("content-type"), Some("application/protobuf"));
    assert_eq!(Ack::decode(answer.body).unwrap().start, Some(At { seq_num: 4 }));
    assert_eq!(peer.the::<AppendRequest>().records, [NewRecord { headers: vec![], body: "b".into() }]);
}

#[tokio::test]
async fn what_is_no_append() {
    let large = "x".repeat((8 << 20) + 1);
    for (headers, body, expected) in [
        (vec![], "{", (400, "bad_json")),
        (vec![("content-type", "application/protobuf")], "\u{1}", (400, "bad_proto")),
        (vec![("content-type", "text/plain")], "x", (415, "bad_header")),
        (vec![("content-encoding", "br")], "x", (415, "bad_header")),
        (vec![("content-encoding", "gzip")], "x", (400, "bad_header")),
        (vec![("s2-format", "hex")], "{}", (400, "bad_header")),
        (vec![("s2-basin", "another-basin")], "{}", (404, "basin_not_found")),
        (vec![], large.as_str(), (413, "invalid")),
    ] {
        let peer = Peer::key();
        let answer = call_with(&peer, "POST", OUT, &headers, body).await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{headers:?}");
        assert!(answer.json()["message"].as_str().is_some_and(|text| text.len() > 10));
        assert!(peer.all::<AppendRequest>().is_empty());
    }
}

#[tokio::test]
async fn refusals_in_the_protocols_words() {
    let refused = |reason: &str, code, metadata: &[(&str, &str)]| status(reason, code, "said", metadata);
    for (status, expected) in [
        (refused("UNAUTHENTICATED", Code::Unauthenticated, &[]), (401, json!({ "code": "authn", "message": "said" }))),
        (
            refused("SESSION_CLOSED", Code::FailedPrecondition, &[]),
            (409, json!({ "code": "session_closed", "message": "said" })),
        ),
        (
            refused("RECORD_TOO_LARGE", Code::InvalidArgument, &[]),
            (422, json!({ "code": "invalid", "message": "said" })),
        ),
        (violations(&[("records", "is empty")]), (422, json!({ "code": "invalid", "message": "bad fields" }))),
        (refused("SEQ_NUM_MISMATCH", Code::Aborted, &[("tail_seq_num", "7")]), (412, json!({ "seq_num_mismatch": 7 }))),
        (
            refused("FENCED", Code::Aborted, &[("fencing_token", "2.0")]),
            (412, json!({ "fencing_token_mismatch": "2.0" })),
        ),
        (
            refused("LIMIT_EXCEEDED", Code::ResourceExhausted, &[]),
            (429, json!({ "code": "rate_limited", "message": "said" })),
        ),
        (
            refused("BACKEND_UNAVAILABLE", Code::Unavailable, &[]),
            (503, json!({ "code": "unavailable", "message": "said" })),
        ),
        (Status::internal("secret"), (500, json!({ "code": "other", "message": "Internal Server Error" }))),
    ] {
        let peer = Peer::key();
        peer.refuse(status);
        let answer = call(&peer, "POST", OUT, r#"{"records":[{"body":"b"}]}"#).await;
        assert_eq!((answer.status, answer.json()), expected);
        assert_eq!(session(&peer, frame(0, &input("b"))).await, (vec![], Some(expected)), "the same in a frame");
    }
    for reason in ["PERMISSION_DENIED", "OUT_NEEDS_SECRET_KEY"] {
        let peer = Peer::public();
        peer.refuse(refused(reason, Code::PermissionDenied, &[]));
        assert_eq!(code(&call(&peer, "POST", OUT, r#"{"records":[]}"#).await), (403, "permission_denied".into()));
    }
    let peer = Peer::key();
    peer.refuse(refused("SESSION_NOT_FOUND", Code::NotFound, &[]));
    assert_eq!(code(&call(&peer, "POST", OUT, r#"{"records":[]}"#).await), (404, "stream_not_found".into()));
}

#[tokio::test]
async fn nobody_unknown_is_listened_to() {
    for (method, path) in [("POST", OUT), ("GET", OUT), ("GET", "/v1/streams/session_1%2Fout/records/tail")] {
        let peer = Peer::key();
        peer.refuse_authentication(status("UNAUTHENTICATED", Code::Unauthenticated, "Invalid API key", &[]));
        let unread =
            stream::poll_fn(|_| -> Poll<Option<Result<Bytes, std::io::Error>>> { panic!("the body was read") });
        let request = request(method, path, &[FRAMES, ("origin", "https://a")], Body::from_stream(unread));
        let answer = send(gateway(&peer, Options::default()), request).await;
        assert_eq!(code(&answer), (401, "authn".into()));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a"));
    }
    let bare = http::Request::post(OUT).body(Body::empty()).unwrap();
    assert_eq!(code(&send(gateway(&Peer::key(), Options::default()), bare).await), (401, "authn".into()));
}

#[tokio::test]
async fn what_is_not_there() {
    for (method, path, expected) in [
        ("GET", "/v1/streams/chat-1%2Fout/records", (404, "stream_not_found")),
        ("GET", "/v1/streams/session_1%2Fboth/records", (404, "stream_not_found")),
        ("GET", "/v1/streams/session_1%2/records", (400, "bad_path")),
        ("PUT", OUT, (405, "method_not_allowed")),
        ("POST", "/v1/streams/session_1%2Fout/records/tail", (405, "method_not_allowed")),
        ("GET", "/v1/streams", (404, "not_found")),
        ("PUT", "/v1/streams/session_1%2Fout", (404, "not_found")),
        ("POST", "/v1/access-tokens", (404, "not_found")),
        ("GET", "/v1", (404, "not_found")),
    ] {
        let answer = call(&Peer::key(), method, path, "").await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{method} {path}");
    }
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
async fn reads_in_one_piece() {
    let peer = Peer::key();
    peer.reads(vec![batch(3..5), batch(5..7), caught_up(7)], false);
    let answer = call(&peer, "GET", &format!("{OUT}?seq_num=3&clamp=true"), "").await;
    let seq_nums: Vec<_> = answer.json()["records"].as_array().unwrap().iter().map(|r| r["seq_num"].clone()).collect();
    assert_eq!((answer.status, seq_nums), (200, vec![json!(3), json!(4), json!(5), json!(6)]));
    let start = ReadStart { start: Some(Start::SeqNum(3)), clamp: true, skip_commands: false };
    assert_eq!(peer.the::<ReadRequest>().start, Some(start));

    for (query, expected) in [("count=1", 1), ("bytes=18", 2), ("until=105", 2), ("count=0", 0), ("wait=1", 4)] {
        let answer = call(&peer, "GET", &format!("{OUT}?seq_num=3&{query}"), "").await;
        assert_eq!(answer.json()["records"].as_array().unwrap().len(), expected, "{query}");
    }
    let base64 = call_with(&peer, "GET", &format!("{OUT}?seq_num=3"), &[("s2-format", "base64")], "").await;
    assert_eq!(base64.json()["records"][0]["body"], "Yg==");
    let protobuf = [("accept", "application/protobuf")];
    let answer = call_with(&peer, "GET", &format!("{OUT}?tail_offset=4"), &protobuf, "").await;
    assert_eq!(Batch::decode(answer.body).unwrap().records.len(), 4);
}

#[tokio::test]
async fn nothing_to_read_is_told_with_the_tail() {
    let peer = Peer::key();
    peer.reads(vec![caught_up(7)], false);
    for accept in ["application/json", "application/protobuf"] {
        let answer = call_with(&peer, "GET", &format!("{OUT}?seq_num=7"), &[("accept", accept)], "").await;
        assert_eq!((answer.status, answer.json()), (416, json!({ "tail": { "seq_num": 7, "timestamp": 5 } })));
    }
    peer.refuse(status("PAST_TAIL", Code::OutOfRange, "past", &[("tail_seq_num", "7")]));
    let answer = call(&peer, "GET", &format!("{OUT}?seq_num=8"), "").await;
    assert_eq!((answer.status, answer.json()), (416, json!({ "tail": { "seq_num": 7, "timestamp": 0 } })));

    let peer = Peer::key();
    peer.reads(vec![event(Event::Gap(Gap { requested_seq_num: 0, earliest_seq_num: 7 })), caught_up(7)], false);
    let answer = call(&peer, "GET", &format!("{OUT}?seq_num=0"), "").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "records": [] })), "what was there was trimmed");
}

#[tokio::test]
async fn reads_as_they_come() {
    let peer = Peer::key();
    peer.reads(vec![batch(3..5), caught_up(5), batch(5..6), batch(6..9)], false);
    let events = [("accept", "text/event-stream")];
    let answer = call_with(&peer, "GET", &format!("{OUT}?seq_num=3&count=4&wait=60"), &events, "").await;
    let lines: Vec<_> = answer.text().lines().filter(|l| !l.is_empty() && !l.starts_with("data: {")).collect();
    let expected = [
        "event: batch",
        "id: 4,2,18",
        "event: ping",
        "event: batch",
        "id: 5,3,27",
        "event: batch",
        "id: 6,4,36",
        "data: [DONE]",
    ];
    assert_eq!(lines, expected);
    assert!(answer.text().contains(r#""tail":{"seq_num":6,"#) && !answer.text().contains(r#"],"tail":{"seq_num":5,"#));

    let resumed = [events[0], ("last-event-id", "4,2,18")];
    call_with(&peer, "GET", &format!("{OUT}?seq_num=3&count=2"), &resumed, "").await;
    assert_eq!(peer.all::<ReadRequest>().pop().unwrap().start.unwrap().start, Some(Start::SeqNum(5)));

    let answer = call_with(&peer, "GET", &format!("{OUT}?seq_num=3"), &[FRAMES], "").await;
    assert_eq!(answer.header("content-type"), Some("s2s/proto"));
    let mut rest = &answer.body[..];
    let mut seen = Vec::new();
    while rest[3] == 0 {
        let length = usize::from(rest[2]);
        let batch = Batch::decode(&rest[4..3 + length]).unwrap();
        seen.push((batch.records.len(), batch.tail.map(|tail| tail.seq_num)));
        rest = &rest[3 + length..];
    }
    assert_eq!(seen, [(2, None), (0, Some(5)), (1, Some(6)), (3, Some(9))]);
    assert_eq!(frames(rest).1.unwrap().0, 503, "a read that has no end was cut by the server");
}

#[tokio::test]
async fn reads_that_cannot_be_meant() {
    for (query, headers, expected) in [
        ("seq_num=x", vec![], (400, "bad_query")),
        ("count=-1", vec![], (400, "bad_query")),
        ("clamp=maybe", vec![], (400, "bad_query")),
        ("seq_num=1&tail_offset=1", vec![], (422, "invalid")),
        ("timestamp=5&until=5", vec![], (422, "invalid")),
        ("", vec![("accept", "text/event-stream"), ("last-event-id", "5")], (400, "bad_header")),
    ] {
        let answer = call_with(&Peer::key(), "GET", &format!("{OUT}?{query}"), &headers, "").await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn the_tail() {
    let peer = Peer::key();
    peer.answer(CheckTailResponse { tail: at(7), earliest_seq_num: 2 });
    let answer = call(&peer, "GET", "/v1/streams/session_1%2Fchannels%2Fa.b%2Fin/records/tail", "").await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"tail":{"seq_num":7,"timestamp":5}}"#));
    let channel = peer.the::<CheckTailRequest>().channel.unwrap();
    assert_eq!((&*channel.session, &*channel.name, channel.direction()), ("session_1", "a.b", Direction::In));
}
