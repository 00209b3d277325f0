//! Logs. The message reads alone, fields use one dotted name per thing, an error is logged once where it is handled.

use crate::config::{Log, LogFormat};
use anyhow::{Context, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error in the configured form.
pub fn start(config: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&config.filter).with_context(|| format!("log filter {:?}", config.filter))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match config.format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))
}
