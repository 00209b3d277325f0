//! What goes on between replicas: waits, hints, leases. In Redis, else through Postgres, else within the one process there is.

use super::explain;
use crate::config::{Config, ConfigError, SecretUrl};
use anyhow::{Context, Result};
use continuo_in_process::{EveryLease, InProcessRegistry, NoHints};
use continuo_ports::{Clock, Hints, Leases, WaitpointRegistry};
use continuo_postgres_hints::PostgresHints;
use continuo_redis::Redis;
use std::sync::Arc;

/// Under which name replicas notify each other: a database is one deployment's.
const CHANNEL: &str = "continuo";

pub(super) struct Between {
    pub(super) registry: Arc<dyn WaitpointRegistry>,
    pub(super) hints: Arc<dyn Hints>,
    pub(super) leases: Arc<dyn Leases>,
}

impl Between {
    /// Starts with whatever state the engine is in: a Redis that is away makes things slower and nothing else.
    pub(super) fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self> {
        match (&config.redis.url, &config.database.url) {
            (Some(redis), _) => in_redis(redis, &config.redis.prefix),
            (None, Some(postgres)) => through_postgres(postgres, clock),
            (None, None) => {
                let registry = Arc::new(InProcessRegistry::new(clock));
                Ok(Self { registry, hints: Arc::new(NoHints), leases: Arc::new(EveryLease) })
            }
        }
    }
}

fn in_redis(url: &SecretUrl, prefix: &str) -> Result<Between> {
    let options = continuo_redis::Options { url: url.expose().to_owned(), key_prefix: prefix.to_owned() };
    let redis = Redis::connect(options)
        .map_err(|_| ConfigError::new("redis.url cannot be read as a URL of Redis, such as redis://host:6379/0"))?;
    Ok(Between { registry: redis.registry(), hints: redis.hints(), leases: redis.leases() })
}

/// Waits are known to the replica they were registered on; another one's append finds them in the rows, by the clock.
fn through_postgres(url: &SecretUrl, clock: Arc<dyn Clock>) -> Result<Between> {
    let options = continuo_postgres_hints::Options { url: url.expose().to_owned(), channel: CHANNEL.to_owned() };
    let postgres =
        PostgresHints::connect(options).map_err(explain).with_context(|| format!("no way for hints to {url}"))?;
    let registry = Arc::new(InProcessRegistry::new(clock));
    Ok(Between { registry, hints: postgres.hints(), leases: postgres.leases() })
}
