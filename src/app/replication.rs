//! What the replication is told by the settings, and what an operator asks of it without a server.

use super::parts::refused;
use crate::config::{Config, ConfigError};
use anyhow::Result;
use continuo_replication::{Metrics, Options};
use std::sync::Arc;
use std::time::Duration;

pub use continuo_replication::{ParkedSession, Report, Scope, Slot, Status as ReplicationStatus, Step};

/// What the database calls the connections of the replication.
const APPLICATION_NAME: &str = "continuo replication";

/// From which database into which ClickHouse. Refuses settings that name no ClickHouse, or no Postgres.
pub fn replication_options(config: &Config) -> Result<Options, ConfigError> {
    config.check_schemas()?;
    let (Some(clickhouse), Some(database)) = (clickhouse_options(config), &config.database.url) else {
        return Err(ConfigError::new(
            "clickhouse.url is not set, so there is nothing to replicate into: set CONTINUO_CLICKHOUSE_URL",
        ));
    };
    let replication = &config.replication;
    Ok(Options {
        database_url: database.expose().to_owned(),
        clickhouse,
        slot_name: replication.slot_name.clone(),
        publication_name: replication.publication_name.clone(),
        flush_interval: Duration::from_millis(replication.flush_interval_ms.into()),
        batch_rows: replication.batch_rows as usize,
        flights: replication.flights as usize,
        application_name: APPLICATION_NAME.to_owned(),
    })
}

/// How the replication stands.
pub async fn replication_status(config: &Config) -> Result<ReplicationStatus> {
    continuo_replication::status(&replication_options(config)?).await.map_err(refused)
}

/// Makes what the replication stands on, where it is missing. From then on the database keeps its log for a server that reads
/// it.
pub async fn prepare_replication(config: &Config) -> Result<()> {
    continuo_replication::prepare(&replication_options(config)?).await.map(drop).map_err(refused)
}

/// Compares all sessions of the database and of ClickHouse; `step` hears what it is at.
pub async fn reconcile(config: &Config, scope: Scope, step: &(dyn Fn(Step) + Send + Sync)) -> Result<Report> {
    let metrics = Arc::new(Metrics::default());
    continuo_replication::reconcile(&replication_options(config)?, scope, &metrics, step).await.map_err(refused)
}

/// Takes back what the replication made in the database.
pub async fn drop_replication(config: &Config) -> Result<()> {
    continuo_replication::drop_replication(&replication_options(config)?).await.map_err(refused)
}

/// Where ClickHouse is, if the settings name one.
pub(super) fn clickhouse_options(config: &Config) -> Option<continuo_clickhouse::Options> {
    let url = config.clickhouse.url.as_ref()?.expose().to_owned();
    Some(continuo_clickhouse::Options { url, database: config.clickhouse.database.clone() })
}
