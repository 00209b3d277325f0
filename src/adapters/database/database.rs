//! The database of one node: a SQLite file, read by many and written by one.

use crate::error::failed;
use crate::sqlite;
use crate::writer::{Writer, WriterStats};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_migrations::{Migrator, MigratorTrait};
use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionTrait};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A handle on the database; cloning it is cheap. Dropping the last one ends the writer after what was queued.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    readers: DatabaseConnection,
    writer: Writer,
}

impl Database {
    /// Opens the file, makes it if it is not there, and brings its schema up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = sqlite::writer(&path);
        Migrator::up(&connection, None).await.map_err(failed)?;
        sync_directory(&path).await?;
        let readers = sqlite::readers(&path);
        let writer = Writer::start(connection, path);
        Ok(Self(Arc::new(Inner { readers, writer })))
    }

    /// Runs a job in a transaction and returns once it is durable. The one door for writes: on Postgres it becomes a
    /// transaction per job.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        self.0.writer.write(job).await
    }

    /// For single reads. Each sees every write that was acknowledged before it began.
    pub(crate) fn readers(&self) -> &DatabaseConnection {
        &self.0.readers
    }

    /// For reads that must agree with each other.
    pub(crate) async fn snapshot(&self) -> Result<DatabaseTransaction> {
        self.0.readers.begin().await.map_err(failed)
    }

    /// What the writer has done so far.
    pub fn writer_stats(&self) -> WriterStats {
        self.0.writer.stats()
    }

    /// Writes what is queued, refuses what comes later with `Stopping`, and closes the file.
    pub async fn close(&self) {
        self.0.writer.close().await;
        // The error type of sea-orm says nothing a caller could act on: the connections are gone either way.
        let _ = self.0.readers.close_by_ref().await;
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
