//! How replication stands, for whoever looks.

use crate::Options;
use crate::publication::{self, Before};
use crate::slot::Slot;
use crate::sql::{connect, failed};
use continuo_domain::{IndexPosition, Result};
use tokio_postgres::{Client, Row};

/// So many parked rows are shown.
const PARKED_SHOWN: i64 = 100;

/// What the database knows of the replication. The index itself is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The slot, with who reads it now, which is the leader; none where no server has made it, or it is gone.
    pub slot: Option<Slot>,
    /// Bytes of the log that the slot was not told are stored. None without a slot.
    pub lag_bytes: Option<u64>,
    /// Does the publication bring every change of the table?
    pub is_published: bool,
    /// Do transactions note which sessions they change?
    pub is_noted: bool,
    /// What the versions of the index begin with now. None before the first start.
    pub epoch: Option<u8>,
    /// Everything that was committed before it is in the index. None before the first start.
    pub as_of: Option<IndexPosition>,
    /// Has the index what was there before the slot? Lists come from the database until it has.
    pub is_complete: bool,
    /// When database and index were last found, or made, equal. Milliseconds since 1970.
    pub reconciled_at_ms: Option<i64>,
    /// Changes that the index may not have stored yet.
    pub notes: u64,
    /// How many rows the index refused.
    pub parked_count: u64,
    /// The oldest of those, at most 100.
    pub parked: Vec<ParkedSession>,
}

/// A session whose row the index refused. Lists find it in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedSession {
    /// `session_…`.
    pub session_id: String,
    /// The index's words, which may quote the row.
    pub error: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Since when it is parked. Milliseconds since 1970.
    pub parked_at_ms: i64,
    /// When it is tried again. Milliseconds since 1970.
    pub retry_at_ms: i64,
}

/// Looks, and changes nothing.
pub async fn status(options: &Options) -> Result<Status> {
    let client = connect(options).await?;
    let slot = Slot::find(&client, &options.slot_name).await?;
    let is_published = publication::look(&client, &options.publication_name).await? == Before::Whole;
    let row = client.query_one(STATE, &[&options.slot_name]).await.map_err(failed)?;
    let number = |column| row.get::<_, Option<i64>>(column).map(i64::cast_unsigned);
    let oldest_parked = number("oldest_parked").map(|version| IndexPosition::of_version(version.saturating_sub(1)));
    let epoch = row.get::<_, Option<i64>>("epoch").map(|epoch| epoch as u8);
    let as_of = epoch.zip(slot.as_ref()).map(|(epoch, slot)| {
        let confirmed = IndexPosition { epoch, lsn: slot.confirmed_lsn };
        oldest_parked.map_or(confirmed, |parked| parked.min(confirmed))
    });
    let flushed = number("flushed").unwrap_or_default();
    Ok(Status {
        lag_bytes: slot.as_ref().map(|slot| flushed.saturating_sub(slot.confirmed_lsn)),
        slot,
        is_published,
        is_noted: row.get("is_noted"),
        epoch,
        as_of,
        is_complete: row.get::<_, Option<bool>>("is_complete").unwrap_or(false),
        reconciled_at_ms: row.get("reconciled_at_ms"),
        notes: number("notes").unwrap_or_default(),
        parked_count: number("parked").unwrap_or_default(),
        parked: parked(&client, &options.slot_name).await?,
    })
}

const STATE: &str = "SELECT r.epoch, r.is_complete, r.reconciled_at_ms, \
    CAST(pg_current_wal_flush_lsn() - CAST('0/0' AS pg_lsn) AS bigint) AS flushed, \
    (SELECT count(*) FROM session_change) AS notes, \
    (SELECT count(*) FROM session_parked p WHERE p.slot_name = $1) AS parked, \
    (SELECT min(version) FROM session_parked p WHERE p.slot_name = $1) AS oldest_parked, \
    (SELECT count(*) = 2 FROM pg_trigger t WHERE t.tgrelid = CAST('session' AS regclass) \
        AND t.tgname IN ('session_note_change', 'session_note_update')) AS is_noted \
    FROM (SELECT 1) AS one LEFT JOIN session_replication r ON r.slot_name = $1";

async fn parked(client: &Client, slot_name: &str) -> Result<Vec<ParkedSession>> {
    let sql = "SELECT session_id, error, attempts, parked_at_ms, retry_at_ms FROM session_parked WHERE slot_name = $1 \
               ORDER BY parked_at_ms, session_id LIMIT $2";
    let rows = client.query(sql, &[&slot_name, &PARKED_SHOWN]).await.map_err(failed)?;
    let parked = |row: &Row| ParkedSession {
        session_id: row.get("session_id"),
        error: row.get("error"),
        attempts: row.get::<_, i64>("attempts").cast_unsigned(),
        parked_at_ms: row.get("parked_at_ms"),
        retry_at_ms: row.get("retry_at_ms"),
    };
    Ok(rows.iter().map(parked).collect())
}
