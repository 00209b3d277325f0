//! Records as JSON: what event streams and reads have in common.

use base64::{Engine, prelude::BASE64_STANDARD};
use continuo_proto::v1::{Header, Position, Record};

use crate::json::{push_display, push_lossy};

/// How bodies and headers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// As text; what is not UTF-8 is lost.
    #[default]
    Raw,
    /// As base64 of the bytes.
    Base64,
}

impl Format {
    fn push(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Self::Raw => push_lossy(out, bytes),
            Self::Base64 => push_display(out, format_args!("\"{}\"", BASE64_STANDARD.encode(bytes))),
        }
    }
}

/// `{"records":[…],"tail":{…}}`. Bodies and headers that are empty, and a tail that is not known, are left out.
pub(crate) fn push_batch(out: &mut Vec<u8>, format: Format, records: &[Record], tail: Option<&Position>) {
    out.extend_from_slice(b"{\"records\":[");
    for (i, record) in records.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_record(out, format, record);
    }
    out.push(b']');
    push_tail(out, tail);
    out.push(b'}');
}

/// Room for a printed batch: most bodies are JSON text, whose quotes double; more only grows the buffer.
pub(crate) fn room(records: &[Record]) -> usize {
    let metered: usize = records.iter().map(metered_bytes).sum();
    metered + metered / 4 + 64 * records.len() + 160
}

/// What a record counts for.
pub(crate) fn metered_bytes(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|h| 2 + h.name.len() + h.value.len()).sum();
    8 + headers + record.body.len()
}

fn push_record(out: &mut Vec<u8>, format: Format, record: &Record) {
    out.extend_from_slice(b"{\"seq_num\":");
    push_display(out, record.seq_num);
    out.extend_from_slice(b",\"timestamp\":");
    push_display(out, record.timestamp_ms);
    if !record.body.is_empty() {
        out.extend_from_slice(b",\"body\":");
        format.push(out, &record.body);
    }
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        push_headers(out, format, &record.headers);
    }
    out.push(b'}');
}

/// Headers as pairs of strings.
pub(crate) fn push_headers(out: &mut Vec<u8>, format: Format, headers: &[Header]) {
    out.push(b'[');
    for (i, header) in headers.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
        format.push(out, &header.name);
        out.push(b',');
        format.push(out, &header.value);
        out.push(b']');
    }
    out.push(b']');
}

/// `,"tail":{…}`, if there is one.
pub(crate) fn push_tail(out: &mut Vec<u8>, tail: Option<&Position>) {
    if let Some(Position { seq_num, timestamp_ms }) = tail {
        push_display(out, format_args!(",\"tail\":{{\"seq_num\":{seq_num},\"timestamp\":{timestamp_ms}}}"));
    }
}
