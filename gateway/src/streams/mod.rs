//! The stream API: channels written and read directly, in the protocol of S2 streams (s2.dev), which the clients of
//! `PUT /realtime/…` are sent to. A stream is a channel, its name is [`name`]'s to read; it comes into being with its
//! session, and only records are served here.
//!
//! What a caller may do is judged by the services, call by call, for whatever token they accept. Times are those of arrival:
//! a timestamp that a writer sends along is ignored. Retries can append twice, as the protocol has no name for a record; the
//! envelope's `id` is what readers know a repeat by.

mod append;
mod encoding;
mod extent;
mod frame;
mod json;
mod message;
mod name;
mod read;
mod refusal;
mod session;
mod tail;

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get},
};
use continuo_proto::{Api, v1::ChannelRef};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use prost::Message;

use self::refusal::Refusal;
use crate::{
    Gateway,
    auth::Caller,
    paths::{self, Params},
};

/// The one basin there is. Clients want 8 to 48 characters.
pub(crate) const BASIN: &str = "continuo";

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";
const FRAMES: &str = "s2s/proto";
const EVENTS: &str = "text/event-stream";

/// The routes below `/v1`, all of them.
pub(crate) fn routes<A: Api>() -> Router<Gateway<A>> {
    let refuse_others = |methods: MethodRouter<Gateway<A>>| methods.fallback(method_not_allowed);
    Router::new()
        .route(paths::STREAM_RECORDS, refuse_others(get(read::read::<A>).post(append::append::<A>)))
        .route(paths::STREAM_TAIL, refuse_others(get(tail::tail::<A>)))
        .route(paths::STREAMS, any(not_found))
        .route(paths::STREAMS_REST, any(not_found))
}

/// A stream, and who wants something of it.
struct Stream {
    caller: Caller,
    channel: ChannelRef,
}

impl<A: Api> FromRequestParts<Gateway<A>> for Stream {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<A>) -> Result<Self, Refusal> {
        let caller = Caller::identify(&parts.headers, gateway).await?;
        if parts.headers.get("s2-basin").is_some_and(|basin| basin != BASIN) {
            let text = "No such basin; there is one, named continuo";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "basin_not_found", text));
        }
        let Ok(params) = Params::from_request_parts(parts, gateway).await;
        let name = params.decoded("stream").map_err(|problem| Refusal::bad("bad_path", problem))?;
        let channel = name::parse(&name).ok_or_else(Refusal::stream_not_found)?;
        Ok(Self { caller, channel })
    }
}

/// The media type that a header names first, in lower case and without its parameters.
fn media_type(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split([',', ';']).next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_protobuf(media_type: &str) -> bool {
    matches!(media_type, PROTOBUF | "application/x-protobuf")
}

/// An answer in one message.
fn protobuf(message: &impl Message) -> Response {
    with_type(PROTOBUF, message.encode_to_vec())
}

/// An answer that flows.
fn flowing(media_type: &'static str, body: axum::body::Body) -> Response {
    let mut response = with_type(media_type, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn with_type(media_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

async fn method_not_allowed() -> Refusal {
    let text = "Method not allowed; records are appended with POST and read with GET";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}

/// What else the protocol knows (basins, streams to be made or listed, tokens, metrics) has other ways here.
async fn not_found(request: Request) -> Response {
    let asked: String = request.uri().path().chars().take(200).collect();
    let text = format!(
        "{} {asked} is not provided by this server; there are POST and GET /v1/streams/{{stream}}/records and GET \
         /v1/streams/{{stream}}/records/tail, and a stream comes into being with its session",
        request.method()
    );
    Refusal::new(StatusCode::NOT_FOUND, "not_found", &text).into_response()
}
