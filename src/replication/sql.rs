//! Asking Postgres: errors as this crate means them, and positions as numbers.

use crate::Options;
use crate::flights::Lsn;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Violation};
use continuo_postgres_link::Link;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

/// A `pg_lsn` as a number of bytes, in SQL.
macro_rules! bytes_of {
    ($lsn:literal) => {
        concat!("CAST(", $lsn, " - CAST('0/0' AS pg_lsn) AS bigint)")
    };
}
pub(crate) use bytes_of;

/// A connection for work beside the stream.
pub(crate) async fn connect(options: &Options) -> Result<Client> {
    Link::parse(&options.database_url)?.connect(&options.application_name).await
}

/// A statement did not succeed. What only an operator can change is said in words.
pub(crate) fn failed(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => Violation::new(
            "database.url",
            "names a database whose schema is behind this release: run `continuo migrate up`",
        )
        .into(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let message = error.as_db_error().map(|refusal| refusal.message()).unwrap_or_default();
            let needs = "the account of the URL needs REPLICATION and must own the table session";
            Violation::new("database.url", format!("may not do what replication takes ({message}): {needs}")).into()
        }
        _ => Error::Unavailable(Cause::new(error)),
    }
}

/// A position that a statement gave by [`bytes_of`].
pub(crate) fn lsn(row: &Row, column: &str) -> Lsn {
    row.get::<_, Option<i64>>(column).unwrap_or_default().cast_unsigned()
}
