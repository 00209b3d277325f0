//! Which log the versions of the index count in. A position of a restored server, or of another one, may be below those that
//! are in the index already, and a change would lose against what it changes. The epoch above the position keeps them apart.

use crate::flights::Lsn;
use crate::index::away;
use crate::sql::{bytes_of, failed, lsn};
use continuo_clickhouse::ClickHouse;
use continuo_domain::{Error, IndexPosition, Result, Violation};
use tokio_postgres::Client;
use tracing::warn;

/// A log: which server wrote it, and after how many recoveries.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    system_identifier: String,
    timeline: i64,
}

/// What `session_replication` says of a slot.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    log: Log,
    pub(crate) epoch: u8,
    pub(crate) is_complete: bool,
}

impl Noted {
    pub(crate) async fn find(client: &Client, slot: &str) -> Result<Option<Self>> {
        let sql = "SELECT system_identifier, timeline, epoch, is_complete FROM session_replication \
                   WHERE slot_name = $1";
        let row = client.query_opt(sql, &[&slot]).await.map_err(failed)?;
        row.map(|row| {
            let log = Log { system_identifier: row.get("system_identifier"), timeline: row.get("timeline") };
            let epoch = u8::try_from(row.get::<_, i64>("epoch")).map_err(Error::internal)?;
            Ok(Self { log, epoch, is_complete: row.get("is_complete") })
        })
        .transpose()
    }
}

/// The epoch of the log as it is now, noted on both sides. Where the two sides do not agree on it, or the index knows what the
/// log does not, a new one begins, with an index that has to be compared.
pub(crate) async fn settle(client: &Client, clickhouse: &ClickHouse, slot: &str) -> Result<Noted> {
    // First the index, then the log: what the index has by then was in the log before.
    let (highest_epoch, highest_version) = highest(clickhouse).await?;
    let (log, position) = current(client).await?;
    let noted = Noted::find(client, slot).await?;
    if let Some(noted) = noted.as_ref().filter(|noted| noted.log == log && noted.epoch == highest_epoch) {
        let now = IndexPosition { epoch: noted.epoch, lsn: position };
        if highest_version <= now.version() {
            return Ok(noted.clone());
        }
    }
    let before = noted.map_or(0, |noted| noted.epoch);
    let above = before.max(highest_epoch).max(IndexPosition::of_version(highest_version).epoch);
    let epoch = above.checked_add(1).ok_or_else(|| {
        Violation::new(
            "clickhouse.url",
            "names an index whose 255 epochs are used up: empty its database and start again",
        )
    })?;
    warn!(slot, epoch, "versions of the index begin a new epoch");
    note_in_index(clickhouse, slot, epoch, &log).await?;
    let sql = "INSERT INTO session_replication (slot_name, system_identifier, timeline, epoch, is_complete) \
               VALUES ($1, $2, $3, $4, false) ON CONFLICT (slot_name) DO UPDATE SET \
               system_identifier = excluded.system_identifier, timeline = excluded.timeline, epoch = excluded.epoch, \
               is_complete = false, reconciled_at_ms = NULL";
    let (system, timeline) = (&log.system_identifier, log.timeline);
    client.execute(sql, &[&slot, system, &timeline, &i64::from(epoch)]).await.map_err(failed)?;
    Ok(Noted { log, epoch, is_complete: false })
}

/// The log that this server writes now, and where it is in it.
async fn current(client: &Client) -> Result<(Log, Lsn)> {
    // The name of a log file begins with the timeline; the control file says it only after a checkpoint.
    let sql = concat!(
        "SELECT CAST(system_identifier AS text) AS system_identifier, \
         substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS timeline, ",
        bytes_of!("pg_current_wal_insert_lsn()"),
        " AS position FROM pg_control_system()"
    );
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let timeline = i64::from_str_radix(row.get("timeline"), 16).map_err(Error::internal)?;
    Ok((Log { system_identifier: row.get("system_identifier"), timeline }, lsn(&row, "position")))
}

/// The highest epoch that was begun in the index, and the highest version of its rows. 0 for none.
async fn highest(clickhouse: &ClickHouse) -> Result<(u8, u64)> {
    let epoch = format!("SELECT max(epoch) FROM {}", clickhouse.table("replication_epochs_v1"));
    let version = format!("SELECT max(_version) FROM {}", clickhouse.table("sessions_v1"));
    let client = clickhouse.client();
    let epoch = client.query(&epoch).fetch_one::<u8>().await.map_err(away)?;
    Ok((epoch, client.query(&version).fetch_one::<u64>().await.map_err(away)?))
}

async fn note_in_index(clickhouse: &ClickHouse, slot: &str, epoch: u8, log: &Log) -> Result<()> {
    let table = clickhouse.table("replication_epochs_v1");
    let sql = format!("INSERT INTO {table} (epoch, system_identifier, timeline, slot_name) VALUES (?, ?, ?, ?)");
    let note = clickhouse.client().query(&sql).bind(epoch).bind(&log.system_identifier).bind(log.timeline).bind(slot);
    note.execute().await.map_err(away)
}
