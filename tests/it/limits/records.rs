//! The largest record, the longest part id, and text that arrives in any pieces.

use crate::support::http::{Answer, Request};
use crate::support::routes::World;
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};

const METERED_BYTES_MAX: usize = 1_048_576;
const CHANNELS: [&str; 3] = ["in", "out", "channels/tools/in"];

fn append(channel: &str, part_id: &str, text: &str) -> Request {
    let path = format!("/realtime/v1/sessions/records/{channel}/append");
    Request::new("POST", &path).bearer(KEY).header("X-Part-Id", part_id).body(text)
}

/// What a record with this text and part id counts for: the envelope, as JavaScript would write it, and 8.
fn metered(text: &str, part_id: &str) -> usize {
    8 + json!({ "data": text, "id": part_id }).to_string().len()
}

async fn last_record(node: &TestNode, channel: &str, seq: u64) -> Value {
    let after = seq.checked_sub(1).map_or(String::new(), |seq| format!("?afterEventId={seq}"));
    let path = format!("/realtime/v1/sessions/records/{channel}/records{after}");
    let answer = Request::new("GET", &path).bearer(KEY).send(&node.url).await;
    answer.json()["records"].as_array().unwrap().last().unwrap().clone()
}

#[track_caller]
fn assert_too_large(answer: &Answer, metered: usize) {
    let text = format!(
        "Record metered size {metered} bytes exceeds the S2 per-record limit of 1048576 bytes. Reduce tool-output size or \
         split into smaller parts."
    );
    assert_eq!((answer.status, answer.json()), (413, json!({ "ok": false, "error": text })));
}

/// Of each kind of text as much as fits, to the byte, and one byte more: characters of one to four bytes, and those that JSON
/// writes longer than they are.
#[tokio::test]
async fn the_largest_record() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "records").await;
    for (n, unit) in
        ["a", "é", "€", "😀", "\"", "\\", "\n", "\u{1}", "\u{7f}", "\u{2028}", "👩\u{200d}👧"].into_iter().enumerate()
    {
        let channel = CHANNELS[n % CHANNELS.len()];
        let (most, more) = (format!("most-{n}"), format!("more-{n}"));
        let each = metered(unit, "") - metered("", "");
        let room = METERED_BYTES_MAX - metered("", &most);
        // What is left over is filled with letters.
        let text = unit.repeat(room / each) + &"x".repeat(room % each);
        assert_eq!(metered(&text, &most), METERED_BYTES_MAX);
        let taken = append(channel, &most, &text).send(&node.url).await;
        assert_eq!(taken.status, 200, "{unit:?}: {}", taken.text());
        let record = last_record(&node, channel, taken.json()["seq"].as_u64().unwrap()).await;
        assert!(record["data"] == text && record["id"] == most, "{unit:?} comes back as it was");
        let refused = append(channel, &more, &(text + "x")).send(&node.url).await;
        assert_too_large(&refused, METERED_BYTES_MAX + 1);
    }
    // A body within its own cap, and an envelope far beyond: the record's limit is told. One byte more, and it is the body's.
    let body = "\u{1}".repeat(METERED_BYTES_MAX);
    assert_too_large(&append("in", "p", &body).send(&node.url).await, metered(&body, "p"));
    let answer = append("in", "p", &(body + "x")).send(&node.url).await;
    assert_eq!((answer.status, answer.text().as_str()), (413, r#"{"error":"Request body too large"}"#));
}

#[tokio::test]
async fn the_longest_part_id() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "records").await;
    for channel in CHANNELS {
        for id in ["p".repeat(1_024), "é".repeat(512), "a:b/c\\ \"'%00".to_owned()] {
            let first = append(channel, &id, "x").send(&node.url).await;
            assert_eq!(first.status, 200, "{}", first.text());
            let again = append(channel, &id, "x").send(&node.url).await;
            assert_eq!(again.json(), first.json(), "the first outcome, of {id:.20}");
            let record = last_record(&node, channel, first.json()["seq"].as_u64().unwrap()).await;
            assert_eq!(record["id"], id);
        }
    }
}

/// Characters of every length, and what JSON escapes: wherever the body is cut in two, and in single bytes, it is the same text.
#[tokio::test]
async fn text_in_any_pieces() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "records").await;
    let text = "a\u{7f}é€\u{ffff}😀👩\u{200d}👧\u{10ffff}\"\\\n\u{1}\u{2028}z";
    let bytes = text.as_bytes();
    let cuts = (1..bytes.len()).map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()]);
    let singles = bytes.iter().map(|byte| vec![*byte]).collect();
    for (n, pieces) in cuts.chain([singles]).enumerate() {
        let answer = append("in", &format!("cut-{n}"), "").chunked(pieces).send(&node.url).await;
        assert_eq!(answer.status, 200, "cut {n}: {}", answer.text());
        assert_eq!(last_record(&node, "in", answer.json()["seq"].as_u64().unwrap()).await["data"], text, "cut {n}");
    }
    // A character that never ends is no text, in whatever pieces.
    for end in (1..bytes.len()).filter(|end| !text.is_char_boundary(*end)) {
        let answer = append("in", "half", "").chunked(bytes[..end].chunks(1).map(<[u8]>::to_vec).collect());
        let answer = answer.send(&node.url).await;
        assert_eq!((answer.status, answer.json()["ok"].clone()), (400, json!(false)), "{end}");
    }
}
