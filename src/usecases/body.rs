//! What the rules need to know of a record's body, which is otherwise opaque.
//!
//! A body is what a client sent, or the envelope `{"data": …, "id": …}` the REST surface stores it in, whose `data` on
//! `.in` is the client's text as a JSON string.

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::value::RawValue;
use std::borrow::Cow;

type Object = IndexMap<String, Box<RawValue>>;

/// The text a client sent: the envelope's string, or the body itself.
pub(crate) fn client_text(body: &[u8]) -> Cow<'_, str> {
    match envelope_data(body) {
        Some(data) => Cow::Owned(data),
        None => String::from_utf8_lossy(body),
    }
}

/// Does a body of this kind start a run? A JSON object whose `kind` is exactly `stop` or `handover-skip` does not.
pub(crate) fn boots(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        kind: &'a RawValue,
    }
    let text = client_text(body);
    let kind = object::<Kind<'_>>(text.as_bytes()).map(|k| k.kind.get());
    !matches!(kind, Some("\"stop\"" | "\"handover-skip\""))
}

/// The body without `payload.actionSource: "webhook"`, which marks deliveries that only a key may make. Everything else
/// stays as it is, byte for byte; `None` if there is nothing to remove.
pub(crate) fn without_webhook_mark(body: &[u8]) -> Option<Bytes> {
    let mut envelope: Object = serde_json::from_slice(body).ok()?;
    let Some(data) = envelope.get("data") else { return strip(envelope).map(Bytes::from) };
    let stripped = match serde_json::from_str::<String>(data.get()) {
        Ok(text) => serde_json::to_string(&strip(serde_json::from_str(&text).ok()?)?).ok()?,
        Err(_) => strip(serde_json::from_str(data.get()).ok()?)?,
    };
    envelope.insert("data".into(), RawValue::from_string(stripped).ok()?);
    serde_json::to_string(&envelope).ok().map(Bytes::from)
}

fn strip(mut message: Object) -> Option<String> {
    let mut payload: Object = serde_json::from_str(message.get("payload")?.get()).ok()?;
    let source: String = serde_json::from_str(payload.get("actionSource")?.get()).ok()?;
    if source != "webhook" {
        return None;
    }
    payload.shift_remove("actionSource");
    let payload = serde_json::to_string(&payload).ok()?;
    message.insert("payload".into(), RawValue::from_string(payload).ok()?);
    serde_json::to_string(&message).ok()
}

/// Reads a JSON object. (A struct would be read from an array as well.)
pub(crate) fn object<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(text).ok())?
}

fn envelope_data(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        data: String,
    }
    object::<Envelope>(body).map(|e| e.data)
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
    fn the_webhook_mark_goes_and_nothing_else() {
        let marked = r#"{"kind":"message","payload":{"b":1.0,"actionSource":"webhook","a":[ 1 ]}}"#;
        let clean = r#"{"kind":"message","payload":{"b":1.0,"a":[ 1 ]}}"#;
        assert_eq!(without_webhook_mark(marked.as_bytes()).unwrap(), clean);
        assert_eq!(without_webhook_mark(&envelope(marked)).unwrap(), Bytes::from(envelope(clean)));
        for other in [r#"{"payload":{"actionSource":"user"}}"#, "webhook", r#"{"actionSource":"webhook"}"#] {
            assert_eq!(without_webhook_mark(other.as_bytes()), None);
            assert_eq!(without_webhook_mark(&envelope(other)), None);
        }
    }
}
