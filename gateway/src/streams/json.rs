//! The JSON of the protocol. Bodies and headers are text there (`S2-Format: raw`, the default), or base64, which can hold
//! any bytes.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use continuo_proto::v1::{ChannelAppend, Header, NewRecord, Position};
use http::HeaderMap;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

use super::{
    message::{AppendAck, StreamPosition},
    refusal::Refusal,
};
use crate::json::push_display;
pub(super) use crate::record_json::Format;

impl Format {
    /// What a caller asks for.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get("s2-format") else { return Ok(Self::Raw) };
        match value.to_str().unwrap_or("?").trim() {
            "raw" | "json" | "" => Ok(Self::Raw),
            "base64" | "json-binsafe" => Ok(Self::Base64),
            _ => Err(Refusal::bad("bad_header", "S2-Format may be raw or base64")),
        }
    }

    fn read(self, text: String) -> Result<Bytes, Refusal> {
        match self {
            Self::Raw => Ok(text.into()),
            Self::Base64 => match BASE64_STANDARD.decode(&text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(Refusal::invalid("records: a body or header is not base64, which S2-Format says it is")),
            },
        }
    }
}

/// Reads an append.
pub(super) fn parse(body: &[u8], format: Format) -> Result<ChannelAppend, Refusal> {
    let input: Input = serde_json::from_slice(body)
        .map_err(|problem| Refusal::bad("bad_json", &format!("The body is no append: {problem}")))?;
    let record = |record: InputRecord| -> Result<NewRecord, Refusal> {
        let header = |InputHeader(name, value)| Ok(Header { name: format.read(name)?, value: format.read(value)? });
        let headers = record.headers.into_iter().map(header).collect::<Result<_, Refusal>>()?;
        Ok(NewRecord { headers, body: format.read(record.body)? })
    };
    Ok(ChannelAppend {
        records: input.records.into_iter().map(record).collect::<Result<_, _>>()?,
        match_seq_num: input.match_seq_num,
        fencing_token: input.fencing_token,
        ..Default::default()
    })
}

#[derive(Deserialize)]
#[serde(expecting = "an object with records")]
struct Input {
    records: Vec<InputRecord>,
    #[serde(default, deserialize_with = "whole")]
    match_seq_num: Option<u64>,
    fencing_token: Option<String>,
}

/// A whole number, also one that is written with a fraction of zero: to JSON they are the same. By its digits, for a number
/// that went through a float may have become another one.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(given) = Option::<&RawValue>::deserialize(deserializer)? else { return Ok(None) };
    let (digits, fraction) = given.get().split_once('.').unwrap_or((given.get(), ""));
    let number = digits.parse().ok().filter(|_| fraction.bytes().all(|digit| digit == b'0'));
    number.map(Some).ok_or_else(|| D::Error::custom("match_seq_num is a whole number from 0 to 18446744073709551615"))
}

/// The writer's own `timestamp` is not read, as everywhere.
#[derive(Deserialize)]
#[serde(expecting = "a record: an object with body and headers")]
struct InputRecord {
    #[serde(default)]
    headers: Vec<InputHeader>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(expecting = "a header: a name and a value")]
struct InputHeader(String, String);

/// Prints what an append did.
pub(super) fn print_ack(ack: &AppendAck) -> Vec<u8> {
    let mut out = Vec::with_capacity(200);
    for (name, position) in [("{\"start\":", ack.start), (",\"end\":", ack.end), (",\"tail\":", ack.tail)] {
        out.extend_from_slice(name.as_bytes());
        push_stream_position(&mut out, position.unwrap_or_default());
    }
    out.push(b'}');
    out
}

/// Prints a position.
pub(super) fn push_position(out: &mut Vec<u8>, position: Position) {
    push_stream_position(out, position.into());
}

fn push_stream_position(out: &mut Vec<u8>, StreamPosition { seq_num, timestamp }: StreamPosition) {
    push_display(out, format_args!("{{\"seq_num\":{seq_num},\"timestamp\":{timestamp}}}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_zero() {
        let read = |number: &str| {
            let json = format!(r#"{{"records":[],"match_seq_num":{number}}}"#);
            parse(json.as_bytes(), Format::Raw).ok().map(|append| append.match_seq_num)
        };
        for (written, number) in [
            ("7", 7),
            ("7.0", 7),
            ("7.000", 7),
            ("0.0", 0),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read(written), Some(Some(number)), "{written}");
        }
        assert_eq!(read("null"), Some(None));
        for wrong in ["7.5", "7.01", "-1", "-1.0", "7.", "+7", "18446744073709551616", "1e400", "\"7\"", "true", "[7]"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn text_is_taken_as_it_is(body in ".*", name in ".+", value in ".*") {
            let json = serde_json::json!({ "records": [{ "body": body, "headers": [[name, value]], "timestamp": 5 }] });
            let append = parse(json.to_string().as_bytes(), Format::Raw).unwrap();
            let record = &append.records[0];
            prop_assert_eq!(text(&record.body), body);
            prop_assert_eq!((text(&record.headers[0].name), text(&record.headers[0].value)), (&*name, &*value));
            prop_assert_eq!((append.match_seq_num, append.fencing_token), (None, None));
        }

        #[test]
        fn base64_holds_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..50)) {
            let json = serde_json::json!({
                "records": [{ "body": BASE64_STANDARD.encode(&body), "headers": [["", BASE64_STANDARD.encode("trim")]] }],
                "match_seq_num": 7, "fencing_token": "t",
            });
            let append = parse(json.to_string().as_bytes(), Format::Base64).unwrap();
            prop_assert_eq!(&append.records[0].body, &body);
            prop_assert_eq!(text(&append.records[0].headers[0].value), "trim");
            prop_assert_eq!((append.match_seq_num, append.fencing_token.as_deref()), (Some(7), Some("t")));
        }
    }

    #[test]
    fn what_is_no_append() {
        for json in ["", "{", "[]", "{}", r#"{"records":{}}"#, r#"{"records":[{"headers":[["a"]]}]}"#, "\"\\ud800\""] {
            let refusal = parse(json.as_bytes(), Format::Raw).unwrap_err();
            assert!(refusal.text().contains("bad_json"), "{json}");
        }
        let refusal = parse(br#"{"records":[{"body":"not base64!"}]}"#, Format::Base64).unwrap_err();
        assert!(refusal.text().contains("base64"));
    }

    #[test]
    fn an_ack() {
        let at = |seq_num| Some(StreamPosition { seq_num, timestamp: 9 });
        let ack = AppendAck { start: at(0), end: at(2), tail: at(3) };
        let expected = r#"{"start":{"seq_num":0,"timestamp":9},"end":{"seq_num":2,"timestamp":9},"tail":{"seq_num":3,"timestamp":9}}"#;
        assert_eq!(print_ack(&ack), expected.as_bytes());
    }
}
