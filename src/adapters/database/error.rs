//! What went wrong in the database, in the domain's words. The source stays attached for the log and is never printed.

use continuo_domain::Error;
use continuo_domain::error::Cause;
use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// A statement or a read that failed. Its transaction is rolled back, so nothing was done.
pub(crate) fn failed(error: DbErr) -> Error {
    match kind(&error) {
        Kind::NotNow => Error::Unavailable(Cause::new(error)),
        Kind::Damaged => Error::Damaged(Cause::new(error)),
        Kind::Bug => Error::internal(error),
    }
}

/// A commit that failed: it may or may not be on disk.
pub(crate) fn not_committed(error: DbErr) -> Error {
    Error::OutcomeUnknown(Cause::new(error))
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
}

fn kind(error: &DbErr) -> Kind {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Kind::NotNow,
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => match e.as_ref() {
            sqlx::Error::Database(e) => kind_of_code(e.code().as_deref().unwrap_or_default()),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Kind::NotNow
            }
            _ => Kind::Bug,
        },
        DbErr::TryIntoErr { .. } | DbErr::Type(_) | DbErr::Json(_) => Kind::Damaged,
        _ => Kind::Bug,
    }
}

/// SQLite's extended result codes are numbers of up to four digits, Postgres' SQLSTATEs have five characters.
fn kind_of_code(code: &str) -> Kind {
    if code.len() == 5 {
        return match &code[..2] {
            "08" | "40" | "53" | "55" | "57" | "58" => Kind::NotNow,
            "XX" => Kind::Damaged,
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
