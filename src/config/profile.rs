//! Which engine serves what, in words.

use super::Config;

impl Config {
    /// Each part of the server, and what serves it with these settings.
    pub fn profile(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sessions and runs", self.database_in_words()),
            ("lists of sessions", self.lists_in_words()),
            ("channels", self.log_in_words()),
            ("hints and leases", self.hints_in_words()),
            ("blobs", self.blobs_in_words()),
            ("time", if self.database.url.is_some() { "the database's" } else { "this machine's" }.to_owned()),
            ("keys", self.keys_in_words()),
        ]
    }

    fn database_in_words(&self) -> String {
        match &self.database.url {
            None => format!("SQLite in {}", self.data_dir.display()),
            Some(url) => format!("Postgres, {url}"),
        }
    }

    fn lists_in_words(&self) -> String {
        let Some(url) = &self.clickhouse.url else { return "the same database".to_owned() };
        let database = &self.clickhouse.database;
        let filled = match self.replication.enabled {
            true => format!("filled through slot {}", self.replication.slot_name),
            false => "filled by other replicas".to_owned(),
        };
        format!("ClickHouse, {url}, database {database}, {filled}")
    }

    fn log_in_words(&self) -> String {
        let prefix = &self.s2.basin_prefix;
        match &self.s2.endpoint {
            None => format!("the embedded log in {}", self.data_dir.display()),
            Some(_) if self.s2.is_cloud() => format!("S2 in the cloud, basins {prefix}-…"),
            Some(endpoint) => format!("S2, {endpoint}, basins {prefix}-…"),
        }
    }

    fn hints_in_words(&self) -> String {
        match (&self.redis.url, &self.database.url) {
            (Some(url), _) => format!("Redis, {url}"),
            (None, Some(_)) => "Postgres, by LISTEN/NOTIFY and advisory locks; waits in this process".to_owned(),
            (None, None) => "in this process".to_owned(),
        }
    }

    fn blobs_in_words(&self) -> String {
        match &self.blobs.s3 {
            None => format!("files in {}", self.data_dir.display()),
            Some(s3) => format!("bucket {} at {}", s3.bucket, s3.endpoint),
        }
    }

    fn keys_in_words(&self) -> String {
        match (&self.keys.master_key, &self.keys.admin_key) {
            (Some(_), Some(_)) => "given by the settings".to_owned(),
            (None, None) => format!("kept in {}", self.data_dir.display()),
            _ => format!("given by the settings, or else kept in {}", self.data_dir.display()),
        }
    }
}
