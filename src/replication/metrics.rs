//! What the worker counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// In front of every name.
const PREFIX: &str = "sessions_replication";

/// One label and its value.
pub(crate) type Label = [(&'static str, &'static str); 1];

/// The worker's metrics. On a replica that stands by they stay as they are.
#[derive(Debug)]
pub struct Metrics {
    /// From the commit of a transaction until the index has stored it, in milliseconds.
    pub replication_lag_ms: Histogram,
    /// Batches that were stored (`success="true"`), and attempts that were not.
    pub batches_flushed: Family<Label, Counter>,
    /// Rows in a batch.
    pub batch_size: Histogram,
    /// Rows that the index stored.
    pub sessions_inserted: Counter,
    /// Inserts that were tried again, by `operation`: `insert`, or `parked` for rows that had been refused.
    pub insert_retries: Family<Label, Counter>,
    /// Changes read from the log, by `event_type`: `insert`, `update`, `delete`, `truncate`; and `skipped` for updates that
    /// the index does not show.
    pub events_processed: Family<Label, Counter>,
    /// How long a batch took to be stored, with everything that was tried, in milliseconds.
    pub flush_duration_ms: Histogram,
    /// How much of the log is not acknowledged, in bytes.
    pub acked_lsn_lag_bytes: Gauge,
    /// Rows that were read and are not stored.
    pub buffered_rows: Gauge,
    /// Rows that the index refused and that are kept in the database.
    pub parked_rows: Gauge,
    /// 1 on the replica that replicates.
    pub leader: Gauge,
    /// Rows that the last comparison of database and index found to differ.
    pub reconcile_differences: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // 2 ms to 65 s.
        let milliseconds = || Histogram::new((1..=16).map(|power| f64::from(1_u32 << power)));
        Self {
            replication_lag_ms: milliseconds(),
            batches_flushed: Family::default(),
            batch_size: Histogram::new([1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0]),
            sessions_inserted: Counter::default(),
            insert_retries: Family::default(),
            events_processed: Family::default(),
            flush_duration_ms: milliseconds(),
            acked_lsn_lag_bytes: Gauge::default(),
            buffered_rows: Gauge::default(),
            parked_rows: Gauge::default(),
            leader: Gauge::default(),
            reconcile_differences: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Shows them under `sessions_replication_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let lag = "From the commit of a transaction until the index has stored it, in milliseconds";
        registry.register("replication_lag_ms", lag, self.replication_lag_ms.clone());
        registry.register("batches_flushed", "Batches by whether they were stored", self.batches_flushed.clone());
        registry.register("batch_size", "Rows in a batch", self.batch_size.clone());
        registry.register("sessions_inserted", "Rows that the index stored", self.sessions_inserted.clone());
        registry.register("insert_retries", "Inserts that were tried again, by operation", self.insert_retries.clone());
        registry.register("events_processed", "Changes read from the log, by type", self.events_processed.clone());
        let duration = "How long a batch took to be stored, in milliseconds";
        registry.register("flush_duration_ms", duration, self.flush_duration_ms.clone());
        let lag = "How much of the log is not acknowledged, in bytes";
        registry.register("acked_lsn_lag_bytes", lag, self.acked_lsn_lag_bytes.clone());
        registry.register("buffered_rows", "Rows that were read and are not stored", self.buffered_rows.clone());
        registry.register("parked_rows", "Rows that the index refused", self.parked_rows.clone());
        registry.register("leader", "1 on the replica that replicates", self.leader.clone());
        let differences = "Rows that the last comparison of database and index found to differ";
        registry.register("reconcile_differences", differences, self.reconcile_differences.clone());
    }
}
