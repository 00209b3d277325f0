//! Appends in one message, and what every route of the stream API refuses.

use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::*;
use futures_util::stream;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use super::{Ack, At, FRAMES, OUT, at, code, frame, input, session};
use crate::{
    common::{call, call_with, gateway, request, send},
    peer::{Peer, status, violations},
};

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
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 503);
        assert_eq!(session(&peer, frame(0, &input("b"))).await, (vec![], Some(expected)), "the same in a frame");
    }
    for reason in ["PERMISSION_DENIED", "OUT_NEEDS_SECRET_KEY"] {
        let peer = Peer::public();
        peer.refuse(refused(reason, Code::PermissionDenied, &[]));
        assert_eq!(code(&call(&peer, "POST", OUT, r#"{"records":[]}"#).await), (403, "permission_denied".into()));
    }
    for (metadata, message) in [(&[][..], "The token does not cover this stream"), (&[("needs", "secret_key")], "said")]
    {
        let expected = (403, json!({ "code": "permission_denied", "message": message }));
        let peer = Peer::public();
        peer.refuse(refused("PERMISSION_DENIED", Code::PermissionDenied, metadata));
        let answer = call(&peer, "POST", OUT, r#"{"records":[{"body":"b"}],"match_seq_num":0}"#).await;
        assert_eq!((answer.status, answer.json()), expected);
        assert_eq!(session(&peer, frame(0, &input("b"))).await, (vec![], Some(expected)), "the same in a frame");
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
