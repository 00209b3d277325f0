//! The slot: how far the log is kept for the index, and by it the one reader at a time.

use crate::flights::Lsn;
use crate::sql::{bytes_of, failed, lsn};
use continuo_domain::{Result, Violation};
use tokio_postgres::Client;
use tracing::{info, warn};

/// Postgres' own plugin for logical decoding.
const PLUGIN: &str = "pgoutput";

/// A slot as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Everything before it is in the index; the server keeps the log from here on.
    pub confirmed_lsn: Lsn,
    /// `reserved`, `extended`, `unreserved` or `lost`: whether the log it needs is still there.
    pub wal_status: String,
    /// Why the server gave it up; not said by every release.
    pub invalidation_reason: Option<String>,
    /// The process that reads it now.
    pub reader_pid: Option<i32>,
    /// What that reader calls itself.
    pub reader_name: Option<String>,
    /// Whether a reader can go on from here; what was lost is made anew.
    pub is_lost: bool,
}

impl Slot {
    /// The slot of this name, if there is one. Fails where it is of another database or another kind.
    pub(crate) async fn find(client: &Client, name: &str) -> Result<Option<Self>> {
        // The newer columns by way of JSON: older servers do not have them.
        let sql = concat!(
            "SELECT s.slot_type, s.plugin, s.database = current_database() AS is_ours, s.wal_status, s.active_pid, \
             a.application_name, s.restart_lsn IS NULL AS is_empty, to_jsonb(s) ->> 'invalidation_reason' AS invalidated, \
             to_jsonb(s) ->> 'conflicting' = 'true' AS is_conflicting, ",
            bytes_of!("s.confirmed_flush_lsn"),
            " AS confirmed_lsn FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
             WHERE s.slot_name = $1"
        );
        let Some(row) = client.query_opt(sql, &[&name]).await.map_err(failed)? else { return Ok(None) };
        let (kind, plugin): (String, Option<String>) = (row.get("slot_type"), row.get("plugin"));
        if kind != "logical" || plugin.as_deref() != Some(PLUGIN) || row.get::<_, Option<bool>>("is_ours") != Some(true)
        {
            let problem = "names a slot that serves something else: choose another name, or drop that slot";
            return Err(Violation::new("replication.slot_name", problem).into());
        }
        let wal_status: Option<String> = row.get("wal_status");
        let invalidation_reason: Option<String> = row.get("invalidated");
        let is_lost = wal_status.as_deref() == Some("lost")
            || invalidation_reason.is_some()
            || row.get("is_empty")
            || row.get::<_, Option<bool>>("is_conflicting") == Some(true);
        Ok(Some(Self {
            confirmed_lsn: lsn(&row, "confirmed_lsn"),
            wal_status: wal_status.unwrap_or_else(|| "lost".to_owned()),
            invalidation_reason,
            reader_pid: row.get("active_pid"),
            reader_name: row.get("application_name"),
            is_lost,
        }))
    }

    /// Makes it. Waits for the transactions that are under way on the server.
    pub(crate) async fn create(client: &Client, name: &str) -> Result<()> {
        info!(slot = name, "the replication slot is made");
        let sql = "SELECT FROM pg_create_logical_replication_slot($1, $2)";
        client.execute(sql, &[&name, &PLUGIN]).await.map(drop).map_err(failed)
    }

    /// Takes it away. Fails while it is read.
    pub(crate) async fn drop(client: &Client, name: &str) -> Result<()> {
        warn!(slot = name, "the replication slot is dropped");
        client.execute("SELECT FROM pg_drop_replication_slot($1)", &[&name]).await.map(drop).map_err(failed)
    }
}
