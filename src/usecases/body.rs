//! What the rules need to know of a record's body, which is otherwise opaque.
//!
//! A body is what a client sent, or the envelope `{"data": …, "id": …}` the REST surface stores it in, whose `data` on
//! `.in` is the client's text as a JSON string.

use bytes::Bytes;
use continuo_domain::json::Entries;
use std::borrow::Cow;

/// The text a client sent: the envelope's string, or the body itself.
pub(crate) fn client_text(body: &[u8]) -> Cow<'_, str> {
    match envelope_data(body) {
        Some(data) => Cow::Owned(data),
        None => String::from_utf8_lossy(body),
    }
}

/// Does a body of this kind start a run? A JSON object whose `kind` is exactly `stop` or `handover-skip` does not.
pub(crate) fn boots(body: &[u8]) -> bool {
    let text = client_text(body);
    !Entries::parse(&text).is_some_and(|message| message.is("kind", "stop") || message.is("kind", "handover-skip"))
}

/// Does a message of this kind only ask a run to end? With the run gone it has nothing left to say.
pub(crate) fn asks_to_end(body: &[u8]) -> bool {
    let text = client_text(body);
    let Some(message) = Entries::parse(&text).filter(|message| message.is("kind", "message")) else { return false };
    message.get("payload").and_then(Entries::parse).is_some_and(|payload| payload.is("trigger", "close"))
}

/// The body without `payload.actionSource: "webhook"`, which marks deliveries that only a key may make. Everything else
/// stays as it is, byte for byte; `None` if there is nothing to remove.
pub(crate) fn without_webhook_mark(body: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let mut envelope = Entries::parse(text)?;
    let Some(data) = envelope.get("data") else { return strip(text).map(Bytes::from) };
    let stripped = match serde_json::from_str::<String>(data) {
        Ok(message) => serde_json::Value::from(strip(&message)?).to_string(),
        Err(_) => strip(data)?,
    };
    envelope.set("data", stripped);
    Some(Bytes::from(envelope.to_string()))
}

fn strip(message: &str) -> Option<String> {
    let mut message = Entries::parse(message)?;
    let payload = message.get("payload")?.to_owned();
    let mut payload = Entries::parse(&payload)?;
    if !payload.says("actionSource", "webhook") {
        return None;
    }
    payload.remove("actionSource");
    message.set("payload", payload.to_string());
    Some(message.to_string())
}

/// Reads a JSON object. (A struct would be read from an array as well.)
pub(crate) fn object<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(text).ok())?
}

fn envelope_data(body: &[u8]) -> Option<String> {
    let envelope = Entries::parse(std::str::from_utf8(body).ok()?)?;
    serde_json::from_str(envelope.get("data")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(text: &str) -> Vec<u8> {
        format!(r#"{{"data":{},"id":"p"}}"#, serde_json::to_string(text).unwrap()).into_bytes()
    }

    #[test]
    fn stop_and_handover_skip_boot_nothing() {
        for text in [r#"{"kind":"stop"}"#, r#"{ "x":1, "kind" : "handover-skip" }"#] {
            assert!(!boots(text.as_bytes()));
            assert!(!boots(&envelope(text)));
        }
        for text in ["hi", r#"{"kind":"message"}"#, r#"["stop"]"#, r#"{"kind":"stop "}"#, "", r#"{"kind":1}"#] {
            assert!(boots(text.as_bytes()), "{text}");
            assert!(boots(&envelope(text)), "{text}");
        }
    }

    #[test]
    fn only_a_message_that_is_a_close_asks_to_end() {
        let close = r#"{"kind":"message","payload":{"trigger":"close","chatId":"a"}}"#;
        assert!(asks_to_end(close.as_bytes()) && asks_to_end(&envelope(close)));
        for text in [
            r#"{"kind":"message","payload":{"trigger":"submit-message"}}"#,
            r#"{"kind":"message","trigger":"close"}"#,
            r#"{"payload":{"trigger":"close"}}"#,
            r#"{"kind":"message","payload":"close"}"#,
            "close",
        ] {
            assert!(!asks_to_end(text.as_bytes()) && !asks_to_end(&envelope(text)), "{text}");
        }
    }

    #[test]
    fn the_webhook_mark_goes_and_nothing_else() {
        let marked = r#"{"kind":"message","payload":{"b":1.0,"actionSource":"webhook","a":[ 1 ]}}"#;
        let clean = r#"{"kind":"message","payload":{"b":1.0,"a":[ 1 ]}}"#;
        assert_eq!(without_webhook_mark(marked.as_bytes()).unwrap(), clean);
        assert_eq!(without_webhook_mark(&envelope(marked)).unwrap(), Bytes::from(envelope(clean)));
        let hidden = r#"{"\ud800":0,"payload":{"action\u0053ource":"w\u0065bhook","actionSource":1}}"#;
        assert_eq!(without_webhook_mark(hidden.as_bytes()).unwrap(), r#"{"\ud800":0,"payload":{}}"#);
        for other in [r#"{"payload":{"actionSource":"user"}}"#, "webhook", r#"{"actionSource":"webhook"}"#] {
            assert_eq!(without_webhook_mark(other.as_bytes()), None);
            assert_eq!(without_webhook_mark(&envelope(other)), None);
        }
    }
}
