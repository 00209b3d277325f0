//! How the schema stands to this release, and the way up.

use crate::error::{damaged, failed};
use crate::{Database, sqlite};
use continuo_domain::{Result, Violation};
use continuo_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The table in which migrations note themselves.
const TABLE: &str = "seaql_migrations";
/// The advisory lock under which one replica migrates at a time; the letters `continuo`.
const LOCK: i64 = i64::from_be_bytes(*b"continuo");
/// How often the lock is asked for.
const ASK_FOR_TURN_EVERY: Duration = Duration::from_millis(100);

/// How the schema of a database stands to the one this release knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaStatus {
    /// No migration has run.
    Empty,
    /// As this release wants it.
    Current,
    /// An older release made it. `continuo migrate up` mends it.
    Behind {
        /// The migrations that have not run, oldest first.
        missing: Vec<String>,
    },
    /// A newer release made it; this one must not touch it.
    Ahead {
        /// The migrations this release does not know, oldest first.
        unknown: Vec<String>,
    },
}

pub(crate) async fn status<C: ConnectionTrait>(connection: &C) -> Result<SchemaStatus> {
    let applied = applied(connection).await?;
    let known: BTreeSet<_> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let unknown: Vec<_> = applied.difference(&known).cloned().collect();
    let missing: Vec<_> = known.difference(&applied).cloned().collect();
    Ok(match (unknown.is_empty(), missing.is_empty()) {
        (false, _) => SchemaStatus::Ahead { unknown },
        (true, true) => SchemaStatus::Current,
        (true, false) if applied.is_empty() => SchemaStatus::Empty,
        (true, false) => SchemaStatus::Behind { missing },
    })
}

/// The names of the migrations that have run. Nothing is written, so that a look at a database leaves no table behind.
async fn applied<C: ConnectionTrait>(connection: &C) -> Result<BTreeSet<String>> {
    let backend = connection.get_database_backend();
    let table = match backend {
        DbBackend::Postgres => format!("SELECT 1 WHERE to_regclass('{TABLE}') IS NOT NULL"),
        _ => format!("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{TABLE}'"),
    };
    let ask = async |sql: String| connection.query_all_raw(Statement::from_string(backend, sql)).await.map_err(failed);
    if ask(table).await?.is_empty() {
        return Ok(BTreeSet::new());
    }
    let name = |row: sea_orm::QueryResult| row.try_get("", "version").map_err(|e| damaged(TABLE, "version", e));
    ask(format!("SELECT version FROM {TABLE}")).await?.into_iter().map(name).collect()
}

pub(crate) async fn refuse_if_ahead<C: ConnectionTrait>(connection: &C) -> Result<()> {
    match status(connection).await? {
        SchemaStatus::Ahead { unknown } => {
            let newest = unknown.last().map_or("", String::as_str);
            let problem = format!("was made by a newer release: it has {newest}; start that release");
            Err(Violation::new("database", problem).into())
        }
        _ => Ok(()),
    }
}

/// Brings the schema up to date.
pub(crate) async fn migrate(connection: &DatabaseConnection) -> Result<()> {
    Migrator::up(connection, None).await.map_err(failed)
}

/// As `migrate`, unless a newer release was here.
pub(crate) async fn migrate_if_not_ahead(connection: &DatabaseConnection) -> Result<()> {
    refuse_if_ahead(connection).await?;
    migrate(connection).await
}

/// Waits until no other process changes the schema, on a pool of one connection to Postgres, with which the turn goes. It asks
/// again and again: a statement that waited would have a snapshot, and whoever makes an index beside writers waits for those.
pub(crate) async fn take_turn(connection: &DatabaseConnection) -> Result<()> {
    let lock = format!("SELECT pg_try_advisory_lock({LOCK}) AS is_ours");
    loop {
        let statement = Statement::from_string(DbBackend::Postgres, lock.clone());
        let rows = connection.query_all_raw(statement).await.map_err(failed)?;
        if rows.first().is_some_and(|row| row.try_get("", "is_ours").unwrap_or(false)) {
            return Ok(());
        }
        tokio::time::sleep(ASK_FOR_TURN_EVERY).await;
    }
}

impl Database {
    /// How the schema of a SQLite file stands, without a change to it. A file that is not there is empty.
    pub async fn schema_of_file(path: &Path) -> Result<SchemaStatus> {
        if !path.exists() {
            return Ok(SchemaStatus::Empty);
        }
        let readers = sqlite::readers(path);
        let status = status(&readers).await;
        // It was read only: nothing can be left undone.
        let _ = readers.close().await;
        status
    }
}
