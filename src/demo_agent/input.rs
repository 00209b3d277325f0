//! What a record on `.in` asks for.

use serde_json::Value;

/// A record, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Somebody said something; empty if there was a message without text.
    Message(String),
    /// The last message is to be answered anew.
    Again,
    /// The answer under way is to end.
    Stop,
    /// The conversation is over.
    Close,
    /// Nothing for this agent.
    Nothing,
}

/// Reads the body of a record: the envelope `{"data": …, "id": …}` with the data as text or as a value, or plain text.
pub(super) fn read(body: &[u8]) -> Input {
    let text = String::from_utf8_lossy(body);
    let data = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(mut envelope)) if envelope.contains_key("data") => envelope["data"].take(),
        _ => Value::String(text.into_owned()),
    };
    let (value, text) = match data {
        Value::String(text) => (serde_json::from_str(&text).unwrap_or_default(), text),
        value => (value.clone(), value.to_string()),
    };
    match value["kind"].as_str() {
        Some("message") => read_message(&value["payload"]),
        Some("stop") => Input::Stop,
        Some(_) => Input::Nothing,
        None => Input::Message(message_text(&value).unwrap_or(text)),
    }
}

fn read_message(payload: &Value) -> Input {
    match (payload["trigger"].as_str(), message_text(payload)) {
        (Some("close"), _) => Input::Close,
        (Some("preload"), None) => Input::Nothing,
        (Some("regenerate-message"), None) => Input::Again,
        (_, text) => Input::Message(text.unwrap_or_default()),
    }
}

/// The text a person wrote: in `message`, or in the last user's one of `messages`.
pub(super) fn message_text(payload: &Value) -> Option<String> {
    let of_user = |message: &&Value| message["role"] == "user" || message.is_string();
    let newest = || payload["messages"].as_array()?.iter().rev().find(of_user).and_then(text_of);
    text_of(&payload["message"]).or_else(newest)
}

/// Text of one message: a string, AI SDK parts, or `content`.
fn text_of(message: &Value) -> Option<String> {
    if let Some(text) = message.as_str() {
        return Some(text.to_owned());
    }
    let parts = message["parts"].as_array().or(message["content"].as_array());
    let text = match parts {
        Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        None => message["content"].as_str().or(message["text"].as_str())?.to_owned(),
    };
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(data: Value) -> Input {
        read(json!({"data": data, "id": "p1"}).to_string().as_bytes())
    }

    fn as_text(value: Value) -> Input {
        envelope(Value::String(value.to_string()))
    }

    #[test]
    fn plain_text_is_a_message() {
        assert_eq!(envelope(json!("hello")), Input::Message("hello".to_owned()));
        assert_eq!(envelope(json!("42")), Input::Message("42".to_owned()));
        assert_eq!(envelope(json!("[1")), Input::Message("[1".to_owned()));
        assert_eq!(read(b"no envelope"), Input::Message("no envelope".to_owned()));
    }

    #[test]
    fn a_chat_message_gives_its_text_in_every_form() {
        let hello = Input::Message("hello you".to_owned());
        let message = |payload: Value| as_text(json!({"kind": "message", "payload": payload}));
        let parts =
            json!({"role": "user", "parts": [{"type": "text", "text": "hello"}, {"type": "text", "text": "you"}]});
        assert_eq!(message(json!({"trigger": "submit-message", "message": parts})), hello);
        assert_eq!(message(json!({"message": "hello you"})), hello);
        assert_eq!(message(json!({"message": {"content": "hello you"}})), hello);
        let reply = json!({"role": "assistant", "parts": [{"type": "text", "text": "no"}]});
        assert_eq!(message(json!({"trigger": "regenerate-message", "messages": [parts, reply]})), hello);
        assert_eq!(envelope(json!({"kind": "message", "payload": {"message": "hello you"}})), hello);
        assert_eq!(message(json!({"trigger": "action", "action": {}})), Input::Message(String::new()));
    }

    #[test]
    fn stop_close_and_the_rest_are_no_messages() {
        assert_eq!(as_text(json!({"kind": "stop"})), Input::Stop);
        assert_eq!(as_text(json!({"kind": "message", "payload": {"trigger": "close"}})), Input::Close);
        assert_eq!(
            as_text(json!({"kind": "message", "payload": {"trigger": "preload", "messages": []}})),
            Input::Nothing
        );
        assert_eq!(as_text(json!({"kind": "handover-skip"})), Input::Nothing);
        let again = json!({"kind": "message", "payload": {"trigger": "regenerate-message", "chatId": "c"}});
        assert_eq!(as_text(again), Input::Again);
    }

    #[test]
    fn json_without_a_kind_is_what_somebody_said() {
        assert_eq!(as_text(json!({"a": 1})), Input::Message("{\"a\":1}".to_owned()));
    }
}
