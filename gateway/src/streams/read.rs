//! `GET …/records`: what stands in a stream, at once (JSON, protobuf) or as it comes (events, frames). Command records are
//! among it; positions that were trimmed away are passed over.

use std::{convert::Infallible, pin::Pin};

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use continuo_proto::{
    Api,
    v1::{ErrorReason, ReadRequest, RecordBatch, read_start::Start},
};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use tonic::Status;

use super::{
    EVENTS, FRAMES,
    extent::{self, Extent, Output},
    flowing, frame, is_protobuf,
    json::Format,
    media_type,
    message::ReadBatch,
    protobuf,
    refusal::Refusal,
    tail,
};
use crate::{Gateway, error, json, query::Query, record_json, sse};

type Outputs = Pin<Box<dyn Stream<Item = Result<Output, Refusal>> + Send>>;

pub(super) async fn read<A: Api>(
    State(gateway): State<Gateway<A>>,
    stream: super::Stream,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut start = extent::start(&query)?;
    let mut extent = Extent::parse(&query, &start)?;
    let accepted = media_type(&headers, header::ACCEPT);
    let format = Format::of(&headers)?;
    if media_type(&headers, header::CONTENT_TYPE) == FRAMES {
        return Ok(flowing(FRAMES, frames(open(&gateway, &stream, start, extent).await?)));
    }
    if accepted == EVENTS {
        if let Some([seq_num, count, bytes]) = last_event_id(&headers)? {
            start.start = Some(Start::SeqNum(seq_num.saturating_add(1)));
            extent = extent.after(count, bytes);
        }
        return Ok(flowing(EVENTS, events(open(&gateway, &stream, start, extent).await?, format)));
    }
    let batch = gather(open(&gateway, &stream, start, extent.in_one_piece()).await?).await?;
    if is_protobuf(&accepted) {
        return Ok(protobuf(&ReadBatch::from(batch)));
    }
    let mut out = Vec::with_capacity(record_json::room(&batch.records));
    record_json::push_batch(&mut out, format, &batch.records, batch.tail.as_ref());
    Ok(json::bytes_response(StatusCode::OK, out))
}

/// The read, begun: what is wrong from the start can still be told with a status.
async fn open<A: Api>(
    gateway: &Gateway<A>,
    stream: &super::Stream,
    start: continuo_proto::v1::ReadStart,
    extent: Extent,
) -> Result<Outputs, Refusal> {
    let request = ReadRequest {
        channel: Some(stream.channel.clone()),
        start: Some(start),
        heartbeat_ms: sse::HEARTBEAT.as_millis() as u32,
        ..Default::default()
    };
    let read = match gateway.api.read(stream.caller.request(request)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Err(refused(gateway, stream, &status).await),
    };
    let events = Box::pin(read.take_until(gateway.options.stopping.clone().cancelled_owned()));
    // Fused: a read that ends before it begins is asked once more by whoever prints it.
    let mut outputs = Box::pin(extent::bounded(events, extent).fuse());
    match outputs.next().await {
        Some(Ok(Output::Unwritten(tail))) => Err(Refusal::unwritten(tail)),
        Some(Err(refusal)) => Err(refusal),
        first => Ok(Box::pin(stream::iter(first).chain(outputs))),
    }
}

/// Whoever reads past the tail is told where it is.
async fn refused<A: Api>(gateway: &Gateway<A>, stream: &super::Stream, status: &Status) -> Refusal {
    if error::reason(status) == ErrorReason::PastTail
        && let Ok(tail) = tail::position(gateway, stream).await
    {
        return Refusal::unwritten(tail);
    }
    Refusal::of(status)
}

/// Everything up to the tail; if that is nothing, the first that comes.
async fn gather(mut outputs: Outputs) -> Result<RecordBatch, Refusal> {
    let mut whole = RecordBatch::default();
    let mut is_waiting = false;
    while let Some(output) = outputs.next().await {
        match output? {
            Output::Batch(batch) => {
                whole.records.extend(batch.records);
                whole.tail = batch.tail;
                if is_waiting {
                    break;
                }
            }
            Output::CaughtUp(_) if !whole.records.is_empty() => break,
            Output::CaughtUp(_) | Output::Unwritten(_) => is_waiting = true,
        }
    }
    Ok(whole)
}

fn frames(outputs: Outputs) -> Body {
    let print = |output: Result<Output, Refusal>| {
        let batch = match output? {
            Output::Batch(batch) => batch.into(),
            Output::CaughtUp(heartbeat) => ReadBatch { records: Vec::new(), tail: heartbeat.tail.map(Into::into) },
            Output::Unwritten(tail) => ReadBatch { records: Vec::new(), tail: Some(tail.into()) },
        };
        frame::message(&batch).ok_or_else(|| {
            let text = "A record has more headers than go into a frame; read it as JSON or as events";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", text)
        })
    };
    Body::from_stream(until_refused(outputs.map(print), |refusal| refusal.frame()))
}

fn events(outputs: Outputs, format: Format) -> Body {
    let mut printer = sse::Printer::new(format);
    let print = move |output: Result<Output, Refusal>| {
        Ok(match output? {
            Output::Batch(batch) => printer.batch(&batch),
            Output::CaughtUp(heartbeat) => sse::ping(&heartbeat),
            Output::Unwritten(_) => Bytes::new(),
        })
    };
    let done = stream::once(async { Ok(Bytes::from_static(sse::DONE)) });
    Body::from_stream(until_refused(outputs.map(print).chain(done), |refusal| sse::error(refusal.text())))
}

/// Everything up to the first refusal, which is the last word.
fn until_refused(
    printed: impl Stream<Item = Result<Bytes, Refusal>> + Send,
    refuse: impl Fn(&Refusal) -> Bytes + Send,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold(Some((Box::pin(printed), refuse)), |state| async {
        let (mut printed, refuse) = state?;
        match printed.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some((printed, refuse)))),
            Err(refusal) => Some((Ok(refuse(&refusal)), None)),
        }
    })
}

/// What an event stream had delivered when it broke off: the last number, and how many records and bytes in all.
fn last_event_id(headers: &HeaderMap) -> Result<Option<[u64; 3]>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let numbers: Result<Vec<u64>, _> =
        value.to_str().unwrap_or_default().split(',').map(|n| n.trim().parse()).collect();
    match numbers.ok().and_then(|numbers| numbers.try_into().ok()) {
        Some(numbers) => Ok(Some(numbers)),
        None => Err(Refusal::bad("bad_header", "Last-Event-ID is not the id of an event: number,records,bytes")),
    }
}
