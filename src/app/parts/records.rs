//! Where the records of channels are: the embedded log in the data directory, or the S2 that the settings name.

use super::{DataDir, explain};
use crate::config::{self, Config, ConfigError};
use anyhow::{Context, Result};
use continuo_database::SqlStore;
use continuo_domain::Error;
use continuo_domain::error::Cause;
use continuo_embedded_log::{EmbeddedLog, Options};
use continuo_ports::{ChannelStore, Clock};
use continuo_s2_log::{Endpoint, S2Log};
use std::sync::Arc;
use std::time::Duration;

/// How long S2 has to answer when a node starts.
const START_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) enum Records {
    Embedded(Arc<EmbeddedLog>),
    S2(Arc<S2Log>),
}

impl Records {
    pub(super) async fn open(
        config: &Config,
        data_dir: &DataDir,
        claims: Arc<SqlStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        if let Some(endpoint) = &config.s2.endpoint {
            return open_s2(&config.s2, endpoint, claims, clock).await;
        }
        let mut options = Options::new(data_dir.log(), move || clock.now());
        options.segment_bytes = config.channel_log.segment_bytes;
        let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(options)).await?;
        Ok(Self::Embedded(Arc::new(log.map_err(explain).context("cannot open the channel log")?)))
    }

    pub(super) fn store(&self) -> Arc<dyn ChannelStore> {
        match self {
            Self::Embedded(log) => log.clone(),
            Self::S2(log) => log.clone(),
        }
    }

    /// Can records be written and read?
    pub(super) async fn reach(&self) -> continuo_domain::Result<()> {
        match self {
            Self::Embedded(log) if log.stats().takes_appends => Ok(()),
            Self::Embedded(_) => Err(Error::Unavailable(Cause::new("the channel log has failed"))),
            Self::S2(log) => log.reach().await,
        }
    }

    /// How far the log has come, if it is one that a backup could have set back.
    pub(super) fn position(&self) -> Option<u64> {
        match self {
            Self::Embedded(log) => Some(log.position()),
            Self::S2(_) => None,
        }
    }

    pub(super) async fn close(&self) -> Result<()> {
        match self {
            Self::Embedded(log) => {
                let log = log.clone();
                Ok(tokio::task::spawn_blocking(move || log.close()).await??)
            }
            Self::S2(log) => {
                log.close().await;
                Ok(())
            }
        }
    }
}

async fn open_s2(config: &config::S2, endpoint: &str, claims: Arc<SqlStore>, clock: Arc<dyn Clock>) -> Result<Records> {
    let at = if config.is_cloud() { Endpoint::Cloud } else { Endpoint::Url(endpoint.to_owned()) };
    let mut options = continuo_s2_log::Options::new(at, config.basin_prefix.clone());
    options.access_token = config.access_token.as_ref().map(|token| token.expose().to_owned());
    let log = match S2Log::open(options, claims, clock) {
        Ok(log) => log,
        Err(error @ Error::InvalidArgument(_)) => return Err(ConfigError::new(error.to_string()).into()),
        Err(error) => return Err(explain(error).context("cannot open the channel log")),
    };
    let reached = tokio::time::timeout(START_PATIENCE, log.reach()).await;
    let reached = reached.unwrap_or_else(|_| Err(Error::Unavailable(Cause::new("no answer in time"))));
    reached.map_err(explain).with_context(|| format!("cannot reach S2 at {endpoint}"))?;
    Ok(Records::S2(Arc::new(log)))
}
