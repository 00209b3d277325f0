//! Lists of sessions beside the database: ClickHouse, and the replication that fills it.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::cluster::check_scheme;
use super::{Config, ConfigError, SecretUrl};

/// Longest name in Postgres, in bytes; ClickHouse is held to the same.
const NAME_BYTES_MAX: usize = 63;
/// A longer wait would make the index late for nothing.
const FLUSH_INTERVAL_MS: RangeInclusive<u32> = 1..=10_000;
/// Above, a batch costs memory and saves nothing.
const BATCH_ROWS: RangeInclusive<u32> = 1..=100_000;
/// Each holds one batch.
const FLIGHTS: RangeInclusive<u32> = 1..=16;

/// Where lists of sessions come from.
#[derive(Debug, Clone, Serialize)]
pub struct ClickHouse {
    /// ClickHouse; else the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretUrl>,
    /// The database in it.
    pub database: String,
}

/// What fills ClickHouse.
#[derive(Debug, Clone, Serialize)]
pub struct Replication {
    /// May this replica do it?
    pub enabled: bool,
    /// The slot in Postgres that keeps what was not copied yet.
    pub slot_name: String,
    /// What of Postgres is copied.
    pub publication_name: String,
    /// How long changes are gathered.
    pub flush_interval_ms: u32,
    /// Changes in a batch, at most.
    pub batch_rows: u32,
    /// Batches under way, at most.
    pub flights: u32,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self { url: None, database: "trigger_dev".to_owned() }
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            enabled: true,
            slot_name: "sessions_to_clickhouse_v1".to_owned(),
            publication_name: "sessions_to_clickhouse_v1_publication".to_owned(),
            flush_interval_ms: 50,
            batch_rows: 5_000,
            flights: 2,
        }
    }
}

impl Config {
    /// Does this replica fill ClickHouse, if no other one does?
    pub fn replicates(&self) -> bool {
        self.clickhouse.url.is_some() && self.replication.enabled
    }

    /// Refuses what whoever migrates or replicates cannot work with: the URL of something else, or ClickHouse without what feeds it.
    pub fn check_schemas(&self) -> Result<(), ConfigError> {
        self.database.check()?;
        self.clickhouse.check()?;
        self.replication.check()?;
        if self.clickhouse.url.is_some() && self.database.url.is_none() {
            return Err(ConfigError(
                "clickhouse.url is set, but sessions are in SQLite, which has no log for ClickHouse to follow: set \
                 CONTINUO_DATABASE_URL to a Postgres, or unset CONTINUO_CLICKHOUSE_URL to list from SQLite"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl ClickHouse {
    fn check(&self) -> Result<(), ConfigError> {
        check_scheme("clickhouse.url", self.url.as_ref(), &["http://", "https://"])?;
        check_name("clickhouse.database", &self.database, |c| c.is_ascii_alphanumeric() || c == '_')
    }
}

impl Replication {
    fn check(&self) -> Result<(), ConfigError> {
        let is_slot = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        check_name("replication.slot_name", &self.slot_name, is_slot)?;
        check_name("replication.publication_name", &self.publication_name, is_slot)?;
        check_range("replication.flush_interval_ms", self.flush_interval_ms, FLUSH_INTERVAL_MS)?;
        check_range("replication.batch_rows", self.batch_rows, BATCH_ROWS)?;
        check_range("replication.flights", self.flights, FLIGHTS)
    }
}

fn check_name(setting: &str, name: &str, is_plain: impl Fn(char) -> bool) -> Result<(), ConfigError> {
    if name.len() <= NAME_BYTES_MAX && !name.is_empty() && name.chars().all(&is_plain) {
        return Ok(());
    }
    let letters = if is_plain('A') { "letters" } else { "small letters" };
    Err(ConfigError(format!("{setting} may hold {letters}, digits and _ only, at most {NAME_BYTES_MAX}")))
}

fn check_range(setting: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError(format!("{setting} is {value}: it must be {} to {}", range.start(), range.end())))
}
