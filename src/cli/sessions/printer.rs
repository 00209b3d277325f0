//! Records as a person reads them, or as JSON.

use continuo_proto::v1::Record;
use serde_json::Value;

use crate::cli::json;
use crate::cli::output::{Output, note};

/// Prints one record after the other. Text that comes in pieces is printed as it comes.
pub(super) struct Printer {
    output: Output,
    as_json: bool,
    is_within_line: bool,
}

/// A turn-complete record.
pub(super) struct TurnComplete {
    /// The highest `.in` record it answers, if it says so.
    pub(super) in_seq_num: Option<u64>,
}

pub(super) fn turn_complete(record: &Record) -> Option<TurnComplete> {
    if control(record)? != "turn-complete" {
        return None;
    }
    let in_seq_num = record.headers.iter().find(|header| header.name == b"session-in-event-id"[..]);
    let in_seq_num = in_seq_num.and_then(|header| std::str::from_utf8(&header.value).ok()?.parse().ok());
    Some(TurnComplete { in_seq_num })
}

/// The subtype of a control record.
fn control(record: &Record) -> Option<&str> {
    let first = record.headers.first().filter(|header| header.name == b"trigger-control"[..])?;
    std::str::from_utf8(&first.value).ok()
}

fn is_command(record: &Record) -> bool {
    matches!(record.headers.as_slice(), [header] if header.name.is_empty())
}

impl Printer {
    pub(super) fn new(output: Output, as_json: bool) -> Self {
        Self { output, as_json, is_within_line: false }
    }

    pub(super) fn record(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.as_json {
            return self.output.json(&json::record(record));
        }
        if is_command(record) {
            return Ok(());
        }
        match shown(record) {
            Shown::Piece(text) => {
                self.is_within_line = !text.ends_with('\n');
                self.output.part(&text)
            }
            Shown::LineBreak => self.end(),
            Shown::Line(text) => {
                self.end()?;
                self.output.line(&text)
            }
            Shown::Note(text) => {
                self.end()?;
                note(&text);
                Ok(())
            }
            Shown::Nothing => Ok(()),
        }
    }

    /// Ends the line that is under way.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        match std::mem::take(&mut self.is_within_line) {
            true => self.output.line(""),
            false => Ok(()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Piece(String),
    LineBreak,
    Line(String),
    /// Not part of what was said.
    Note(String),
    Nothing,
}

fn shown(record: &Record) -> Shown {
    if let Some(control) = control(record) {
        return match control {
            "turn-complete" => Shown::LineBreak,
            other => Shown::Note(format!("[{other}]")),
        };
    }
    match json::envelope(record).map(|mut envelope| envelope["data"].take()) {
        None => Shown::Line(String::from_utf8_lossy(&record.body).into_owned()),
        Some(Value::String(text)) => Shown::Line(text),
        Some(chunk) => shown_chunk(&chunk),
    }
}

/// Chunks of an AI SDK message. Those that begin or end something are seen by their line breaks only.
fn shown_chunk(chunk: &Value) -> Shown {
    match (chunk["type"].as_str(), chunk["delta"].as_str()) {
        (Some("text-delta"), Some(delta)) => Shown::Piece(delta.to_owned()),
        (Some("start" | "text-end" | "finish" | "abort"), _) => Shown::LineBreak,
        (Some("text-start" | "start-step" | "finish-step"), _) => Shown::Nothing,
        (Some("error"), _) => Shown::Note(format!("[error] {}", chunk["errorText"].as_str().unwrap_or_default())),
        (Some(other), _) => Shown::Note(format!("[{other}]")),
        (None, _) => Shown::Line(chunk.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_proto::v1::Header;
    use serde_json::json;

    fn data(data: Value) -> Record {
        Record { body: json!({"data": data, "id": "p"}).to_string().into(), ..Default::default() }
    }

    fn control(headers: &[(&'static str, &'static str)]) -> Record {
        let header =
            |(name, value): &(&'static str, &'static str)| Header { name: (*name).into(), value: (*value).into() };
        Record { headers: headers.iter().map(header).collect(), ..Default::default() }
    }

    #[test]
    fn an_answer_is_text_and_the_rest_is_not() {
        let delta = data(json!({"type": "text-delta", "id": "m", "delta": "hi "}));
        assert_eq!(shown(&delta), Shown::Piece("hi ".to_owned()));
        assert_eq!(shown(&data(json!({"type": "text-start", "id": "m"}))), Shown::Nothing);
        assert_eq!(shown(&data(json!({"type": "tool-input-start"}))), Shown::Note("[tool-input-start]".to_owned()));
        assert_eq!(shown(&data(json!("hello"))), Shown::Line("hello".to_owned()));
        assert_eq!(shown(&Record { body: "raw".into(), ..Default::default() }), Shown::Line("raw".to_owned()));
        assert_eq!(shown(&control(&[("trigger-control", "turn-complete")])), Shown::LineBreak);
    }

    #[test]
    fn a_turn_says_what_it_answers() {
        let record = control(&[("trigger-control", "turn-complete"), ("session-in-event-id", "12")]);
        assert_eq!(turn_complete(&record).unwrap().in_seq_num, Some(12));
        assert!(turn_complete(&control(&[("trigger-control", "upgrade-required")])).is_none());
        assert!(turn_complete(&data(json!("x"))).is_none());
    }
}
