//! The stream API: what is asked of the services, and the protocol's own forms of answers.

mod appends;
mod reads;
mod sessions;

use axum::body::Body;
use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::Position;
use prost::Message;
use serde_json::Value;

use crate::{
    common::{Answer, gateway, request, send},
    peer::Peer,
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

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn at(seq_num: u64) -> Option<Position> {
    Some(Position { seq_num, timestamp_ms: 5 })
}
