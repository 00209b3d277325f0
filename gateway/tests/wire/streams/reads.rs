//! Reads, and the tail.

use continuo_proto::v1::{read_response::Event, read_start::Start, *};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use super::{At, FRAMES, OUT, at, code, frames};
use crate::{
    common::{call, call_with},
    peer::{Peer, status},
};

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    records: Vec<At>,
    #[prost(message, optional, tag = "2")]
    tail: Option<At>,
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

    // No other form goes on by it, whatever it says.
    for id in ["4,2,18", "nonsense"] {
        let passed_over = [("last-event-id", id)];
        let answer = call_with(&peer, "GET", &format!("{OUT}?seq_num=3&count=2"), &passed_over, "").await;
        assert_eq!(answer.status, 200, "{id}");
        assert_eq!(peer.all::<ReadRequest>().pop().unwrap().start.unwrap().start, Some(Start::SeqNum(3)));
    }

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
