//! The HTTP face of the server: what unmodified Trigger.dev SDKs and browsers speak, translated onto the generated service
//! traits. Nothing is decided here that gRPC does not decide; a call carries the caller's own token and the services judge
//! it. Only `continuo-proto` is known to this crate, so the services may be in this process or behind clients.
//!
//! The console ([`console()`]) is a page beside it, made of files.
//!
//! The stream API under `/v1` (`streams`) has its own forms of everything, errors too.
//!
//! A request goes: `paths` (which handler) → `auth` (who) → `body` (how much) → `validate` and `query` (what) → the service
//! → `json` or `sse`; refused anywhere on the way it ends in `error`.

mod auth;
mod base_url;
mod blobs;
mod body;
mod console;
mod cors;
mod error;
mod fields;
mod json;
mod openapi;
mod paths;
mod query;
mod realtime;
mod record_json;
mod rest;
mod sse;
mod streams;
mod time;
pub mod upstream;
mod validate;

pub use console::console;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post, put},
};
use continuo_proto::{Api, v1::admin_service_server::AdminService};
use http::{HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Failure,
    realtime::{append, initialize, read, records},
    rest::{metadata, personal, presign, replay, runs, sessions, tokens, transcript, trigger, waitpoints, waits},
};

/// What the gateway has to be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Under which address clients reach this server, if it differs from the `Host` they send.
    pub public_base_url: Option<String>,
    /// Do clients reach it over TLS, so that its own URLs begin with https?
    pub is_tls: bool,
    /// Lets public tokens create sessions, as far as their scopes allow. Otherwise such a token is no key here.
    pub create_allow_jwt: bool,
    /// What clients are told when they ask to write a channel directly.
    pub direct_writes: DirectWrites,
    /// Ends open event streams and append sessions, in a way that makes clients reconnect.
    pub stopping: CancellationToken,
}

/// How the clients of the stream API are asked to behave.
#[derive(Clone, Debug)]
pub struct DirectWrites {
    /// How long they gather records before they send, in milliseconds.
    pub flush_interval_ms: u32,
    /// How often they try again.
    pub max_retries: u32,
}

impl Default for DirectWrites {
    fn default() -> Self {
        Self { flush_interval_ms: 10, max_retries: 10 }
    }
}

#[derive(Clone)]
struct Gateway<A> {
    api: A,
    options: Arc<Options>,
}

/// The routes. They leave the fallback free, so that they can be merged with others; give it to [`not_found`] then.
///
/// `admin` serves the routes of the personal access token; no other route reaches it.
pub fn router<A: Api, O: AdminService + Clone>(api: A, admin: O, options: Options) -> Router {
    let options = Arc::new(options);
    let mut router = Router::new()
        .route(paths::SESSIONS, post(sessions::create::<A>).get(sessions::list::<A>))
        .route(paths::SESSION, get(sessions::get::<A>).patch(sessions::update::<A>).delete(sessions::delete::<A>))
        .route(paths::SESSION_CLOSE, post(sessions::close::<A>))
        .route(paths::SESSION_END_AND_CONTINUE, post(sessions::end_and_continue::<A>))
        .route(paths::SESSION_RUNS, get(sessions::runs::<A>))
        .route(paths::SESSION_SNAPSHOT_URL, put(presign::put_snapshot::<A>).get(presign::get_snapshot::<A>))
        .route(paths::SESSION_TRANSCRIPT, get(transcript::get::<A>))
        .route(paths::PACKET_PUT, put(presign::put_packet::<A>))
        .route(paths::PACKET_GET, get(presign::get_packet::<A>))
        .route(paths::BLOB, put(blobs::put::<A>).get(blobs::get::<A>))
        .route(paths::RUNS, get(runs::list::<A>))
        .route(paths::RUN, get(runs::get::<A>))
        .route(paths::RUN_CANCEL, post(runs::cancel::<A>))
        .route(paths::RUN_RESCHEDULE, post(runs::reschedule::<A>))
        .route(paths::RUN_REPLAY, post(replay::replay::<A>))
        .route(paths::RUN_METADATA, get(metadata::get::<A>).put(metadata::put::<A>))
        .route(paths::RUN_TAGS, post(runs::add_tags::<A>))
        .route(paths::RUN_PACKET, get(presign::get_run_packet::<A>))
        .route(paths::RUN_WAIT_CHANNEL, post(waits::on_channel::<A>))
        .route(paths::RUN_WAIT_TOKEN, post(waits::on_token::<A>))
        .route(paths::RUN_WAIT_DURATION, post(waits::for_duration::<A>))
        .route(paths::TASK_TRIGGER, post(trigger::trigger::<A>))
        .route(paths::WAITPOINTS, post(waitpoints::create::<A>).get(waitpoints::list::<A>))
        .route(paths::WAITPOINT, get(waitpoints::get::<A>))
        .route(paths::WAITPOINT_COMPLETE, post(waitpoints::complete::<A>))
        .route(paths::WAITPOINT_CALLBACK, post(waitpoints::callback::<A>))
        .route(paths::CLAIMS, post(tokens::claims::<A>))
        .route(paths::PUBLIC_TOKENS, post(tokens::create_public::<A>));
    for path in paths::CHANNELS {
        router = router.route(path, channel::<A>());
    }
    for path in paths::APPENDS {
        router = router.route(path, post(append::append::<A>));
    }
    for path in paths::RECORDS {
        router = router.route(path, get(records::records::<A>));
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .merge(streams::routes())
        .with_state(Gateway { api, options: options.clone() })
        .merge(personal::routes().with_state(Gateway { api: admin, options }))
        .merge(Router::new().route(paths::OPENAPI, get(openapi::get)).method_not_allowed_fallback(method_not_allowed))
        .layer(middleware::from_fn(cors::middleware))
}

fn channel<A: Api>() -> MethodRouter<Gateway<A>> {
    get(read::subscribe::<A>).head(read::probe::<A>).merge(put(initialize::initialize::<A>))
}

async fn method_not_allowed() -> Failure {
    Failure::error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

/// The answer for every path nobody provides: a redirect if only a trailing slash is too many, else a 404 that names what
/// was asked for.
pub async fn not_found(request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return cors::preflight(request.headers());
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    match without_trailing_slash(&request) {
        Some(location) => cors::allow(origin, (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)])),
        None => {
            let asked: String = request.uri().path().chars().take(200).collect();
            let text = format!("{} {asked} is not provided by this server", request.method());
            cors::allow(origin, Failure::error(StatusCode::NOT_FOUND, text).into_response())
        }
    }
}

/// Only within this server: a path that begins with two slashes would name another one.
fn without_trailing_slash(request: &Request) -> Option<HeaderValue> {
    let path = request.uri().path();
    let shorter = path.strip_suffix('/').filter(|path| path.len() > 1 && !path.starts_with("//"))?;
    let location = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    HeaderValue::from_str(&location).ok()
}
