//! Server-sent events, in the framing that today's clients decode. Records are written from the message straight into one
//! buffer per event; nothing is built in between.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use continuo_proto::v1::{ErrorReason, Gap, Heartbeat, ReadResponse, RecordBatch, read_response::Event};
use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    error::{public_text, reason},
    json::push_display,
    record_json::{Format, metered_bytes, push_batch, push_tail, room},
};

/// How often an idle stream shows that it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// The end, if all went well.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
const STOPPING: &str = "the server is stopping; reconnect";

/// Prints a read as a body: the note if there is one, then every event, then `[DONE]`. An error, the end of the credential, and
/// a server that stops end it without `[DONE]`, which makes clients reconnect; the loss of the client drops it.
pub(crate) fn body<S>(note: Option<Bytes>, events: S, stopping: CancellationToken) -> Body
where
    S: Stream<Item = Result<ReadResponse, Status>> + Send + 'static,
{
    let events = Box::pin(events.take_until(stopping.clone().cancelled_owned()));
    let printed = stream::unfold(Some((events, Printer::default(), stopping)), |state| async move {
        let (mut events, mut printer, stopping) = state?;
        loop {
            let frame = match events.next().await {
                Some(Ok(ReadResponse { event: Some(event) })) => match printer.event(&event) {
                    Some(frame) => frame,
                    None => continue,
                },
                Some(Ok(ReadResponse { event: None })) => continue,
                Some(Err(status)) => return Some((refused(&status), None)),
                None if stopping.is_cancelled() => return Some((error(STOPPING), None)),
                None => return Some((Bytes::from_static(DONE), None)),
            };
            return Some((frame, Some((events, printer, stopping))));
        }
    });
    Body::from_stream(stream::iter(note).chain(printed).map(Ok::<_, std::convert::Infallible>))
}

/// A line that clients skip and people read.
pub(crate) fn comment(text: &str) -> Bytes {
    Bytes::from(format!(": {}\n\n", text.replace(['\r', '\n'], " ")))
}

/// Counts what was delivered, for the `id` lines.
#[derive(Default)]
pub(crate) struct Printer {
    format: Format,
    records: u64,
    bytes: u64,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, ..Self::default() }
    }

    /// An event; none for what has no form here: the end of a settled read follows by itself.
    fn event(&mut self, event: &Event) -> Option<Bytes> {
        match event {
            Event::Batch(batch) => Some(self.batch(batch)),
            Event::Heartbeat(heartbeat) => Some(ping(heartbeat)),
            Event::Gap(Gap { requested_seq_num, earliest_seq_num }) => Some(comment(&format!(
                "gap: records {requested_seq_num} to {} were trimmed away",
                earliest_seq_num.saturating_sub(1)
            ))),
            Event::Settled(_) => None,
        }
    }

    /// The next records.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Bytes {
        self.records += batch.records.len() as u64;
        self.bytes += batch.records.iter().map(metered_bytes).sum::<usize>() as u64;
        let last = batch.records.last().map_or(0, |record| record.seq_num);

        let mut out = Vec::with_capacity(room(&batch.records));
        out.extend_from_slice(b"event: batch\nid: ");
        push_display(&mut out, format_args!("{last},{},{}", self.records, self.bytes));
        out.extend_from_slice(b"\ndata: ");
        push_batch(&mut out, self.format, &batch.records, batch.tail.as_ref());
        out.extend_from_slice(b"\n\n");
        Bytes::from(out)
    }
}

/// A sign of life.
pub(crate) fn ping(heartbeat: &Heartbeat) -> Bytes {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"event: ping\ndata: {\"timestamp\":");
    push_display(&mut out, heartbeat.timestamp_ms);
    push_tail(&mut out, heartbeat.tail.as_ref());
    out.extend_from_slice(b"}\n\n");
    Bytes::from(out)
}

/// A credential that ends while the stream is open is no error of the stream: clients that are told of one try again with the
/// same token and give up when that is refused. Those that meet a plain end subscribe again, and get a new token for it.
fn refused(status: &Status) -> Bytes {
    match reason(status) {
        ErrorReason::Unauthenticated => comment(public_text(status, ErrorReason::Unauthenticated)),
        reason => error(public_text(status, reason)),
    }
}

/// What went wrong; clients connect again.
pub(crate) fn error(text: &str) -> Bytes {
    // A line break would end the event's data.
    Bytes::from(format!("event: error\ndata: {}\n\n", text.replace(['\r', '\n'], " ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_proto::v1::{Header, Position, Record};
    use proptest::{collection::vec, prelude::*};
    use serde_json::Value;

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let header = (bytes(), bytes()).prop_map(|(name, value)| Header { name, value });
        (any::<u64>(), any::<i64>(), vec(header, 0..4), bytes())
            .prop_map(|(seq_num, timestamp_ms, headers, body)| Record { seq_num, timestamp_ms, headers, body })
    }

    fn lossy(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    proptest! {
        #[test]
        fn a_batch_is_three_lines_of_valid_json_that_reads_back(records in vec(record(), 1..8)) {
            let tail = Some(Position { seq_num: 9, timestamp_ms: 5 });
            let frame = Printer::default().batch(&RecordBatch { records: records.clone(), tail });
            let text = std::str::from_utf8(&frame).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 5);
            prop_assert_eq!(lines[0], "event: batch");
            let expected = format!("id: {},{},", records.last().unwrap().seq_num, records.len());
            prop_assert!(lines[1].starts_with(&expected));
            prop_assert!(lines[3].is_empty() && lines[4].is_empty());
            let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(&data["tail"]["seq_num"], 9);
            for (record, printed) in records.iter().zip(data["records"].as_array().unwrap()) {
                prop_assert_eq!(&printed["seq_num"], record.seq_num);
                prop_assert_eq!(&printed["timestamp"], record.timestamp_ms);
                prop_assert_eq!(printed.get("body").is_none(), record.body.is_empty());
                prop_assert_eq!(printed["body"].as_str().unwrap_or_default(), lossy(&record.body));
                let headers = printed.get("headers").map(|h| h.as_array().unwrap().clone()).unwrap_or_default();
                prop_assert_eq!(headers.len(), record.headers.len());
                for (header, pair) in record.headers.iter().zip(headers) {
                    prop_assert_eq!(pair, serde_json::json!([lossy(&header.name), lossy(&header.value)]));
                }
            }
        }
    }

    #[test]
    fn the_frames_of_the_contract() {
        let header = Header { name: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        let record =
            Record { seq_num: 12, timestamp_ms: 7, headers: vec![header], body: Bytes::from_static(b"{\"a\":1}") };
        let mut printer = Printer::default();
        let tail = Some(Position { seq_num: 14, timestamp_ms: 8 });
        let frame = printer.batch(&RecordBatch { records: vec![record.clone()], tail });
        assert_eq!(
            frame,
            "event: batch\nid: 12,1,19\ndata: {\"records\":[{\"seq_num\":12,\"timestamp\":7,\"body\":\"{\\\"a\\\":1}\",\
             \"headers\":[[\"k\",\"v\"]]}],\"tail\":{\"seq_num\":14,\"timestamp\":8}}\n\n"
        );
        let bare = Record { seq_num: 13, headers: vec![], body: Bytes::new(), ..record };
        let frame = printer.batch(&RecordBatch { records: vec![bare], tail: None });
        assert_eq!(frame, "event: batch\nid: 13,2,27\ndata: {\"records\":[{\"seq_num\":13,\"timestamp\":7}]}\n\n");
        let frame = ping(&Heartbeat { timestamp_ms: 1, tail: Some(Position { seq_num: 0, timestamp_ms: 0 }) });
        assert_eq!(frame, "event: ping\ndata: {\"timestamp\":1,\"tail\":{\"seq_num\":0,\"timestamp\":0}}\n\n");
        assert_eq!(error("a\nb"), "event: error\ndata: a b\n\n");
        assert_eq!(comment("x"), ": x\n\n");
    }
}
