//! Settled, on the wire: when a read of `.out` that asks whether the turn is over ends at once, and when it is held. What is
//! held shows it by delivering the next record; nothing here is timed.

use crate::support::rest::{Rest, Subscription};
use crate::support::{Client, TestNode, record};
use continuo_proto::v1::{Direction, NewRecord};
use serde_json::{Value, json};

const TURN_COMPLETE: [(&str, &str); 1] = [("trigger-control", "turn-complete")];
/// The longest hold there is: a read that ends was not ended by the clock.
const PEEK: [(&str, &str); 2] = [("X-Peek-Settled", "1"), ("Timeout-Seconds", "600")];

/// A session that only the test writes to.
struct Chat {
    _node: TestNode,
    client: Client,
    rest: Rest,
    id: String,
}

impl Chat {
    async fn new() -> Self {
        let node = TestNode::start().await;
        let client = node.client().await;
        let id = client.create(Some("chat")).await.session.unwrap().id;
        Self { rest: node.rest(), _node: node, client, id }
    }

    async fn put(&self, record: NewRecord) -> u64 {
        self.client.put_out(&self.id, record).await
    }

    async fn complete_turn(&self) -> u64 {
        self.put(record(&TURN_COMPLETE, "")).await
    }

    /// Asks whether the turn is over, having seen this number.
    async fn peek(&self, last_seen: Option<u64>) -> Subscription {
        let cursor = last_seen.map(|n| n.to_string());
        let cursor = cursor.as_ref().map(|n| ("Last-Event-ID", n.as_str()));
        let headers: Vec<_> = PEEK.into_iter().chain(cursor).collect();
        self.rest.subscribe("/realtime/v1/sessions/chat/out", &headers).await
    }

    /// The read is held: what is written next arrives on it.
    async fn is_held(&self, mut read: Subscription, why: &str) {
        assert!(read.status == 200 && !read.is_settled(), "{why}");
        let next = self.put(record(&[], r#"{"data":"next","id":"n"}"#)).await;
        while read.record_numbers().await.last() != Some(&next) {}
    }
}

impl Subscription {
    async fn record_numbers(&mut self) -> Vec<u64> {
        self.batch().await.iter().map(|r| r["seq_num"].as_u64().unwrap()).collect()
    }
}

/// What tells data and control records apart, without commands.
fn shown(records: &[Value]) -> Vec<Value> {
    let is_command = |r: &Value| r["headers"][0][0] == "";
    let of = |r: &Value| r.get("body").unwrap_or(&r["headers"][0][1]).clone();
    records.iter().filter(|r| !is_command(r)).map(of).collect()
}

#[tokio::test]
async fn an_idle_turn_ends_the_read_at_once_with_what_lies_after_the_cursor() {
    let chat = Chat::new().await;
    let chunk = chat.put(record(&[], r#"{"data":1,"id":"a"}"#)).await;
    let end = chat.complete_turn().await;
    let both = [json!(r#"{"data":1,"id":"a"}"#), json!("turn-complete")];
    for (last_seen, expected) in
        [(None, &both[..]), (Some(chunk), &both[1..]), (Some(end), &[]), (Some(end + 100), &[])]
    {
        let mut read = chat.peek(last_seen).await;
        assert!(read.is_settled(), "{last_seen:?}");
        assert_eq!(shown(&read.rest().await), expected, "{last_seen:?}");
    }
}

#[tokio::test]
async fn far_behind_its_cursor_a_reader_gets_everything_before_the_end() {
    let chat = Chat::new().await;
    for _ in 0..4 {
        chat.put(record(&[], &"x".repeat(700_000))).await;
    }
    chat.complete_turn().await;
    let mut read = chat.peek(None).await;
    assert!(read.is_settled());
    assert_eq!(shown(&read.rest().await).len(), 5);
}

#[tokio::test]
async fn commands_at_the_tail_do_not_count_however_many() {
    let chat = Chat::new().await;
    chat.put(record(&[], "chunk")).await;
    let end = chat.complete_turn().await;
    let mut count = 0;
    for wanted in [1, 2, 31, 32, 33, 100] {
        while count < wanted {
            chat.client.trim_out(&chat.id, end).await;
            count += 1;
        }
        let mut read = chat.peek(Some(end)).await;
        assert!(read.is_settled(), "{count} commands");
        assert_eq!(read.rest().await.len(), count, "commands are delivered and do not hold the read");
        let mut whole = chat.peek(None).await;
        assert_eq!(shown(&whole.rest().await), ["turn-complete"], "what was trimmed is skipped");
    }
}

#[tokio::test]
async fn the_data_record_of_an_older_writer_settles_as_an_object_and_as_its_text() {
    let object = r#"{"data":{"type":"trigger:turn-complete"},"id":"p"}"#;
    let text = r#"{"data":"{\"type\":\"trigger:turn-complete\"}","id":"p"}"#;
    for body in [object, text] {
        let chat = Chat::new().await;
        let end = chat.put(record(&[], body)).await;
        assert!(chat.peek(None).await.is_settled(), "{body}");
        chat.client.trim_out(&chat.id, end).await;
        let mut read = chat.peek(Some(end)).await;
        assert!(read.is_settled(), "{body} before a command");
        read.rest().await;
    }
    let chat = Chat::new().await;
    let appended = chat.rest.post("/realtime/v1/sessions/chat/out/append", r#"{"type":"trigger:turn-complete"}"#).await;
    assert_eq!(appended.status, 200);
    assert!(chat.peek(None).await.is_settled(), "as a client appends it");
}

#[tokio::test]
async fn everything_else_at_the_tail_holds_the_read() {
    for (why, newest) in [
        ("a chunk in mid-turn", record(&[], r#"{"data":{"type":"text-delta"},"id":"c"}"#)),
        ("another control record", record(&[("trigger-control", "upgrade-required")], "")),
        ("the end of the session", record(&[("trigger-control", "session-closed")], "")),
        ("the word alone", record(&[], r#"{"data":"trigger:turn-complete","id":"c"}"#)),
        ("a text in a text", record(&[], r#"{"data":"\"{\\\"type\\\":\\\"trigger:turn-complete\\\"}\"","id":"c"}"#)),
    ] {
        let chat = Chat::new().await;
        chat.complete_turn().await;
        let seq_num = chat.put(newest).await;
        chat.is_held(chat.peek(None).await, why).await;
        chat.client.trim_out(&chat.id, 0).await;
        chat.is_held(chat.peek(Some(seq_num)).await, why).await;
    }
}

#[tokio::test]
async fn an_empty_channel_holds_the_read() {
    let chat = Chat::new().await;
    chat.is_held(chat.peek(None).await, "never written").await;
    let end = chat.complete_turn().await;
    chat.client.trim_out(&chat.id, end + 1).await;
    chat.is_held(chat.peek(None).await, "trimmed empty").await;

    let nobody = chat.rest.subscribe("/realtime/v1/sessions/nobody/out", &PEEK).await;
    assert!(nobody.status == 200 && !nobody.is_settled(), "a session that is not there yet");
}

#[tokio::test]
async fn nobody_who_does_not_ask_is_sent_away() {
    let chat = Chat::new().await;
    chat.complete_turn().await;
    for ask in [&[][..], &[("X-Peek-Settled", "0")], &[("X-Peek-Settled", "true")]] {
        let headers: Vec<_> = ask.iter().copied().chain([("Timeout-Seconds", "600")]).collect();
        let read = chat.rest.subscribe("/realtime/v1/sessions/chat/out", &headers).await;
        chat.is_held(read, &format!("{ask:?}")).await;
        chat.complete_turn().await;
    }
    let tools = "/realtime/v1/sessions/chat/channels/tools/out";
    chat.rest.post(&format!("{tools}/append"), r#"{"type":"trigger:turn-complete"}"#).await;
    for path in [tools, "/realtime/v1/sessions/chat/in"] {
        assert!(!chat.rest.subscribe(path, &PEEK).await.is_settled(), "{path}");
    }
}

#[tokio::test]
async fn a_close_neither_settles_nor_unsettles_nor_ends_a_read() {
    let chat = Chat::new().await;
    chat.put(record(&[], "chunk")).await;
    let held = chat.peek(None).await;
    assert_eq!(chat.rest.post("/api/v1/sessions/chat/close", "{}").await.status, 200);
    assert!(!held.is_settled() && !chat.peek(None).await.is_settled());

    let chat = Chat::new().await;
    chat.complete_turn().await;
    chat.rest.post("/api/v1/sessions/chat/close", "{}").await;
    assert!(chat.peek(None).await.is_settled());
}

#[tokio::test]
async fn the_message_that_starts_the_next_turn_unsettles_the_last_one() {
    let chat = Chat::new().await;
    chat.complete_turn().await;
    let run = chat.rest.get("/api/v1/sessions/chat").await.json()["currentRunId"].as_str().unwrap().to_owned();
    chat.rest.post(&format!("/api/v2/runs/{run}/cancel"), "").await;
    assert!(chat.peek(None).await.is_settled(), "the end of a run changes nothing");
    chat.client.append("chat", Direction::In, "again").await.unwrap();
    chat.is_held(chat.peek(None).await, "the next run has claimed the session").await;
}
