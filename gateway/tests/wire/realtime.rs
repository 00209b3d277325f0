//! Channels without SSE: initialise, append, records.

use bytes::Bytes;
use continuo_gateway::{DirectWrites, Options};
use continuo_proto::v1::*;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::{
    common::{call, call_with, gateway, request, send},
    peer::{Peer, status},
};

const IN: &str = "/realtime/v1/sessions/s/in/append";
const OUT: &str = "/realtime/v1/sessions/s/out/append";
const NAMED: &str = "/realtime/v1/sessions/s/channels/tools/in/append";

fn appended(seq_num: u64) -> AppendResponse {
    AppendResponse { start: Some(Position { seq_num, timestamp_ms: 1 }), ..Default::default() }
}

async fn append(peer: &Peer, path: &str, headers: &[(&str, &str)], body: &str) -> (AppendRequest, Value) {
    peer.answer(appended(41));
    let answer = call_with(peer, "POST", path, headers, body).await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"ok":true,"seq":41}"#));
    let request = peer.all::<AppendRequest>().pop().unwrap();
    assert_eq!(request.records.len(), 1);
    assert!(request.records[0].headers.is_empty());
    let envelope = serde_json::from_slice(&request.records[0].body).unwrap();
    (request, envelope)
}

#[tokio::test]
async fn the_envelope_holds_the_raw_text_and_the_part_id() {
    let peer = Peer::key();
    let text = "{\"kind\":\"message\", \"payload\":{\"n\":1.0}}\n\u{1}é";
    let (request, envelope) =
        append(&peer, IN, &[("x-part-id", "p:1"), ("content-type", "application/json")], text).await;
    assert_eq!(envelope, json!({ "data": text, "id": "p:1" }));
    assert_eq!(request.part_id.as_deref(), Some("p:1"));
    assert_eq!(request.boot(), Boot::Unspecified);
    assert_eq!((request.match_seq_num, request.fencing_token), (None, None));
    let raw = std::str::from_utf8(&request.records[0].body).unwrap();
    assert!(raw.starts_with(r#"{"data":"{\"kind\":\"message\", "#) && raw.ends_with(r#"","id":"p:1"}"#), "{raw}");
}

#[tokio::test]
async fn without_a_part_id_the_log_is_promised_nothing() {
    let peer = Peer::key();
    for headers in [&[][..], &[("x-part-id", "")]] {
        let (request, envelope) = append(&peer, OUT, headers, "").await;
        assert_eq!(request.part_id, None);
        assert_eq!((envelope["id"].as_str().unwrap().len(), &envelope["data"]), (7, &json!("")));
    }
}

/// Whether a body boots a run, and what a caller may say in it, is the service's to decide.
#[tokio::test]
async fn what_a_body_means_is_left_to_the_service() {
    for text in [r#"{"kind":"stop"}"#, r#"{"payload":{"a":1.50, "actionSource":"webhook"}}"#] {
        let (request, envelope) = append(&Peer::public(), IN, &[], text).await;
        assert_eq!((request.boot(), &envelope["data"]), (Boot::Unspecified, &json!(text)));
    }
}

#[tokio::test]
async fn records_at_the_cap_and_beyond() {
    let peer = Peer::key();
    assert_eq!(call(&peer, "POST", IN, &"x".repeat(1_048_576)).await.status, 200);
    let answer = call_with(&peer, "POST", IN, &[("origin", "https://a")], &"x".repeat(1_048_577)).await;
    assert_eq!((answer.status, answer.json()), (413, json!({ "error": "Request body too large" })));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a"));
    let answer = send(gateway(&peer, Options::default()), request("POST", IN, &[], vec![0xff, 0xfe])).await;
    assert_eq!((answer.status, answer.json()), (400, json!({ "ok": false, "error": "The record must be UTF-8 text" })));
}

#[tokio::test]
async fn channels_are_named_by_their_path() {
    let peer = Peer::key();
    let channel = append(&peer, NAMED, &[], "x").await.0.channel.unwrap();
    assert_eq!(channel, ChannelRef { session: "s".into(), name: "tools".into(), direction: Direction::In.into() });
    let channel = append(&peer, OUT, &[], "x").await.0.channel.unwrap();
    assert_eq!(channel, ChannelRef { session: "s".into(), name: String::new(), direction: Direction::Out.into() });
}

fn record(seq_num: u64, headers: &[(&'static str, &'static str)], body: &'static str) -> Record {
    let header = |(name, value): &(&'static str, &'static str)| Header {
        name: Bytes::from_static(name.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
    };
    Record { seq_num, timestamp_ms: 1, headers: headers.iter().map(header).collect(), body: body.into() }
}

#[tokio::test]
async fn records_are_taken_out_of_their_envelopes() {
    let peer = Peer::key();
    peer.records(vec![
        Ok(ListRecordsResponse { records: vec![record(3, &[], r#"{"data":"{\"a\":1}","id":"p"}"#)] }),
        Ok(ListRecordsResponse { records: vec![] }),
        Ok(ListRecordsResponse {
            records: vec![
                record(4, &[], r#"{"id":"\u0070","data":{ "n": 1.0 }}"#),
                record(5, &[("trigger-control", "turn-complete"), ("k", "v")], ""),
                record(6, &[], r#"{"no":"envelope","id":"x"}"#),
                record(7, &[], "text"),
                record(8, &[], r#"{"data":1,"data":2}"#),
            ],
        }),
    ]);
    let answer = call(&peer, "GET", "/realtime/v1/sessions/s/out/records?afterEventId=2", "").await;
    assert_eq!(
        answer.text(),
        r#"{"records":[{"data":"{\"a\":1}","id":"p","seqNum":3},{"data":{ "n": 1.0 },"id":"\u0070","seqNum":4},{"data":"","id":"","seqNum":5,"headers":[["trigger-control","turn-complete"],["k","v"]]},{"data":"","id":"","seqNum":6},{"data":"","id":"","seqNum":7},{"data":2,"id":"","seqNum":8}]}"#
    );
    assert_eq!(peer.the::<ListRecordsRequest>().after_seq_num, Some(2));
}

#[tokio::test]
async fn no_records_and_bad_cursors() {
    let path = "/realtime/v1/sessions/s/in/records";
    let peer = Peer::key();
    assert_eq!(call(&peer, "GET", path, "").await.text(), r#"{"records":[]}"#);
    assert_eq!(peer.the::<ListRecordsRequest>().after_seq_num, None);
    for cursor in ["", "-1", "1,2", "x", "1.5"] {
        let answer = call(&peer, "GET", &format!("{path}?afterEventId={cursor}"), "").await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("Query Error")), "{cursor}");
        assert_eq!(answer.json()["details"][0]["path"], json!(["afterEventId"]));
    }
    call(&peer, "GET", &format!("{path}?afterEventId=99999999999999999999"), "").await;
    assert_eq!(peer.all::<ListRecordsRequest>().pop().unwrap().after_seq_num, Some(u64::MAX));
}

#[tokio::test]
async fn a_drain_that_fails_never_looks_complete() {
    let failure = || status("BACKEND_UNAVAILABLE", Code::Unavailable, "the store is not available; try again", &[]);
    let path = "/realtime/v1/sessions/s/in/records";
    let peer = Peer::key();
    peer.records(vec![Err(failure())]);
    assert_eq!(call(&peer, "GET", path, "").await.status, 503);
    peer.records(vec![Ok(ListRecordsResponse { records: vec![record(0, &[], "")] }), Err(failure())]);
    let response = gateway(&peer, Options::default()).oneshot(request("GET", path, &[], "")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn initialise_names_a_stream_of_our_own_and_its_credential() {
    let path = "/realtime/v1/sessions/s/channels/tools/out";
    let peer = Peer::key();
    let answer = InitializeChannelResponse {
        stream_name: "session_1/channels/tools/out".into(),
        access_token: "tr_stream_x".into(),
        ..Default::default()
    };
    peer.answer(answer);
    let direct_writes = DirectWrites { flush_interval_ms: 5, max_retries: 3 };
    let router = gateway(&peer, Options { direct_writes, ..Options::default() });
    let answer = send(router.clone(), request("PUT", path, &[("host", "here:1")], "")).await;
    assert_eq!((answer.status, answer.text()), (202, r#"{"version":"v2"}"#));
    for (name, value) in [
        ("x-s2-access-token", "tr_stream_x"),
        ("x-s2-stream-name", "session_1/channels/tools/out"),
        ("x-s2-basin", "continuo"),
        ("x-s2-endpoint", "http://here:1/v1"),
        ("x-s2-flush-interval-ms", "5"),
        ("x-s2-max-retries", "3"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let asked = peer.the::<InitializeChannelRequest>();
    assert_eq!((&*asked.channel.unwrap().name, asked.max_age_seconds), ("tools", None));
    let public = Options { public_base_url: Some("https://public.example/".into()), ..Options::default() };
    let answer = send(gateway(&peer, public), request("PUT", path, &[("host", "here:1")], "")).await;
    assert_eq!(answer.header("x-s2-endpoint"), Some("https://public.example/v1"));

    peer.refuse(Status::permission_denied("no"));
    assert_eq!(send(router, request("PUT", path, &[], "")).await.status, 403);
}

#[tokio::test]
async fn a_named_channel_may_be_told_how_long_it_keeps_its_records() {
    let asked = async |path, seconds| {
        let peer = Peer::key();
        let headers = [("x-channel-max-age-seconds", seconds), ("x-channel-delete-on-empty-seconds", "60")];
        assert_eq!(call_with(&peer, "PUT", path, &headers, "").await.status, 202);
        peer.the::<InitializeChannelRequest>().max_age_seconds
    };
    let named = "/realtime/v1/sessions/s/channels/tools/out";
    assert_eq!(asked(named, "3600").await, Some(3_600));
    for malformed in ["", "0", "-1", "1.5", "1h", "3153600001", "99999999999999999999"] {
        assert_eq!(asked(named, malformed).await, None, "{malformed}");
    }
    assert_eq!(asked("/realtime/v1/sessions/s/out", "3600").await, None);
}
