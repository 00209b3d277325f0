//! What went wrong in the database, in the domain's words. The source stays attached for the log and is never printed.

use continuo_domain::error::Cause;
use continuo_domain::{Error, Violation};
use sea_orm::sqlx;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};

/// A statement or a read that failed. Its transaction is rolled back, so nothing was done.
pub(crate) fn failed(error: DbErr) -> Error {
    match kind(&error) {
        Kind::NotNow => Error::Unavailable(Cause::new(error)),
        Kind::Damaged => Error::Damaged(Cause::new(error)),
        Kind::Text => Violation::new("text", "must not contain the character U+0000").into(),
        Kind::Closed => Error::Stopping,
        Kind::SessionGone => Error::SessionNotFound,
        Kind::Bug => Error::internal(error),
    }
}

/// A commit that failed: it may or may not be on disk, unless Postgres says that it rolled back.
pub(crate) fn not_committed(error: DbErr) -> Error {
    // Errors of these classes end a transaction before its commit is written; one that ends the session does not say so.
    let is_rolled_back = code(&error).is_some_and(|code| matches!(code.get(..2), Some("23" | "40")));
    if is_rolled_back { failed(error) } else { Error::OutcomeUnknown(Cause::new(error)) }
}

/// A statement that is a transaction by itself and failed. Postgres' refusal of it means that nothing was done; an answer
/// that did not come, or that ends the session, does not.
pub(crate) fn failed_alone(error: DbErr) -> Error {
    match &error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => failed(error),
        _ if is_connection_lost(&error) => Error::OutcomeUnknown(Cause::new(error)),
        _ => failed(error),
    }
}

/// Something else was done between two statements of a transaction, which cannot happen twice in a row for ever: it is
/// run again.
pub(crate) fn again() -> Error {
    Error::Unavailable(Cause::new(Again))
}

#[derive(Debug)]
struct Again;

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rows kept changing under a transaction")
    }
}

impl std::error::Error for Again {}

/// What the database said, if this is its error.
pub(crate) fn db_error(error: &Error) -> Option<&DbErr> {
    error.cause()?.downcast_ref()
}

/// Nothing was done, and a second run of the same transaction may well succeed: it lost against another one.
pub(crate) fn is_worth_another_try(error: &Error) -> bool {
    if !matches!(error, Error::Unavailable(_)) {
        return false;
    }
    let is_beaten = |e| code(e).is_some_and(|code| matches!(&*code, "40001" | "40P01"));
    db_error(error).is_some_and(is_beaten) || error.cause().is_some_and(|cause| cause.downcast_ref::<Again>().is_some())
}

/// The connection is dead: its socket broke, or the server ended the session.
pub(crate) fn is_connection_lost(error: &DbErr) -> bool {
    match sqlx_error(error) {
        Some(sqlx::Error::Io(_)) => true,
        Some(sqlx::Error::Database(e)) => {
            let code = e.code().unwrap_or_default();
            matches!(&*code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") || code.starts_with("08")
        }
        _ => false,
    }
}

/// The server has not answered in time: as good as a dead connection.
pub(crate) fn no_answer() -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()))
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(e))
        | DbErr::Exec(RuntimeErr::SqlxError(e))
        | DbErr::Query(RuntimeErr::SqlxError(e)) => Some(e),
        _ => None,
    }
}

fn code(error: &DbErr) -> Option<std::borrow::Cow<'_, str>> {
    match sqlx_error(error)? {
        sqlx::Error::Database(e) => e.code(),
        _ => None,
    }
}

/// A write whose unique index may refuse it.
pub(crate) fn failed_unless_taken(error: DbErr, taken: Error) -> Error {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => taken,
        _ => failed(error),
    }
}

/// A row that cannot be read: nothing of ours wrote it.
pub(crate) fn damaged(table: &'static str, id: &str, what: impl std::fmt::Display) -> Error {
    Error::Damaged(Cause::new(format!("row {id} of table {table}: {what}")))
}

enum Kind {
    NotNow,
    Damaged,
    Bug,
    /// SQLite stores every character, Postgres all but one.
    Text,
    Closed,
    /// A row that belongs to a session was written while that was deleted, which only Postgres lets happen.
    SessionGone,
}

fn kind(error: &DbErr) -> Kind {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Kind::Closed,
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Kind::NotNow,
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => match e.as_ref() {
            sqlx::Error::Database(e) if is_of_session(e.constraint()) => Kind::SessionGone,
            sqlx::Error::Database(e) => kind_of_code(e.code().as_deref().unwrap_or_default()),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Kind::NotNow,
            sqlx::Error::PoolClosed => Kind::Closed,
            _ => Kind::Bug,
        },
        DbErr::TryIntoErr { .. } | DbErr::Type(_) | DbErr::Json(_) => Kind::Damaged,
        _ => Kind::Bug,
    }
}

/// The foreign key of a table whose rows belong to a session.
fn is_of_session(constraint: Option<&str>) -> bool {
    constraint.is_some_and(|name| name.ends_with("_session_id_fkey"))
}

/// SQLite's extended result codes are numbers of up to four digits, Postgres' SQLSTATEs have five characters.
fn kind_of_code(code: &str) -> Kind {
    if code.len() == 5 {
        return match (&code[..2], code) {
            (_, "22021" | "22P05") => Kind::Text,
            // the session was ended in the middle of a transaction; the server only reads for now
            (_, "25P03" | "25006") => Kind::NotNow,
            ("08" | "40" | "53" | "55" | "57" | "58", _) => Kind::NotNow,
            ("XX", _) => Kind::Damaged,
            _ => Kind::Bug,
        };
    }
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        // busy, locked, out of memory, read-only, interrupted, i/o error, full, cannot open
        5..=10 | 13 | 14 => Kind::NotNow,
        // corrupt, not a database
        11 | 26 => Kind::Damaged,
        _ => Kind::Bug,
    }
}
