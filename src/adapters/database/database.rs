//! The database: a SQLite file of one node, or a Postgres that many replicas share. [`Database`] hides which.

use crate::error::failed;
use crate::postgres::{Postgres, PostgresOptions};
use crate::reads::Reads;
use crate::schema::{self, SchemaStatus};
use crate::sqlite;
use crate::writer::{Writer, WriterStats};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, FromQueryResult, QueryResult, Statement,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A handle on the database; cloning it is cheap. Dropping the last one ends SQLite's writer after what was queued.
#[derive(Clone)]
pub struct Database(Arc<Engine>);

enum Engine {
    Sqlite { readers: Reads, writer: Writer },
    Postgres(Postgres),
}

impl Database {
    /// Opens the SQLite file, makes it if it is not there, and brings its schema up to date. `InvalidArgument` for a file
    /// whose schema is newer than this release; it is left as it is.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = sqlite::writer(&path);
        schema::refuse_if_ahead(&connection).await?;
        schema::migrate(&connection).await?;
        sync_directory(&path).await?;
        let readers = Reads::plain(sqlite::readers(&path));
        let writer = Writer::start(connection, path);
        Ok(Self(Arc::new(Engine::Sqlite { readers, writer })))
    }

    /// Connects to Postgres; `Unavailable` if it does not answer within the acquire timeout, `InvalidArgument` for a URL
    /// that is none. The schema is left as it is: see [`Database::schema_status`] and [`Database::migrate`].
    pub async fn connect(options: PostgresOptions) -> Result<Self> {
        Ok(Self(Arc::new(Engine::Postgres(Postgres::connect(options).await?))))
    }

    /// How the schema stands to the one of this release.
    pub async fn schema_status(&self) -> Result<SchemaStatus> {
        schema::status(self.readers()).await
    }

    /// Brings the schema up to date. Replicas that do it at the same moment wait for each other. SQLite's is, since it was
    /// opened. `InvalidArgument` if a newer release made it. Any other error leaves the schema as some migration made it;
    /// to try again is safe.
    pub async fn migrate(&self) -> Result<()> {
        let Some(connection) = self.turn().await? else { return Ok(()) };
        let migrated = schema::migrate_if_not_ahead(&connection).await;
        // What was committed stays, whatever becomes of the connection.
        let _ = connection.close().await;
        migrated
    }

    /// A connection to Postgres on which the schema may be changed, by one process at a time; none to SQLite, which has one process.
    pub(crate) async fn turn(&self) -> Result<Option<DatabaseConnection>> {
        match &*self.0 {
            Engine::Sqlite { .. } => Ok(None),
            Engine::Postgres(postgres) => postgres.turn().await.map(Some),
        }
    }

    /// Runs a job in a transaction and returns once it is durable. The one door for writes: a turn at the batching writer on
    /// SQLite, a READ COMMITTED transaction of its own on Postgres, which runs a copy of the job again when the database
    /// says that nothing was done and another try helps. On an error nothing was written, except for `OutcomeUnknown`.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        match &*self.0 {
            Engine::Sqlite { writer, .. } => writer.write(job).await,
            Engine::Postgres(postgres) => postgres.write(job).await,
        }
    }

    /// Runs one statement that is a transaction by itself and returns its rows, once what it wrote is durable: one round trip
    /// on Postgres. Errors as of `write`.
    pub(crate) async fn write_one(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        match &*self.0 {
            Engine::Sqlite { writer, .. } => {
                writer.write(|tx| async move { tx.query_all_raw(statement).await.map_err(failed) }.boxed()).await
            }
            Engine::Postgres(postgres) => postgres.write_one(statement).await,
        }
    }

    /// As `write_one`, for a statement that does no harm when it runs twice: an answer that was lost is asked for again.
    pub(crate) async fn write_repeatable(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        match self.write_one(statement.clone()).await {
            Err(Error::OutcomeUnknown(_)) => self.write_one(statement).await,
            answer => answer,
        }
    }

    /// For single reads. Each sees every write that was acknowledged before it began, through any replica.
    pub(crate) fn readers(&self) -> &Reads {
        match &*self.0 {
            Engine::Sqlite { readers, .. } => readers,
            Engine::Postgres(postgres) => postgres.reads(),
        }
    }

    /// For reads that must agree with each other; sees what `readers` sees.
    pub(crate) async fn snapshot(&self) -> Result<DatabaseTransaction> {
        match &*self.0 {
            Engine::Sqlite { readers, .. } => readers.begin(None).await.map_err(failed),
            Engine::Postgres(postgres) => postgres.snapshot().await,
        }
    }

    /// For lists: as `snapshot`, and on the read replica of Postgres where that has everything `snapshot` would see.
    pub(crate) async fn list_snapshot(&self) -> Result<DatabaseTransaction> {
        match self.fresh_replica().await? {
            Some(snapshot) => Ok(snapshot),
            None => self.snapshot().await,
        }
    }

    /// The rows of one statement, for lists: where `list_snapshot` would read them.
    pub(crate) async fn list_rows<T: FromQueryResult + Send + Sync>(&self, statement: Statement) -> Result<Vec<T>> {
        let rows = T::find_by_statement(statement);
        let rows = match self.fresh_replica().await? {
            Some(replica) => rows.all(&replica).await,
            None => rows.all(self.readers()).await,
        };
        rows.map_err(failed)
    }

    /// A snapshot of the read replica, if there is one and it has everything that was acknowledged before this call.
    pub(crate) async fn fresh_replica(&self) -> Result<Option<DatabaseTransaction>> {
        match &*self.0 {
            Engine::Sqlite { .. } => Ok(None),
            Engine::Postgres(postgres) => postgres.fresh_replica().await,
        }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match &*self.0 {
            Engine::Sqlite { .. } => DbBackend::Sqlite,
            Engine::Postgres(_) => DbBackend::Postgres,
        }
    }

    /// What SQLite's writer has done so far; all zero on Postgres, which has none.
    pub fn writer_stats(&self) -> WriterStats {
        match &*self.0 {
            Engine::Sqlite { writer, .. } => writer.stats(),
            Engine::Postgres(_) => WriterStats::default(),
        }
    }

    /// Requests that were sent to Postgres and whose answer was waited for: statements, begins, commits. Zero on SQLite.
    /// Without what the driver asks by itself: a connection's start, and the first use of a statement on it.
    pub fn round_trips(&self) -> u64 {
        match &*self.0 {
            Engine::Sqlite { .. } => 0,
            Engine::Postgres(postgres) => postgres.round_trips(),
        }
    }

    /// Writes what is queued, refuses what comes later with `Stopping`, and closes the connections.
    pub async fn close(&self) {
        match &*self.0 {
            Engine::Sqlite { readers, writer } => {
                writer.close().await;
                readers.close().await;
            }
            Engine::Postgres(postgres) => postgres.close().await,
        }
    }
}

/// The entry of a fresh file in its directory is as much a part of it as its bytes.
async fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let synced = tokio::task::spawn_blocking(move || std::fs::File::open(directory)?.sync_all()).await;
    synced.map_err(Error::internal)?.map_err(|e| Error::Unavailable(Cause::new(e)))
}
