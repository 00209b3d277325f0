//! The conversation of a session, in pages from its end.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{GetTranscriptRequest, GetTranscriptResponse},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Gateway,
    auth::KeyHolder,
    error::{Failure, Route},
    json,
    paths::Params,
    query::Query,
};

pub(crate) async fn get<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    params: Params,
    query: Query,
) -> Result<Response, Failure> {
    let session = params.session()?;
    let limit = query.whole("limit")?;
    let before = query.one("before").map(str::to_owned);
    let request = caller.request(GetTranscriptRequest { session, limit, before });
    let answer = gateway.api.get_transcript(request).await.map_err(|s| Failure::of(&s, Route::Transcript))?;
    Ok(json::response(StatusCode::OK, &Transcript::of(answer.get_ref())))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transcript<'a> {
    messages: Vec<&'a RawValue>,
    /// Today's clients expect the key, and nothing in it.
    state: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    cursors: Option<Cursors<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cursors<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    last_out_event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_in_event_id: Option<&'a str>,
}

impl<'a> Transcript<'a> {
    fn of(answer: &'a GetTranscriptResponse) -> Self {
        let (last_out_event_id, last_in_event_id) =
            (answer.last_out_event_id.as_deref(), answer.last_in_event_id.as_deref());
        let is_known = last_out_event_id.is_some() || last_in_event_id.is_some();
        Self {
            messages: answer.messages_json.iter().filter_map(|text| json::raw(text)).collect(),
            state: (),
            cursors: is_known.then_some(Cursors { last_out_event_id, last_in_event_id }),
            next_cursor: answer.next_cursor.as_deref(),
        }
    }
}
