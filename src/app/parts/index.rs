//! What lists sessions: the database itself, or ClickHouse, which one of the replicas fills from the database's log.

use super::explain;
use crate::app::replication::{clickhouse_options, replication_options};
use crate::config::{Config, ConfigError, Mode};
use crate::tasks::Tasks;
use anyhow::Result;
use continuo_clickhouse::{ClickHouse, ClickHouseIndex, IndexSchema};
use continuo_database::{Database, SqlStore};
use continuo_ports::{Leases, SessionIndex};
use continuo_replication::{Metrics, Worker};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// How long a start waits for ClickHouse to say how its schema stands.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often one that was away, or that waits for its schema, is asked again.
const ASK_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Index {
    lists: Arc<dyn SessionIndex>,
    replication: Option<Replication>,
    /// To be asked how its schema stands, where it did not answer at the start.
    unseen: Option<ClickHouse>,
}

/// On a replica that may replicate.
struct Replication {
    worker: Arc<Worker>,
    metrics: Arc<Metrics>,
}

impl Index {
    /// A ClickHouse that is away is no reason not to start: lists are unavailable until it is back, and nothing else is.
    pub(super) async fn open(
        config: &Config,
        database: &Database,
        store: &Arc<SqlStore>,
        leases: &Arc<dyn Leases>,
    ) -> Result<Self> {
        let Some(clickhouse) = connect(config)? else {
            if !database.has_list_index().await.map_err(explain)? {
                warn!("lists come from the database, which has no index for them: run `continuo migrate up`");
            }
            return Ok(Self { lists: store.clone(), replication: None, unseen: None });
        };
        if config.mode == Mode::Dev {
            migrate(config, &clickhouse, database).await?;
        }
        let is_seen = is_seen_current(config, &clickhouse).await?;
        let rows = store.indexed_rows(&config.replication.slot_name);
        let lists = Arc::new(ClickHouseIndex::new(clickhouse.clone(), rows, store.clone()));
        let replication = config.replicates().then(|| Replication::new(config, leases)).transpose()?;
        Ok(Self { lists, replication, unseen: Some(clickhouse).filter(|_| !is_seen) })
    }

    pub(super) fn lists(&self) -> Arc<dyn SessionIndex> {
        self.lists.clone()
    }

    /// What is counted of the replication.
    pub(super) fn register(&self, registry: &mut Registry) {
        if let Some(replication) = &self.replication {
            replication.metrics.register(registry);
        }
    }

    /// The replication, which ends with what it has read stored; and the look at a ClickHouse that was away.
    pub(super) fn spawn(&self, tasks: &Tasks) {
        let stopping = tasks.stopping().clone();
        if let Some(Replication { worker, .. }) = &self.replication {
            let (worker, stopping) = (worker.clone(), stopping.clone());
            tasks.spawn_critical("replication", async move {
                worker.run(stopping).await;
                Ok(())
            });
        }
        if let Some(clickhouse) = self.unseen.clone() {
            tasks.tracker().spawn(async move { stopping.run_until_cancelled(watch(clickhouse)).await });
        }
    }
}

impl Replication {
    fn new(config: &Config, leases: &Arc<dyn Leases>) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let worker = Worker::new(replication_options(config)?, leases.clone(), metrics.clone()).map_err(refused)?;
        Ok(Self { worker: Arc::new(worker), metrics })
    }
}

/// How the schema in ClickHouse stands, where the settings name one.
pub(in crate::app) async fn index_schema(config: &Config) -> Result<Option<IndexSchema>> {
    let Some(clickhouse) = connect(config)? else { return Ok(None) };
    clickhouse.schema().await.map(Some).map_err(|error| unreachable(config, error))
}

/// Does ClickHouse serve lists: is there one, and has it a whole copy?
pub(super) async fn serves_lists(config: &Config, database: &Database) -> Result<bool> {
    if config.clickhouse.url.is_none() {
        return Ok(false);
    }
    let rows = SqlStore::new(database.clone()).indexed_rows(&config.replication.slot_name);
    rows.state().await.map(|state| state.is_complete).map_err(explain)
}

/// Brings the schema in ClickHouse up to date, where the settings name one.
pub(super) async fn migrate_index(config: &Config, database: &Database) -> Result<()> {
    match connect(config)? {
        Some(clickhouse) => migrate(config, &clickhouse, database).await,
        None => Ok(()),
    }
}

async fn migrate(config: &Config, clickhouse: &ClickHouse, database: &Database) -> Result<()> {
    let schema = clickhouse.schema().await.map_err(|error| unreachable(config, error))?;
    refuse_if_ahead(&schema)?;
    let failed = |error| explain(error).context("cannot bring the schema in ClickHouse up to date");
    clickhouse.migrate().await.map_err(failed)?;
    if schema.is_empty() {
        // Whatever was copied before is elsewhere.
        database.begin_copy(&config.replication.slot_name).await.map_err(explain)?;
    }
    Ok(())
}

fn connect(config: &Config) -> Result<Option<ClickHouse>> {
    clickhouse_options(config).map(|options| ClickHouse::new(&options)).transpose().map_err(refused)
}

/// Refuses to start on a schema that is not the one of this release; `false` where ClickHouse does not say.
async fn is_seen_current(config: &Config, clickhouse: &ClickHouse) -> Result<bool> {
    let error = match timeout(PATIENCE, clickhouse.schema()).await {
        Ok(Ok(IndexSchema::Behind(_))) => {
            return Err(ConfigError::new(
                "the schema in ClickHouse is older than this release: run `continuo migrate up`, once for all replicas, and \
                 start again",
            )
            .into());
        }
        Ok(Ok(schema)) => return refuse_if_ahead(&schema).map(|()| true).map_err(Into::into),
        Ok(Err(error @ continuo_domain::Error::InvalidArgument(_))) => return Err(refused(error)),
        Ok(Err(error)) => unreachable(config, error),
        Err(late) => anyhow::Error::from(late).context("ClickHouse does not answer"),
    };
    warn!(error = format!("{error:#}"), "lists are unavailable until ClickHouse is back");
    Ok(false)
}

/// Looks until the schema is the one of this release.
async fn watch(clickhouse: ClickHouse) {
    let mut last = None;
    loop {
        sleep(ASK_EVERY).await;
        let Ok(schema) = clickhouse.schema().await else { continue };
        match &schema {
            IndexSchema::Current => return info!("ClickHouse is back"),
            _ if last.as_ref() == Some(&schema) => {}
            IndexSchema::Behind(_) => {
                error!("the schema in ClickHouse is older than this release: run `continuo migrate up`")
            }
            IndexSchema::Ahead(_) => error!("the schema in ClickHouse is newer than this release: start a newer one"),
        }
        last = Some(schema);
    }
}

fn refuse_if_ahead(schema: &IndexSchema) -> Result<(), ConfigError> {
    let IndexSchema::Ahead(unknown) = schema else { return Ok(()) };
    let newest = unknown.last().map_or("", String::as_str);
    Err(ConfigError::new(format!(
        "this release is older than the schema in ClickHouse, which has {newest}: start the release that made it, or a newer one"
    )))
}

/// What is wrong with a setting is the operator's to mend, and told as such.
pub(in crate::app) fn refused(error: continuo_domain::Error) -> anyhow::Error {
    match error {
        continuo_domain::Error::InvalidArgument(_) => ConfigError::new(error.to_string()).into(),
        error => explain(error),
    }
}

fn unreachable(config: &Config, error: continuo_domain::Error) -> anyhow::Error {
    let url = config.clickhouse.url.clone().unwrap_or_default();
    match error {
        error @ continuo_domain::Error::InvalidArgument(_) => refused(error),
        error => explain(error).context(format!("cannot reach ClickHouse at {url}")),
    }
}
