//! JSON in and out. Values a client owns (`metadata`, `basePayload`, `payload`, record bodies) are never taken apart: they
//! travel as raw text, with their key order and their spelling of numbers.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An answer with a JSON body.
pub(crate) fn response<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => bytes_response(status, bytes),
        Err(error) => {
            tracing::error!(%error, "a response could not be written as JSON");
            bytes_response(StatusCode::INTERNAL_SERVER_ERROR, br#"{"error":"Internal Server Error"}"#.to_vec())
        }
    }
}

/// An answer whose body is JSON already.
pub(crate) fn bytes_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// Text that should be JSON, ready to be put into an answer verbatim; `None` if it is not JSON after all.
pub(crate) fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// The entries of a JSON object as they stand in the text: raw keys too, because a key such as `"\ud800"` is legal JSON that
/// no Rust string can hold, and repeated keys are kept.
pub(crate) struct Entries<'a>(pub(crate) Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Entries<'a> {
    /// `None` unless the text is one JSON object.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{').then(|| serde_json::from_str(text).ok())?
    }

    /// The value of a key; of the last one if it is repeated, as JavaScript reads it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| is_string(key, name)).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Is the raw value a JSON string with exactly this content, however it is escaped?
pub(crate) fn is_string(raw: &RawValue, content: &str) -> bool {
    string(raw).is_some_and(|s| s == content)
}

/// The content of a raw JSON string.
pub(crate) fn string(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok())?
}

/// How each byte is written inside a JSON string: 0 as it is, `u` as `\u00XX`, anything else as `\` and that letter.
/// The same choices as `JSON.stringify`, so that sizes agree with what other writers of a record would have stored.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = b'u';
        i += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes a text as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut written = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[written..i]);
        written = i + 1;
        match escape {
            b'u' => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// Writes bytes as a JSON string; what is not UTF-8 becomes U+FFFD, since JSON has no other way to show it.
pub(crate) fn push_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    push_string(out, &String::from_utf8_lossy(bytes));
}

/// Writes a number.
pub(crate) fn push_display(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_what_serde_writes(text in ".*") {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn any_bytes_become_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            push_lossy(&mut out, &bytes);
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    #[test]
    fn control_characters_are_spelled_as_in_javascript() {
        let mut out = Vec::new();
        push_string(&mut out, "\u{0}\u{8}\t\n\u{c}\r\u{1f}\"\\/\u{7f}é");
        assert_eq!(String::from_utf8(out).unwrap(), "\"\\u0000\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\u{7f}é\"");
    }

    #[test]
    fn entries_keep_order_repeats_and_unpaired_surrogates() {
        let entries = Entries::parse(r#" {"b":1.0,"\ud800":2,"a":[ 1 ],"b":"x"}"#).unwrap();
        assert_eq!(entries.get("b").unwrap().get(), r#""x""#);
        let texts: Vec<_> = entries.0.iter().map(|(key, value)| (key.get(), value.get())).collect();
        assert_eq!(texts, [("\"b\"", "1.0"), (r#""\ud800""#, "2"), ("\"a\"", "[ 1 ]"), ("\"b\"", r#""x""#)]);
        assert!(Entries::parse("[1]").is_none() && Entries::parse("{").is_none() && Entries::parse("{} x").is_none());
    }
}
