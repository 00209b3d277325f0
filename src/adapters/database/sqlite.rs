//! Connections to one SQLite file.

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{ConnectOptions, SqlitePool};
use sea_orm::{DatabaseConnection, SqlxSqliteConnector};
use std::path::Path;
use std::time::Duration;

const READERS_MAX: u32 = 4;
/// Page caches: all connections together stay at 16 MiB, however many sessions the file holds.
const WRITER_CACHE_KIB: u32 = 8 * 1_024;
const READER_CACHE_KIB: u32 = 2 * 1_024;
/// The WAL file is cut back to this after a checkpoint that emptied it.
const WAL_BYTES_KEPT: u32 = 32 * 1_024 * 1_024;
/// Only another process or a checkpoint can be in the way.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The one connection that writes. `synchronous = FULL` in WAL mode syncs the log before a commit returns, and before any
/// reader sees it.
pub(crate) fn writer(path: &Path) -> DatabaseConnection {
    let options = base(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
        .pragma("journal_size_limit", WAL_BYTES_KEPT.to_string());
    connection(pool(1).connect_lazy_with(options))
}

/// Connections that read. In WAL mode they neither wait for the writer nor hold it up.
pub(crate) fn readers(path: &Path) -> DatabaseConnection {
    let options = base(path).pragma("cache_size", format!("-{READER_CACHE_KIB}")).pragma("query_only", "1");
    connection(pool(READERS_MAX).connect_lazy_with(options))
}

fn base(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(128)
        .disable_statement_logging()
}

fn pool(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(size)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(30))
}

fn connection(pool: SqlitePool) -> DatabaseConnection {
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
}
