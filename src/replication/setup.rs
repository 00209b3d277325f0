//! What the stream stands on: the trigger, the publication, the slot, the epoch. Made where it is missing, by one process at a
//! time, and said to be incomplete wherever something was not there that should have been.

use crate::flights::Lsn;
use crate::index;
use crate::publication::{self, Before};
use crate::slot::Slot;
use crate::sql::{connect, failed};
use crate::{Options, epoch};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Violation};
use continuo_migrations::replication::{INSTALL, REMOVE};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Whoever makes or takes away any of this holds it, in this database.
const LOCK: &str = "hashtextextended('continuo replication', 0)";
/// How long the set-up may wait for the table, and everyone who comes after it with it.
const LOCK_TIMEOUT: &str = "2s";
/// Longest name Postgres has for anything.
const NAME_BYTES_MAX: usize = 63;

/// Where the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The epoch of every version that is written from here on.
    pub epoch: u8,
    /// Everything before it is stored.
    pub confirmed_lsn: Lsn,
    /// Whether the index has all that was in the database before the slot; if not, [`crate::reconcile`] brings it.
    pub is_complete: bool,
}

/// Makes what is missing, and says where the stream goes on. Any number of processes may do so at once, also while another one
/// reads the slot. Fails with a violation where an operator has to act, and with [`Error::Unavailable`] where a later try may
/// pass.
pub async fn prepare(options: &Options) -> Result<Prepared> {
    check_names(options)?;
    let clickhouse = index::open(options).await?;
    let client = connect(options).await?;
    check_server(&client).await?;
    lock(&client).await?;
    install(&client).await?;
    let noted = epoch::settle(&client, &clickhouse, &options.slot_name).await?;
    let before = publication::ensure(&client, &options.publication_name).await?;
    let found = Slot::find(&client, &options.slot_name).await?;
    let is_usable = found.as_ref().is_some_and(|slot| !slot.is_lost) && before != Before::Missing;
    let is_complete = noted.is_complete && is_usable && before == Before::Whole;
    if !is_usable || (noted.is_complete && !is_complete) {
        // Before the slot is made: a crash in between leaves an index that is known to be incomplete. Also where that is known
        // already: a comparison that is under way sees by the row that it began with another slot.
        let sql = "UPDATE session_replication SET is_complete = false WHERE slot_name = $1";
        client.execute(sql, &[&options.slot_name]).await.map_err(failed)?;
    }
    if !is_usable {
        if found.is_some() {
            Slot::drop(&client, &options.slot_name).await?;
        }
        Slot::create(&client, &options.slot_name).await?;
    }
    let slot = Slot::find(&client, &options.slot_name).await?;
    let slot = slot.ok_or_else(|| Error::Unavailable(Cause::new("the replication slot was dropped meanwhile")))?;
    unlock(&client).await?;
    Ok(Prepared { epoch: noted.epoch, confirmed_lsn: slot.confirmed_lsn, is_complete })
}

/// Takes everything back that [`prepare`] made in Postgres: the slot, so that it keeps no log any more, the publication, the
/// trigger with its notes, and what is known of the index. The index itself stays. Fails while a worker reads the slot.
pub async fn drop_replication(options: &Options) -> Result<()> {
    check_names(options)?;
    let client = connect(options).await?;
    lock(&client).await?;
    if Slot::find(&client, &options.slot_name).await?.is_some() {
        Slot::drop(&client, &options.slot_name).await?;
    }
    let publication = publication::quoted(&options.publication_name);
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; DROP PUBLICATION IF EXISTS {publication}; {REMOVE} COMMIT"
    );
    client.batch_execute(&sql).await.map_err(table_in_use)?;
    unlock(&client).await
}

fn check_names(options: &Options) -> Result<()> {
    let slot = &options.slot_name;
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if slot.is_empty() || slot.len() > NAME_BYTES_MAX || !slot.bytes().all(is_fit) {
        let problem = "must be of lower-case letters, digits and `_`, at most 63 of them";
        return Err(Violation::new("replication.slot_name", problem).into());
    }
    let publication = &options.publication_name;
    // The protocol lists publications by commas.
    let is_fit = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
    if publication.is_empty() || publication.len() > NAME_BYTES_MAX || !publication.chars().all(is_fit) {
        let problem = "must be of at most 63 bytes, without white space and commas";
        return Err(Violation::new("replication.publication_name", problem).into());
    }
    Ok(())
}

async fn check_server(client: &Client) -> Result<()> {
    let sql = "SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS is_standby";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let wal_level: String = row.get("wal_level");
    let problem = if row.get("is_standby") {
        "names a standby: replication needs the primary".to_owned()
    } else if wal_level != "logical" {
        format!(
            "names a server whose log has too little in it for replication: set wal_level = logical there (it is {wal_level}) \
             and restart it"
        )
    } else {
        return Ok(());
    };
    Err(Violation::new("database.url", problem).into())
}

async fn lock(client: &Client) -> Result<()> {
    client.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await.map_err(failed)
}

async fn unlock(client: &Client) -> Result<()> {
    client.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await.map_err(failed)
}

async fn install(client: &Client) -> Result<()> {
    let sql = format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {INSTALL} COMMIT");
    client.batch_execute(&sql).await.map_err(table_in_use)
}

/// A long transaction holds the table; who waits for it would hold up everyone else.
fn table_in_use(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Error::Unavailable(Cause::new(format!("the table session was in use for {LOCK_TIMEOUT}: {error}")))
        }
        _ => failed(error),
    }
}
