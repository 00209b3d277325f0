//! The parts of a node. Which adapter serves which port is decided by the settings alone: a URL switches its part, and each
//! part is behind the same trait whatever serves it.

mod between;
mod blobs;
mod homes;
mod index;
mod keys;
mod moving;
mod records;
mod rows;
mod time;

use self::between::Between;
use self::index::Index;
use self::records::Records;
use self::time::Time;
use super::data_dir::DataDir;
use crate::config::Config;
use crate::tasks::Tasks;
use anyhow::Result;
use continuo_credentials::Credentials;
use continuo_database::{Database, SqlStore};
use continuo_in_process::TimeOrderedIds;
use continuo_ports::BlobStore;
use continuo_usecases::{Administration, Core, Ports, Settings};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) use self::index::{index_schema, refused};
pub use self::moving::{MoveProgress, MoveStep, Moved, move_up};
pub(super) use self::rows::{list_index, migrate_up, schema_status};

/// The adapters, open.
pub(super) struct Parts {
    data_dir: DataDir,
    time: Time,
    database: Database,
    store: Arc<SqlStore>,
    records: Records,
    blobs: Arc<dyn BlobStore>,
    between: Between,
    index: Index,
    pub(super) credentials: Arc<Credentials>,
}

impl Parts {
    /// Opens what the settings name. What cannot work together is refused before anything is served.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let mut data_dir = DataDir::open(&config.data_dir)?;
        data_dir.lock()?;
        let database = rows::open(config, &data_dir).await?;
        let store = Arc::new(SqlStore::new(database.clone()));
        let time = Time::start(config, &database).await?;
        let between = Between::start(config, time.clock())?;
        // Before the database is told whose log and blobs it belongs with: a start that is refused changes nothing.
        let index = Index::open(config, &database, &store, &between.leases).await?;
        let master_key = keys::master_key(config, &data_dir)?;
        let credentials = Arc::new(Credentials::new(store.clone(), time.clock(), master_key));
        let records = Records::open(config, &data_dir, store.clone(), time.clock()).await?;
        homes::check(config, &data_dir, &database, &records).await?;
        let blobs = blobs::open(&config.blobs, &data_dir).await?;
        Ok(Self { data_dir, time, database, store, records, blobs, between, index, credentials })
    }

    /// What runs beside the core for as long as the node does.
    pub(super) fn spawn(&self, tasks: &Tasks) {
        if let Some(following) = self.time.following(&self.database, tasks.stopping()) {
            tasks.spawn_critical("time", following);
        }
        if let Some(noting) = homes::noting(&self.database, &self.records, &self.data_dir, tasks.stopping()) {
            tasks.spawn_critical("log position", noting);
        }
        self.index.spawn(tasks);
    }

    pub(super) fn core(&self, config: &Config, stopping: CancellationToken) -> Result<Core> {
        let ports = Ports {
            sessions: self.store.clone(),
            index: self.index.lists(),
            runs: self.store.clone(),
            workers: self.store.clone(),
            channels: self.records.store(),
            blobs: self.blobs.clone(),
            registry: self.between.registry.clone(),
            hints: self.between.hints.clone(),
            leases: self.between.leases.clone(),
            tokens: self.credentials.clone(),
            environments: self.store.clone(),
            ids: Arc::new(TimeOrderedIds::new(self.time.clock())?),
            clock: self.time.clock(),
        };
        let settings = Settings {
            create_allow_jwt: config.create.allow_jwt,
            tasks_strict: config.tasks.strict,
            lease_ms: config.worker.lease_ms,
            heartbeat_ms: config.worker.heartbeat_ms,
            stop_grace_ms: config.worker.stop_grace_ms.into(),
            channel_max_age_seconds: Some(config.channels.max_age_seconds).filter(|seconds| *seconds > 0),
            packets_kept_ms: config.blobs.packets_kept_ms(),
        };
        Ok(Core::new(ports, settings, stopping))
    }

    /// What the parts count.
    pub(super) fn metrics(&self) -> Registry {
        let mut registry = Registry::default();
        self.index.register(&mut registry);
        registry
    }

    pub(super) fn administration(&self) -> Result<Administration> {
        let clock = self.time.clock();
        let ids = Arc::new(TimeOrderedIds::new(clock.clone())?);
        Ok(Administration::new(self.store.clone(), self.credentials.clone(), self.credentials.clone(), clock, ids))
    }

    /// Why calls cannot be served now, if they cannot. Takes at most `patience`.
    pub(super) async fn trouble(&self, patience: Duration) -> Option<&'static str> {
        let database = tokio::time::timeout(patience, self.database.time());
        let log = tokio::time::timeout(patience, self.records.reach());
        let (database, log) = tokio::join!(database, log);
        match (database, log) {
            (Ok(Ok(_)), Ok(Ok(()))) => None,
            (Ok(Ok(_)), _) => Some("the channel log cannot be reached"),
            _ => Some("the database cannot be reached"),
        }
    }

    /// Closes everything, in the order of who still needs whom: the log settles its debts in the database.
    pub(super) async fn close(&self) -> Result<()> {
        let closed = self.records.close().await;
        if let Err(error) = homes::note(&self.database, &self.records, &self.data_dir).await {
            warn!(error = format!("{error:#}"), "the position of the channel log is not noted");
        }
        self.between.leases.release_all().await;
        self.database.close().await;
        closed
    }
}

/// An operator reads the private half: it names the file, the address, the way out.
fn explain(error: continuo_domain::Error) -> anyhow::Error {
    match error.cause() {
        Some(cause) => anyhow::anyhow!("{}", cause.for_log()),
        None => error.into(),
    }
}
