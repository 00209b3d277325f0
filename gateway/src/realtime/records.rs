//! `GET …/{io}/records`: everything after a number, at once, without waiting.

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use continuo_proto::{
    Api,
    v1::{ListRecordsRequest, ListRecordsResponse, Record},
};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use tonic::Status;

use crate::{
    Gateway,
    auth::Caller,
    error::{Failure, Route},
    json::{self, Entries, push_display, push_string},
    paths::Params,
    query::{self, Query},
    record_json::{Format, push_headers},
};

pub(crate) async fn records<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    query: Query,
) -> Result<Response, Failure> {
    let channel = params.channel()?;
    let after_seq_num = query.one("afterEventId").map(cursor).transpose()?;
    let request = caller.request(ListRecordsRequest { channel: Some(channel), after_seq_num });
    let refused = |status: Status| Failure::of(&status, Route::ReadChannel);
    let mut batches = Box::pin(gateway.api.list_records(request).await.map_err(refused)?.into_inner().fuse());
    // The first batch is awaited: until then a failure can still be told with a status.
    let first = batches.next().await.transpose().map_err(refused)?;
    Ok(json::bytes_response(StatusCode::OK, Body::from_stream(print(first, batches))))
}

fn cursor(text: &str) -> Result<u64, Failure> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(query::issue("invalid_string", "afterEventId", "Invalid"));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// `{"records":[…]}`, piece by piece. A failure in between breaks the connection off: an answer that looks complete and is
/// not would cost a run its input.
fn print<S>(first: Option<ListRecordsResponse>, batches: S) -> impl Stream<Item = Result<Bytes, Status>>
where
    S: Stream<Item = Result<ListRecordsResponse, Status>>,
{
    let mut any = false;
    let printed = stream::iter(first.map(Ok)).chain(batches).map(move |batch| {
        let mut out = Vec::new();
        for record in &batch?.records {
            if std::mem::replace(&mut any, true) {
                out.push(b',');
            }
            push_record(&mut out, record);
        }
        Ok(Bytes::from(out))
    });
    let piece = |text: &'static str| stream::iter([Ok(Bytes::from_static(text.as_bytes()))]);
    piece("{\"records\":[").chain(printed).chain(piece("]}"))
}

fn push_record(out: &mut Vec<u8>, record: &Record) {
    let body = std::str::from_utf8(&record.body).unwrap_or_default();
    let envelope = Entries::parse(body);
    let data = envelope.as_ref().and_then(|envelope| envelope.get("data"));
    // Without `data` it is not the envelope, and then neither is its `id`.
    let id = data.and_then(|_| envelope.as_ref()?.get("id")).filter(|id| id.get().starts_with('"'));
    out.extend_from_slice(b"{\"data\":");
    out.extend_from_slice(data.map_or("\"\"", |data| data.get()).as_bytes());
    out.extend_from_slice(b",\"id\":");
    match id {
        Some(id) => out.extend_from_slice(id.get().as_bytes()),
        None => push_string(out, ""),
    }
    out.extend_from_slice(b",\"seqNum\":");
    push_display(out, record.seq_num);
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        push_headers(out, Format::Raw, &record.headers);
    }
    out.push(b'}');
}
