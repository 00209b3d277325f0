//! What replication is told.

use std::fmt;
use std::time::Duration;

/// From where to where, and in what steps. One slot feeds one table.
#[derive(Clone)]
pub struct Options {
    /// `postgres://…` of the database itself, with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`. Not a pooler, not a
    /// standby: the log is read there. Holds a secret.
    pub database_url: String,
    /// The index.
    pub clickhouse: continuo_clickhouse::Options,
    /// The replication slot: lower-case letters, digits and `_`, at most 63 bytes.
    pub slot_name: String,
    /// The publication that the slot is read through, at most 63 bytes.
    pub publication_name: String,
    /// A batch leaves after so long, although it is not full.
    pub flush_interval: Duration,
    /// A batch of so many rows is full.
    pub batch_rows: usize,
    /// So many batches are on their way to the index at once.
    pub flights: usize,
    /// What the database calls these connections, so that whoever looks at it knows which replica they are of.
    pub application_name: String,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both URLs may hold passwords.
        f.debug_struct("Options")
            .field("clickhouse_database", &self.clickhouse.database)
            .field("slot_name", &self.slot_name)
            .field("publication_name", &self.publication_name)
            .field("flush_interval", &self.flush_interval)
            .field("batch_rows", &self.batch_rows)
            .field("flights", &self.flights)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}
