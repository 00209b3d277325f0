//! What a failed call looks like over HTTP: one table from the services' reasons to status, body and headers. The texts
//! and shapes are those that today's clients compare against.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use continuo_proto::v1::ErrorReason;
use http::{HeaderName, HeaderValue, StatusCode, header};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{fields, json as out, time, validate::Issue};

/// When to ask again where nobody said: the way to the services is cut, which is seldom for long.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The route a call was made for. Clients expect different words for the same condition on different routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /sessions`.
    CreateSession,
    /// Lists; the parameter that held the page token.
    List(&'static str),
    /// Reads of one session.
    ReadSession,
    /// PATCH, close, DELETE.
    ChangeSession,
    /// The hand-over from run to run.
    EndAndContinue,
    /// PUT of a channel.
    Initialize,
    /// SSE and records.
    ReadChannel,
    /// Append to the reserved `.in`.
    AppendIn,
    /// Append to `.out` and to named channels.
    AppendOther,
    /// A run waits on a channel.
    WaitOnChannel,
    /// A run suspends on a waitpoint.
    Suspend,
    /// `GET /runs/{run}`.
    ReadRun,
    /// Cancel.
    CancelRun,
    /// Metadata and tags.
    ChangeRun,
    /// A task is triggered.
    Trigger,
    /// A waitpoint is made.
    CreateWaitpoint,
    /// A waitpoint is read.
    ReadWaitpoint,
    /// A waitpoint is completed.
    CompleteWaitpoint,
    /// A signed URL to store a session's snapshot or a packet.
    PresignPut,
    /// A signed URL to fetch one.
    PresignGet,
    /// The conversation.
    Transcript,
    /// A signed URL itself.
    Blob,
    /// Authentication and tokens.
    Tokens,
}

impl Route {
    fn is_append(self) -> bool {
        matches!(self, Self::AppendIn | Self::AppendOther)
    }

    /// What is said of a failure that is our own fault.
    fn internal_text(self) -> &'static str {
        match self {
            Self::AppendIn | Self::AppendOther => "Something went wrong, please try again.",
            Self::CreateSession | Self::WaitOnChannel | Self::Trigger | Self::CreateWaitpoint => "Something went wrong",
            Self::EndAndContinue => "Failed to swap session run",
            Self::Suspend => "Failed to wait for waitpoint token",
            Self::PresignPut | Self::PresignGet => "Failed to generate presigned URL: Internal Server Error",
            Self::Transcript => "Failed to read transcript",
            Self::List(_)
            | Self::ReadSession
            | Self::ChangeSession
            | Self::Initialize
            | Self::ReadChannel
            | Self::ReadRun
            | Self::CancelRun
            | Self::ChangeRun
            | Self::ReadWaitpoint
            | Self::CompleteWaitpoint
            | Self::Blob
            | Self::Tokens => "Internal Server Error",
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    body: Text,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
enum Text {
    /// Keys in the order in which they are documented.
    Json(IndexMap<&'static str, Box<RawValue>>),
    Plain(&'static str),
}

impl Failure {
    /// `{"error": …}`.
    pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self::json(status).with("error", text.into())
    }

    /// `{"ok": false, "error": …}`, the form of the append routes.
    pub(crate) fn not_ok(status: StatusCode, text: impl Into<String>) -> Self {
        Self::json(status).with("ok", false).with("error", text.into())
    }

    fn json(status: StatusCode) -> Self {
        Self { status, body: Text::Json(IndexMap::new()), headers: Vec::new() }
    }

    /// A body without JSON, where today's servers send one.
    pub(crate) fn plain(status: StatusCode, text: &'static str) -> Self {
        Self { status, body: Text::Plain(text), headers: Vec::new() }
    }

    pub(crate) fn missing_api_key() -> Self {
        Self::error(StatusCode::UNAUTHORIZED, "Invalid or Missing API key")
    }

    pub(crate) fn invalid_api_key() -> Self {
        Self::error(StatusCode::UNAUTHORIZED, "Invalid API key")
    }

    /// A signed URL that does not count. Says no more, as the stores that clients know.
    pub(crate) fn invalid_url() -> Self {
        Self::error(StatusCode::FORBIDDEN, "The URL is invalid or has expired")
    }

    pub(crate) fn too_large() -> Self {
        Self::error(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large")
    }

    pub(crate) fn too_slow() -> Self {
        Self::error(StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time")
    }

    /// The request asks for something that is not there, and that must not be left out quietly.
    pub(crate) fn unsupported(field: &str, problem: &str) -> Self {
        Self::error(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {problem}"))
    }

    /// A body that cannot be read at all.
    pub(crate) fn invalid_body(text: &'static str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn params(issues: Vec<Issue>) -> Self {
        Self::details("Params Error", &issues)
    }

    pub(crate) fn query(issues: Vec<Issue>) -> Self {
        Self::details("Query Error", &issues)
    }

    pub(crate) fn headers(issues: Vec<Issue>) -> Self {
        Self::details("Headers Error", &issues)
    }

    fn details(title: &str, issues: &[Issue]) -> Self {
        Self::error(StatusCode::BAD_REQUEST, title).with("details", issues)
    }

    /// A body with wrong fields.
    pub(crate) fn validation(issues: &[Issue]) -> Self {
        let lines: Vec<String> = issues.iter().map(Issue::line).collect();
        Self::error(StatusCode::BAD_REQUEST, format!("Validation error: {}", lines.join("; ")))
    }

    /// The same words under another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Asks the SDK to retry or not to, whatever the status says by itself.
    pub(crate) fn retry(mut self, should: bool) -> Self {
        self.headers.push((SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" })));
        self
    }

    fn header(mut self, name: HeaderName, number: i64) -> Self {
        self.headers.push((name, HeaderValue::from(number)));
        self
    }

    fn with<T: Serialize>(mut self, key: &'static str, value: T) -> Self {
        if let (Text::Json(body), Ok(value)) = (&mut self.body, to_raw_value(&value)) {
            body.insert(key, value);
        }
        self
    }

    /// The answer to a refused call.
    pub(crate) fn of(status: &Status, route: Route) -> Self {
        let failure = Self::from_table(reason(status), status, route);
        let is_unavailable = failure.status == StatusCode::SERVICE_UNAVAILABLE;
        let Some(delay) = retry_delay(status).or(is_unavailable.then_some(RETRY_AFTER)) else { return failure };
        let seconds = i64::try_from(delay.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let failure = failure.header(header::RETRY_AFTER, seconds);
        if failure.status != StatusCode::TOO_MANY_REQUESTS {
            return failure;
        }
        // The SDK waits until this moment, in milliseconds.
        let reset = time::now_ms().saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
        failure.header(LIMIT_REMAINING, 0).header(LIMIT_RESET, reset)
    }

    /// The table.
    fn from_table(reason: ErrorReason, status: &Status, route: Route) -> Self {
        use ErrorReason as R;
        let said = public_text(status, reason);
        let refuse = |code: StatusCode, text: &str| {
            if route.is_append() { Self::not_ok(code, text) } else { Self::error(code, text) }
        };
        let internal = || refuse(StatusCode::INTERNAL_SERVER_ERROR, route.internal_text());
        match reason {
            // Clients take any other answer for a transcript that is not there, and read the snapshot instead.
            R::Unspecified
            | R::Internal
            | R::DataLoss
            | R::OutcomeUnknown
            | R::BackendUnavailable
            | R::TranscriptUnreadable
                if route == Route::Transcript =>
            {
                Self::error(StatusCode::BAD_GATEWAY, route.internal_text())
            }
            R::Unauthenticated | R::PermissionDenied if route == Route::Blob => Self::invalid_url(),
            R::BackendUnavailable if matches!(route, Route::PresignPut | Route::PresignGet) => {
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, format!("Failed to generate presigned URL: {said}"))
            }
            R::BlobNotFound => Self::error(StatusCode::NOT_FOUND, "Not found").retry(false),
            R::BlobTooLarge => Self::too_large(),
            R::TranscriptUnreadable => internal(),
            R::Unspecified | R::Internal | R::DataLoss | R::OutcomeUnknown => internal(),
            R::InvalidArgument => fields::invalid(status, route),
            R::ExternalIdReserved => refuse(StatusCode::UNPROCESSABLE_ENTITY, said),
            R::Unauthenticated if said.is_empty() => Self::missing_api_key(),
            R::Unauthenticated => Self::error(StatusCode::UNAUTHORIZED, said),
            R::PermissionDenied => Self::error(StatusCode::FORBIDDEN, "Unauthorized")
                .with("code", "unauthorized")
                .with("param", "access_token")
                .with("type", "authorization"),
            R::ScopesExceedKey => {
                let denied = metadata(status, "denied_scopes").unwrap_or_default();
                Self::error(StatusCode::FORBIDDEN, "Requested scopes exceed the API key's access")
                    .with("code", "scopes_exceed_key_access")
                    .with("deniedScopes", denied.split_whitespace().collect::<Vec<_>>())
            }
            R::OutNeedsSecretKey if route == Route::Initialize => {
                Self::plain(StatusCode::FORBIDDEN, "Initializing the out channel requires secret key authentication")
            }
            R::OutNeedsSecretKey => {
                Self::not_ok(StatusCode::FORBIDDEN, "Appending to the out channel requires secret key authentication")
            }
            R::InNeedsSecretKey => {
                Self::not_ok(StatusCode::FORBIDDEN, "Reading the in channel requires secret key authentication")
            }
            R::SessionNotFound => Self::session_not_found(route),
            R::SessionClosed => Self::closed(status, route),
            R::SessionExpired => match route {
                Route::EndAndContinue => {
                    Self::error(StatusCode::BAD_REQUEST, "Cannot end-and-continue an expired session")
                }
                Route::Initialize => {
                    Self::plain(StatusCode::BAD_REQUEST, "Cannot initialize a channel on an expired session")
                }
                Route::WaitOnChannel => Self::error(StatusCode::UNPROCESSABLE_ENTITY, said),
                _append_or_other => refuse(StatusCode::BAD_REQUEST, "Cannot append to an expired session"),
            },
            R::SessionAlreadyClosed => Self::error(
                StatusCode::CONFLICT,
                "Session is closed; use a different externalId to create a new session",
            )
            .retry(false),
            R::SessionAlreadyExpired => Self::error(
                StatusCode::CONFLICT,
                "Session is expired; use a different externalId to create a new session",
            )
            .retry(false),
            R::ExternalIdTaken => {
                Self::error(StatusCode::CONFLICT, "A session with this externalId already exists in this environment")
                    .retry(false)
            }
            R::RecordTooLarge => refuse(StatusCode::PAYLOAD_TOO_LARGE, said),
            R::SeqNumMismatch => refuse(StatusCode::PRECONDITION_FAILED, said).with("code", "seq_num_mismatch"),
            R::Fenced => refuse(StatusCode::PRECONDITION_FAILED, said).with("code", "fenced"),
            R::PartIdReused => refuse(StatusCode::CONFLICT, said).with("code", "part_id_reused").retry(false),
            R::PastTail => refuse(StatusCode::RANGE_NOT_SATISFIABLE, said),
            R::RunNotFound => match route {
                Route::EndAndContinue => {
                    Self::error(StatusCode::NOT_FOUND, "callingRunId not found in this environment")
                }
                Route::ReadRun => Self::error(StatusCode::NOT_FOUND, "Not found").retry(true),
                Route::CancelRun => Self::error(StatusCode::NOT_FOUND, "Resource not found"),
                _others => Self::error(StatusCode::NOT_FOUND, "Run not found"),
            },
            R::StaleSnapshot => refuse(StatusCode::CONFLICT, said).retry(false),
            R::RunNotReady => refuse(StatusCode::UNPROCESSABLE_ENTITY, said),
            R::TaskNotFound if route == Route::Trigger => Self::error(StatusCode::NOT_FOUND, "Task not found"),
            R::TaskNotFound => refuse(StatusCode::UNPROCESSABLE_ENTITY, said),
            R::WaitpointNotFound if route == Route::ReadWaitpoint => {
                Self::error(StatusCode::NOT_FOUND, "Not found").retry(false)
            }
            R::WaitpointNotFound => Self::error(StatusCode::NOT_FOUND, "Waitpoint not found"),
            R::LimitExceeded => refuse(StatusCode::TOO_MANY_REQUESTS, said),
            R::RunNotClaimed | R::BootBackoff | R::IndexBehind | R::BackendUnavailable | R::ServerStopping => {
                refuse(StatusCode::SERVICE_UNAVAILABLE, said)
            }
        }
    }

    fn session_not_found(route: Route) -> Self {
        match route {
            Route::ReadSession | Route::ReadChannel | Route::PresignGet | Route::Transcript | Route::Blob => {
                Self::error(StatusCode::NOT_FOUND, "Not found").retry(false)
            }
            Route::EndAndContinue | Route::AppendIn | Route::AppendOther | Route::PresignPut => {
                Self::error(StatusCode::NOT_FOUND, "Resource not found")
            }
            Route::Initialize => Self::plain(StatusCode::NOT_FOUND, "Session not found"),
            Route::CreateSession
            | Route::List(_)
            | Route::ChangeSession
            | Route::WaitOnChannel
            | Route::Suspend
            | Route::ReadRun
            | Route::CancelRun
            | Route::ChangeRun
            | Route::Trigger
            | Route::CreateWaitpoint
            | Route::ReadWaitpoint
            | Route::CompleteWaitpoint
            | Route::Tokens => Self::error(StatusCode::NOT_FOUND, "Session not found"),
        }
    }

    /// The browser transport knows a closed conversation by 409 and `session_closed`; older clients and `.out` by 400.
    fn closed(status: &Status, route: Route) -> Self {
        const TEXT: &str = "Cannot append to a closed session";
        match route {
            Route::AppendIn => Self::not_ok(StatusCode::CONFLICT, TEXT)
                .with("code", "session_closed")
                .with("closedReason", metadata(status, "closed_reason"))
                .retry(false),
            Route::AppendOther => Self::not_ok(StatusCode::BAD_REQUEST, TEXT),
            Route::Initialize => {
                Self::plain(StatusCode::BAD_REQUEST, "Cannot initialize a channel on a closed session")
            }
            Route::EndAndContinue => Self::error(StatusCode::BAD_REQUEST, "Cannot end-and-continue a closed session"),
            Route::CreateSession
            | Route::List(_)
            | Route::ReadSession
            | Route::ChangeSession
            | Route::ReadChannel
            | Route::WaitOnChannel
            | Route::Suspend
            | Route::ReadRun
            | Route::CancelRun
            | Route::ChangeRun
            | Route::Trigger
            | Route::CreateWaitpoint
            | Route::ReadWaitpoint
            | Route::CompleteWaitpoint
            | Route::PresignPut
            | Route::PresignGet
            | Route::Transcript
            | Route::Blob
            | Route::Tokens => Self::error(StatusCode::UNPROCESSABLE_ENTITY, "Session is closed"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Text::Json(body) => out::response(self.status, &body),
            Text::Plain(text) => {
                let mut response = Response::new(Body::from(text));
                *response.status_mut() = self.status;
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                response
            }
        };
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Why a call was refused. A status without our details comes from the transport in between, whose code must do.
pub(crate) fn reason(status: &Status) -> ErrorReason {
    let info = status.get_details_error_info().filter(|info| info.domain == continuo_proto::ERROR_DOMAIN);
    if let Some(info) = info {
        let name = format!("ERROR_REASON_{}", info.reason);
        return ErrorReason::from_str_name(&name).unwrap_or(ErrorReason::Internal);
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorReason::InvalidArgument,
        Code::Unauthenticated => ErrorReason::Unauthenticated,
        Code::PermissionDenied => ErrorReason::PermissionDenied,
        Code::ResourceExhausted => ErrorReason::LimitExceeded,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorReason::BackendUnavailable,
        Code::DataLoss => ErrorReason::DataLoss,
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal => ErrorReason::Internal,
    }
}

/// What may be said of a refusal. Only a service's own words were written for the caller; the transport in between speaks
/// of addresses and internals.
pub(crate) fn public_text(status: &Status, reason: ErrorReason) -> &str {
    let is_ours = status.get_details_error_info().is_some_and(|info| info.domain == continuo_proto::ERROR_DOMAIN);
    match reason {
        ErrorReason::Internal | ErrorReason::Unspecified => "Internal Server Error",
        ErrorReason::Unauthenticated if !is_ours => "Invalid API key",
        ErrorReason::InvalidArgument if !is_ours => "Invalid request",
        ErrorReason::LimitExceeded if !is_ours => "Too many requests, please try again.",
        _worded_by_the_service if is_ours => status.message(),
        _transport => "Service unavailable, please try again.",
    }
}

/// When the service wants to be asked again, where it said so.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// What an error tells beside its reason.
pub(crate) fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.remove(key)
}
