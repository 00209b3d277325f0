//! What S2's answers mean. Their texts are for the log only.

use continuo_domain::channel::{FencingToken, Position, SeqNum};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use s2_sdk::error::{AppendConditionFailed, AppendError, ErrorCode, ReadError, ReadSessionError, RequestError};
use s2_sdk::types::StreamPosition;

/// Why an append has no acknowledgement.
pub(crate) enum Refusal {
    /// This token is in force.
    Fenced(FencingToken),
    /// This number would have been given.
    Mismatch(SeqNum),
    /// There is no such stream, or basin, now.
    Missing,
    /// Nothing was written.
    Nothing(Cause),
    /// Perhaps something was, or will be.
    Unknown(Cause),
}

pub(crate) fn of_append(error: AppendError) -> Refusal {
    match &error {
        AppendError::ConditionFailed(AppendConditionFailed::FencingTokenMismatch(token)) => {
            match FencingToken::parse(token) {
                Ok(token) => Refusal::Fenced(token),
                Err(_) => Refusal::Nothing(Cause::new(error)),
            }
        }
        AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(seq_num)) => Refusal::Mismatch(*seq_num),
        AppendError::Request(request) if is_missing(request) => Refusal::Missing,
        _ if error.has_no_side_effects() => Refusal::Nothing(Cause::new(error)),
        _ => Refusal::Unknown(Cause::new(error)),
    }
}

pub(crate) fn code(error: &RequestError) -> Option<ErrorCode> {
    error.server_error()?.known_code()
}

/// Also while a deletion goes on: nobody will read from that stream again.
pub(crate) fn is_missing(error: &RequestError) -> bool {
    matches!(
        code(error),
        Some(
            ErrorCode::StreamNotFound
                | ErrorCode::StreamDeletionPending
                | ErrorCode::BasinNotFound
                | ErrorCode::BasinDeletionPending
        )
    )
}

/// A request that changes nothing, or may be made again.
pub(crate) fn of_request<T>(answer: Result<T, RequestError>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

/// What a read met.
pub(crate) enum Unread {
    Missing,
    /// Nothing stands there (yet); this is the tail.
    At(Position),
}

pub(crate) fn of_read(error: ReadError) -> Result<Unread> {
    match error {
        ReadError::ReadUnwritten(tail) => Ok(Unread::At(position(tail))),
        ReadError::Request(error) if is_missing(&error) => Ok(Unread::Missing),
        other => Err(unavailable(other)),
    }
}

/// Why a session of reading ended: with its stream, or for now.
pub(crate) fn of_session(error: ReadSessionError) -> Result<(), Cause> {
    match error.request_error() {
        Some(request) if is_missing(request) => Ok(()),
        _ => Err(Cause::new(error)),
    }
}

pub(crate) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Cause::new(error))
}

pub(crate) fn position(at: StreamPosition) -> Position {
    Position { seq_num: at.seq_num, timestamp: crate::record::timestamp(at.timestamp) }
}
