//! Named channels over REST: their narrowed tokens, where a reader begins, probes, and what a PUT may ask for.

use crate::support::rest::Rest;
use crate::support::{Client, TestNode, record, token::scoped};
use continuo_proto::v1::{ChannelRef, Direction, TrimRequest};
use serde_json::json;

const TOOLS: &str = "/realtime/v1/sessions/chat/channels/tools";

async fn node() -> (TestNode, Rest, Client) {
    let node = TestNode::start().await;
    let (rest, client) = (node.rest(), node.client().await);
    client.create(Some("chat")).await;
    (node, rest, client)
}

async fn put(rest: &Rest, channel: &str, text: &str) -> u64 {
    let appended = rest.post(&format!("{channel}/append"), text.to_owned()).await;
    assert_eq!(appended.status, 200, "{}", appended.text());
    appended.json()["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn a_narrowed_token_opens_the_side_and_the_channel_it_names() {
    let (node, rest, _) = node().await;
    for channel in ["tools", "tools.in", "in", "channels"] {
        for io in ["in", "out"] {
            put(&rest, &format!("/realtime/v1/sessions/chat/channels/{channel}/{io}"), "x").await;
        }
    }
    // Of each channel, what the token may read: `i` its `.in`, `o` its `.out`.
    for (scope, tools, tools_in, named_in, reserved) in [
        ("chat:channels:tools", "io", "", "", ""),
        ("chat:channels:tools:in", "i", "", "", ""),
        ("chat:channels:tools:out", "o", "", "", ""),
        ("chat:channels:tools.in", "", "io", "", ""),
        ("chat:channels:in", "", "", "io", ""),
        ("chat:channels", "", "", "", ""),
        ("chat:channels:", "", "", "", ""),
        ("chat:tools", "", "", "", ""),
        ("chat:in", "", "", "", ""),
        ("chat:out", "", "", "", "o"),
        ("chat", "io", "io", "io", "o"),
        ("other:channels:tools", "", "", "", ""),
    ] {
        let reader = node.rest_as(&scoped(&[format!("read:sessions:{scope}")]));
        for (path, readable) in [
            ("chat/channels/tools", tools),
            ("chat/channels/tools.in", tools_in),
            ("chat/channels/in", named_in),
            ("chat", reserved),
        ] {
            for io in ["in", "out"] {
                let expected = if readable.contains(&io[..1]) { 200 } else { 403 };
                let channel = format!("/realtime/v1/sessions/{path}/{io}");
                for (method, path) in [("GET", &channel), ("HEAD", &channel), ("GET", &format!("{channel}/records"))] {
                    assert_eq!(reader.status(method, path, "").await, expected, "{scope} {method} {path}");
                }
            }
        }
        let row = if scope == "chat" { 200 } else { 403 };
        assert_eq!(reader.get("/api/v1/sessions/chat").await.status, row, "{scope}");
    }
}

#[tokio::test]
async fn a_narrowed_token_writes_the_in_it_names_and_never_an_out() {
    let (node, ..) = node().await;
    for (scope, tools, other) in [
        ("chat:channels:tools", 200, 403),
        ("chat:channels:tools:in", 200, 403),
        ("chat:channels:tools:out", 403, 403),
        ("chat:in", 403, 403),
        ("chat", 200, 200),
    ] {
        let writer = node.rest_as(&scoped(&[format!("write:sessions:{scope}")]));
        let append = async |path: &str| writer.post(&format!("{path}/append"), "x").await.status;
        assert_eq!(append(&format!("{TOOLS}/in")).await, tools, "{scope}");
        assert_eq!(append("/realtime/v1/sessions/chat/channels/other/in").await, other, "{scope}");
        assert_eq!(append(&format!("{TOOLS}/out")).await, 403, "{scope}");
        let reserved = if scope == "chat" || scope == "chat:in" { 200 } else { 403 };
        assert_eq!(append("/realtime/v1/sessions/chat/in").await, reserved, "{scope}");
    }
}

#[tokio::test]
async fn latest_begins_with_the_newest_record_that_is_no_command() {
    let (_node, rest, client) = node().await;
    for text in ["one", "two", "three"] {
        put(&rest, &format!("{TOOLS}/out"), text).await;
        client.put_out("chat", record(&[], text)).await;
    }
    let trim = async |name: &str| {
        let channel = ChannelRef { session: "chat".into(), name: name.into(), direction: Direction::Out.into() };
        let request = TrimRequest { channel: Some(channel), before_seq_num: 1 };
        client.channels.clone().trim(request).await.unwrap();
    };
    for commands in [0, 1, 40] {
        for name in ["tools", ""] {
            for _ in 0..commands {
                trim(name).await;
            }
        }
        for path in [format!("{TOOLS}/out"), "/realtime/v1/sessions/chat/out".to_owned()] {
            let first = async |headers: &[(&str, &str)]| rest.subscribe(&path, headers).await.record().await;
            for value in ["latest", "LATEST", " Latest "] {
                let found = first(&[("X-Trigger-Stream-Start", value)]).await;
                assert!(found["body"].as_str().unwrap().contains("three"), "{commands} {path} {value} {found}");
            }
            let newest = first(&[("X-Trigger-Stream-Start", "latest")]).await["seq_num"].as_u64().unwrap();
            for headers in [&[("X-Trigger-Stream-Start", "newest")][..], &[("X-Trigger-Stream-Start", "")], &[]] {
                let seq_num = first(headers).await["seq_num"].as_u64().unwrap();
                assert!(seq_num < newest, "{path} {headers:?} begins at the beginning");
            }
            let cursor = (newest - 1).to_string();
            let both = [("X-Trigger-Stream-Start", "latest"), ("Last-Event-ID", cursor.as_str())];
            assert_eq!(first(&both).await["seq_num"], newest, "a cursor goes first");
        }
    }
}

#[tokio::test]
async fn latest_of_an_empty_channel_waits_for_the_first_record() {
    let (_node, rest, _) = node().await;
    let latest = [("X-Trigger-Stream-Start", "latest")];
    for path in [format!("{TOOLS}/in"), "/realtime/v1/sessions/later/channels/tools/in".to_owned()] {
        let mut reader = rest.subscribe(&path, &latest).await;
        reader.is_held().await;
        if path.contains("later") {
            let body = json!({
                "type": "t", "externalId": "later", "taskIdentifier": "t", "triggerConfig": { "basePayload": {} },
            });
            rest.post("/api/v1/sessions", body.to_string()).await;
        }
        let seq = put(&rest, &path, "first").await;
        assert_eq!(reader.record().await["seq_num"], seq);
    }
}

#[tokio::test]
async fn a_probe_answers_as_a_read_would_and_has_no_body() {
    let (node, rest, _) = node().await;
    let stranger = node.rest_as(&scoped(&["read:sessions:chat:channels:other"]));
    for (rest, path, headers, status) in [
        (&rest, format!("{TOOLS}/out"), &[][..], 200),
        (&rest, "/realtime/v1/sessions/chat/out".into(), &[], 200),
        (&rest, "/realtime/v1/sessions/nobody/out".into(), &[], 200),
        (&rest, "/realtime/v1/sessions/session_missing/out".into(), &[], 404),
        (&rest, format!("{TOOLS}/sideways"), &[], 400),
        (&rest, format!("{TOOLS}/out"), &[("Timeout-Seconds", "601")], 400),
        (&stranger, format!("{TOOLS}/out"), &[], 403),
    ] {
        let answer = rest.call("HEAD", &path, headers, "").await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
        assert_eq!(answer.header("x-last-chunk-index"), (status == 200).then_some("0"), "{path}");
    }
}

#[tokio::test]
async fn a_put_takes_the_retention_headers_and_is_not_put_off_by_malformed_ones() {
    let (_node, rest, _) = node().await;
    let plain = rest.call("PUT", &format!("{TOOLS}/out"), &[], "").await.status;
    for (age, empty) in [("3600", "60"), ("0", "-1"), ("soon", ""), ("99999999999999999999", "1.5")] {
        let headers = [("x-channel-max-age-seconds", age), ("x-channel-delete-on-empty-seconds", empty)];
        let answer = rest.call("PUT", &format!("{TOOLS}/out"), &headers, "").await;
        assert_eq!(answer.status, plain, "{headers:?} {}", answer.text());
    }
    put(&rest, &format!("{TOOLS}/out"), "x").await;
}
