//! The domain's error as a status: the only place that builds one, and the one place that logs the private half.

use continuo_domain::{Error, Reason, Violation};
use continuo_proto::ERROR_DOMAIN;
use continuo_proto::v1::ErrorReason;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use tracing::error;

const REASON_PREFIX: &str = "ERROR_REASON_";
// A status travels in headers, which clients take up to 16 KiB of; texts of callers come back in it.
const VIOLATIONS_MAX: usize = 20;
const VIOLATION_BYTES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 1_000;

/// The status of an error: canonical code, `ErrorInfo`, `BadRequest` for violations, `RetryInfo` where retrying can help.
pub fn of_error(mut error: Error) -> Status {
    if let Error::InvalidArgument(violations) = &mut error {
        violations.truncate(VIOLATIONS_MAX);
    }
    let reason = error.reason();
    if let Some(cause) = error.cause() {
        error!(reason = reason_name(reason), cause = cause.for_log(), "{error}");
    }
    let mut details = ErrorDetails::with_error_info(reason_name(reason), ERROR_DOMAIN, metadata(&error));
    if let Error::InvalidArgument(violations) = &error {
        details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
    }
    if let Some(after_ms) = error.retry_after_ms() {
        details.set_retry_info(Some(Duration::from_millis(after_ms)));
    }
    Status::with_error_details(code(reason), shortened(error.to_string(), TEXT_BYTES_MAX), details)
}

/// The answer to a gRPC request for a method that does not exist.
pub fn unimplemented_response() -> http::Response<tonic::body::Body> {
    Status::unimplemented("no such method").into_http()
}

/// The answer to a call whose `grpc-timeout` has passed.
pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline given by the caller has passed")
}

fn reason_name(reason: Reason) -> &'static str {
    let name = wire_reason(reason).as_str_name();
    name.strip_prefix(REASON_PREFIX).unwrap_or(name)
}

fn field_violation(violation: &Violation) -> FieldViolation {
    let short = |text: &String| shortened(text.clone(), VIOLATION_BYTES_MAX);
    FieldViolation::new(short(&violation.field), short(&violation.problem))
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let side_effects = if error.had_no_side_effects() { "none" } else { "unknown" };
    let own = own_metadata(error).into_iter();
    let all = own.chain([("side_effects", side_effects.to_owned())]);
    all.map(|(key, value)| (key.to_owned(), shortened(value, TEXT_BYTES_MAX))).collect()
}

fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// What error_reason.proto promises beside the reason.
fn own_metadata(error: &Error) -> Option<(&'static str, String)> {
    match error {
        Error::ScopesExceedKey(denied) => Some(("denied_scopes", denied.join(" "))),
        Error::ConditionNeedsSecretKey => Some(("needs", "secret_key".to_owned())),
        Error::SessionClosed { closed_reason } => closed_reason.clone().map(|reason| ("closed_reason", reason)),
        Error::RecordTooLarge { metered_bytes, limit_bytes: _ } => Some(("metered_bytes", metered_bytes.to_string())),
        Error::SeqNumMismatch { tail_seq_num } | Error::PastTail { tail_seq_num } => {
            Some(("tail_seq_num", tail_seq_num.to_string()))
        }
        Error::Fenced { fencing_token } => Some(("fencing_token", fencing_token.clone())),
        Error::PartIdReused { seq_num } => Some(("seq_num", seq_num.to_string())),
        Error::StaleSnapshot { snapshot } => Some(("snapshot", snapshot.to_string())),
        Error::RunNotReady { status } => Some(("status", (*status).to_owned())),
        Error::BlobTooLarge { limit_bytes } => Some(("limit_bytes", limit_bytes.to_string())),
        Error::InvalidArgument(_)
        | Error::ExternalIdReserved(_)
        | Error::Unauthenticated(_)
        | Error::PermissionDenied
        | Error::OutNeedsSecretKey
        | Error::InNeedsSecretKey
        | Error::SessionNotFound
        | Error::SessionExpired
        | Error::SessionAlreadyClosed
        | Error::SessionAlreadyExpired
        | Error::ExternalIdTaken
        | Error::RunNotFound
        | Error::TaskNotFound
        | Error::RunNotClaimed
        | Error::BootBackoff { .. }
        | Error::IndexBehind
        | Error::WaitpointNotFound
        | Error::BlobNotFound
        | Error::TranscriptUnreadable(_)
        | Error::LimitExceeded { .. }
        | Error::Unavailable(_)
        | Error::OutcomeUnknown(_)
        | Error::Stopping
        | Error::Damaged(_)
        | Error::Internal(_) => None,
    }
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument | Reason::ExternalIdReserved | Reason::RecordTooLarge | Reason::BlobTooLarge => {
            Code::InvalidArgument
        }
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::PermissionDenied | Reason::ScopesExceedKey | Reason::OutNeedsSecretKey | Reason::InNeedsSecretKey => {
            Code::PermissionDenied
        }
        Reason::SessionNotFound
        | Reason::RunNotFound
        | Reason::TaskNotFound
        | Reason::WaitpointNotFound
        | Reason::BlobNotFound => Code::NotFound,
        Reason::SessionClosed | Reason::SessionExpired | Reason::RunNotReady | Reason::TranscriptUnreadable => {
            Code::FailedPrecondition
        }
        Reason::SessionAlreadyClosed
        | Reason::SessionAlreadyExpired
        | Reason::ExternalIdTaken
        | Reason::PartIdReused => Code::AlreadyExists,
        Reason::SeqNumMismatch | Reason::Fenced | Reason::StaleSnapshot => Code::Aborted,
        Reason::PastTail => Code::OutOfRange,
        Reason::LimitExceeded => Code::ResourceExhausted,
        Reason::RunNotClaimed
        | Reason::BootBackoff
        | Reason::IndexBehind
        | Reason::BackendUnavailable
        | Reason::ServerStopping => Code::Unavailable,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::DataLoss => Code::DataLoss,
        Reason::Internal => Code::Internal,
    }
}

fn wire_reason(reason: Reason) -> ErrorReason {
    match reason {
        Reason::InvalidArgument => ErrorReason::InvalidArgument,
        Reason::ExternalIdReserved => ErrorReason::ExternalIdReserved,
        Reason::Unauthenticated => ErrorReason::Unauthenticated,
        Reason::PermissionDenied => ErrorReason::PermissionDenied,
        Reason::ScopesExceedKey => ErrorReason::ScopesExceedKey,
        Reason::OutNeedsSecretKey => ErrorReason::OutNeedsSecretKey,
        Reason::InNeedsSecretKey => ErrorReason::InNeedsSecretKey,
        Reason::SessionNotFound => ErrorReason::SessionNotFound,
        Reason::SessionClosed => ErrorReason::SessionClosed,
        Reason::SessionExpired => ErrorReason::SessionExpired,
        Reason::SessionAlreadyClosed => ErrorReason::SessionAlreadyClosed,
        Reason::SessionAlreadyExpired => ErrorReason::SessionAlreadyExpired,
        Reason::ExternalIdTaken => ErrorReason::ExternalIdTaken,
        Reason::RecordTooLarge => ErrorReason::RecordTooLarge,
        Reason::SeqNumMismatch => ErrorReason::SeqNumMismatch,
        Reason::Fenced => ErrorReason::Fenced,
        Reason::PartIdReused => ErrorReason::PartIdReused,
        Reason::PastTail => ErrorReason::PastTail,
        Reason::RunNotFound => ErrorReason::RunNotFound,
        Reason::StaleSnapshot => ErrorReason::StaleSnapshot,
        Reason::RunNotReady => ErrorReason::RunNotReady,
        Reason::TaskNotFound => ErrorReason::TaskNotFound,
        Reason::RunNotClaimed => ErrorReason::RunNotClaimed,
        Reason::BootBackoff => ErrorReason::BootBackoff,
        Reason::IndexBehind => ErrorReason::IndexBehind,
        Reason::WaitpointNotFound => ErrorReason::WaitpointNotFound,
        Reason::BlobNotFound => ErrorReason::BlobNotFound,
        Reason::BlobTooLarge => ErrorReason::BlobTooLarge,
        Reason::TranscriptUnreadable => ErrorReason::TranscriptUnreadable,
        Reason::LimitExceeded => ErrorReason::LimitExceeded,
        Reason::BackendUnavailable => ErrorReason::BackendUnavailable,
        Reason::OutcomeUnknown => ErrorReason::OutcomeUnknown,
        Reason::ServerStopping => ErrorReason::ServerStopping,
        Reason::DataLoss => ErrorReason::DataLoss,
        Reason::Internal => ErrorReason::Internal,
    }
}
