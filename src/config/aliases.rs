//! Variables under which others know some of the settings. Each is read where ours is silent: above the file, below the flags.

use std::str::FromStr;

use super::section::Value;
use super::{ConfigError, Layer};

impl Layer {
    /// Fills what neither flags nor `CONTINUO_*` said with what these variables say. Fails with the name of one that cannot be
    /// read, never with its text.
    pub fn or_aliases(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        let (index, copy) = (&mut self.clickhouse, &mut self.replication);
        fill(&mut index.url, "SESSION_REPLICATION_CLICKHOUSE_URL", "a URL", given)?;
        fill_switch(&mut copy.enabled, "SESSION_REPLICATION_ENABLED", given)?;
        fill(&mut copy.slot_name, "SESSION_REPLICATION_SLOT_NAME", "a name", given)?;
        fill(&mut copy.publication_name, "SESSION_REPLICATION_PUBLICATION_NAME", "a name", given)?;
        fill(&mut copy.batch_rows, "SESSION_REPLICATION_FLUSH_BATCH_SIZE", "a number", given)?;
        fill(&mut copy.flush_interval_ms, "SESSION_REPLICATION_FLUSH_INTERVAL_MS", "a number", given)?;
        fill(&mut copy.flights, "SESSION_REPLICATION_MAX_FLUSH_CONCURRENCY", "a number", given)?;
        Ok(self)
    }
}

fn fill<T: FromStr + Value>(
    setting: &mut Option<T>,
    name: &str,
    kind: &str,
    given: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    // An empty variable of ours is one that was not set.
    if setting.as_ref().is_some_and(|value| !value.is_empty()) {
        return Ok(());
    }
    let Some(text) = given(name) else { return Ok(()) };
    *setting = Some(text.parse().map_err(|_| ConfigError(format!("{name} must be {kind}")))?);
    Ok(())
}

fn fill_switch(
    setting: &mut Option<bool>,
    name: &str,
    given: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    if setting.is_some() {
        return Ok(());
    }
    *setting = match given(name).as_deref() {
        None => return Ok(()),
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(_) => return Err(ConfigError(format!("{name} must be 1 or 0"))),
    };
    Ok(())
}
