//! What a refused call looks like in the stream API: a status with `{"code","message"}`, or with what a failed condition
//! wants to tell; as a response, or as the last frame of a streaming one. Clients retry by status and code.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use continuo_proto::v1::{ErrorReason, Position};
use http::{HeaderName, StatusCode, header};
use serde::Serialize;
use tonic::Status;

use super::{frame, message::StreamPosition};
use crate::{
    auth::Unknown,
    body::Unread,
    error::{self, RETRY_AFTER, metadata, public_text, retry_delay},
    json,
};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    body: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// `{"code","message"}`. The codes that clients know: `s2_api::v1::error::ErrorCode`.
    pub(super) fn new(status: StatusCode, code: &str, message: &str) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
        }
        Self::of_json(status, &Body { code, message })
    }

    fn of_json(status: StatusCode, body: &impl Serialize) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        // Texts and numbers: it cannot fail.
        Self { status, body: serde_json::to_string(body).unwrap_or_default(), retry_after }
    }

    /// A request that cannot be meant.
    pub(super) fn bad(code: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A request that is well-formed and cannot be granted.
    pub(super) fn invalid(message: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// A body over the cap.
    pub(super) fn too_large() -> Self {
        let text = "The request body is too large: an append holds at most 1000 records and 1 MiB of metered bytes";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", text)
    }

    /// No stream has, or can have, this name.
    pub(super) fn stream_not_found() -> Self {
        let text = "No such stream; PUT /realtime/v1/sessions/{session}/{in|out} names the stream of a channel";
        Self::new(StatusCode::NOT_FOUND, "stream_not_found", text)
    }

    /// The node is stopping. `server_draining` promises that nothing happened, `unavailable` leaves it open.
    pub(super) fn stopping(is_settled: bool) -> Self {
        let code = if is_settled { "server_draining" } else { "unavailable" };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "The server is stopping; connect again")
    }

    /// Nothing is there to be read yet, and no waiting was asked for.
    pub(super) fn unwritten(tail: Position) -> Self {
        #[derive(Serialize)]
        struct Body {
            tail: Numbers,
        }
        #[derive(Serialize)]
        struct Numbers {
            seq_num: u64,
            timestamp: u64,
        }
        let StreamPosition { seq_num, timestamp } = tail.into();
        Self::of_json(StatusCode::RANGE_NOT_SATISFIABLE, &Body { tail: Numbers { seq_num, timestamp } })
    }

    /// A call that the services refused.
    pub(super) fn of(status: &Status) -> Self {
        use ErrorReason as R;
        let reason = error::reason(status);
        let said = public_text(status, reason);
        let refusal = match reason {
            R::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, "authn", said),
            // The scopes are right, and what the append says beside its records takes a key.
            R::PermissionDenied if metadata(status, "needs").is_some() => {
                Self::new(StatusCode::FORBIDDEN, "permission_denied", said)
            }
            R::PermissionDenied | R::ScopesExceedKey => {
                Self::new(StatusCode::FORBIDDEN, "permission_denied", "The token does not cover this stream")
            }
            R::OutNeedsSecretKey | R::InNeedsSecretKey => Self::new(StatusCode::FORBIDDEN, "permission_denied", said),
            R::SessionNotFound => Self::stream_not_found(),
            R::SessionClosed => Self::new(StatusCode::CONFLICT, "session_closed", said),
            R::SessionExpired => Self::new(StatusCode::CONFLICT, "session_expired", said),
            R::InvalidArgument | R::ExternalIdReserved | R::RecordTooLarge => Self::invalid(said),
            R::SeqNumMismatch => Self::condition("seq_num_mismatch", &number(status, "tail_seq_num")),
            R::Fenced => {
                Self::condition("fencing_token_mismatch", &metadata(status, "fencing_token").unwrap_or_default())
            }
            R::PastTail => Self::unwritten(Position { seq_num: number(status, "tail_seq_num"), timestamp_ms: 0 }),
            R::LimitExceeded => Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", said),
            R::ServerStopping => Self::stopping(false),
            R::BackendUnavailable | R::RunNotClaimed | R::BootBackoff | R::IndexBehind => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", said)
            }
            R::OutcomeUnknown | R::DataLoss => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", said),
            R::PartIdReused | R::StaleSnapshot | R::RunNotReady => {
                Self::new(StatusCode::CONFLICT, "transaction_conflict", said)
            }
            R::Unspecified
            | R::Internal
            | R::SessionAlreadyClosed
            | R::SessionAlreadyExpired
            | R::ExternalIdTaken
            | R::RunNotFound
            | R::TaskNotFound
            | R::WaitpointNotFound
            | R::BlobNotFound
            | R::BlobTooLarge
            | R::TranscriptUnreadable => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "other", "Internal Server Error"),
        };
        Self { retry_after: retry_delay(status).or(refusal.retry_after), ..refusal }
    }

    /// The one key is what clients tell the two conditions apart by.
    fn condition(key: &str, actual: &impl Serialize) -> Self {
        Self::of_json(StatusCode::PRECONDITION_FAILED, &BTreeMap::from([(key, actual)]))
    }

    /// As the last frame of a streaming body.
    pub(super) fn frame(&self) -> Bytes {
        frame::terminal(self.status.as_u16(), &self.body)
    }

    /// What the body of the answer says.
    pub(super) fn text(&self) -> &str {
        &self.body
    }
}

impl From<Unknown> for Refusal {
    fn from(unknown: Unknown) -> Self {
        let authn = |text| Self::new(StatusCode::UNAUTHORIZED, "authn", text);
        match unknown {
            Unknown::Missing => authn("A bearer token is required"),
            Unknown::Unreadable => authn("The bearer token cannot be read"),
            Unknown::Refused(status) => Self::of(&status),
        }
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::too_large(),
            Unread::TooSlow => {
                let text = "The request body did not arrive in time";
                Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", text)
            }
            Unread::Cut => Self::bad("client_hangup", "The request body ended early"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json::bytes_response(self.status, Body::from(self.body));
        if let Some(delay) = self.retry_after {
            let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER_MS, milliseconds.into());
            response.headers_mut().insert(header::RETRY_AFTER, milliseconds.div_ceil(1_000).into());
        }
        response
    }
}

fn number(status: &Status, key: &str) -> u64 {
    metadata(status, key).and_then(|text| text.parse().ok()).unwrap_or_default()
}
