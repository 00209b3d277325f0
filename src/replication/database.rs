//! What the worker tells the database beside reading its log, over one connection of its own.

use crate::sql::{bytes_of, lsn};
use crate::transaction::whole_id;
use crate::{Lsn, Options, Prepared};
use continuo_clickhouse::{Refusal, SessionRow};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_postgres_link::Link;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// How long a statement may take. One that takes longer is as good as a connection that is lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest text of a refusal that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 2_000;

/// So many removed notes are worth a look through the table.
const DEAD_NOTES: u64 = 10_000;

/// A connection. It ends with this.
pub(crate) struct Database {
    client: Client,
    slot_name: String,
    /// A number near those of the transactions that are read now.
    near: AtomicU64,
    /// Notes that were removed since the table was vacuumed.
    forgotten: AtomicU64,
}

/// How the slot stands.
pub(crate) struct SlotState {
    /// Bytes of the log that it was not told are stored.
    pub(crate) lag_bytes: i64,
    /// Who reads it.
    pub(crate) active_pid: Option<i32>,
    /// It needs more of the log than the server wants to keep.
    pub(crate) is_given_up: bool,
}

/// A refused row whose time has come.
pub(crate) struct ParkedRow {
    pub(crate) session_id: String,
    pub(crate) version: u64,
    /// [`SessionRow`] as JSON.
    pub(crate) row: String,
    pub(crate) attempts: i64,
}

impl Database {
    pub(crate) async fn connect(options: &Options, link: &Link) -> Result<Self> {
        let client = timeout(STATEMENT_TIMEOUT, link.connect(&options.application_name)).await.map_err(failed)??;
        let database = Self {
            client,
            slot_name: options.slot_name.clone(),
            near: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        };
        database.oldest_running().await?;
        Ok(database)
    }

    /// Is there no use in trying again?
    pub(crate) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// Where the stream goes on.
    pub(crate) async fn position(&self) -> Result<Prepared> {
        let row = self
            .one(
                concat!(
                    "SELECT r.epoch, r.is_complete, ",
                    bytes_of!("s.confirmed_flush_lsn"),
                    " AS confirmed_lsn FROM pg_replication_slots s JOIN session_replication r ON r.slot_name = s.slot_name
                     WHERE s.slot_name = $1"
                ),
                &[(&self.slot_name, Type::TEXT)],
            )
            .await?;
        let epoch = u8::try_from(row.get::<_, i64>("epoch")).map_err(Error::internal)?;
        Ok(Prepared { epoch, confirmed_lsn: lsn(&row, "confirmed_lsn"), is_complete: row.get("is_complete") })
    }

    /// Removes the notes of transactions that are stored, but of sessions whose row was refused.
    pub(crate) async fn forget(&self, transactions: &[u32]) -> Result<()> {
        if transactions.is_empty() {
            return Ok(());
        }
        let near = self.near.load(Ordering::Relaxed);
        let transactions: Vec<_> = transactions.iter().map(|id| whole_id(*id, near)).collect();
        let notes = self
            .run(
                "DELETE FROM session_change c WHERE c.transaction_id = ANY($1)
                 AND NOT EXISTS (SELECT 1 FROM session_parked p WHERE p.slot_name = $2 AND p.session_id = c.session_id)",
                &[(&transactions, Type::INT8_ARRAY), (&self.slot_name, Type::TEXT)],
            )
            .await?;
        self.forgotten.fetch_add(notes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes away what many removed notes leave in the table. Every list reads the notes first and steps over what is left of
    /// the dead ones: after a million of them that is most of its time, until the server's own housekeeping comes by, which may be
    /// a minute later.
    pub(crate) async fn vacuum(&self) -> Result<()> {
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        if forgotten < DEAD_NOTES {
            return Ok(());
        }
        // Nobody is made to wait: pages are not given back, and whoever else has the table comes first.
        let vacuum = self.client.batch_execute("VACUUM (TRUNCATE false, SKIP_LOCKED) session_change");
        timeout(STATEMENT_TIMEOUT, vacuum).await.map_err(failed)?.map_err(failed)?;
        self.forgotten.fetch_sub(forgotten, Ordering::Relaxed);
        Ok(())
    }

    /// The number that every transaction below has ended, and a position of the log that is after all of those.
    pub(crate) async fn oldest_running(&self) -> Result<(i64, Lsn)> {
        let row = self
            .one(
                concat!(
                    "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint), ",
                    bytes_of!("pg_current_wal_insert_lsn()"),
                    " AS position"
                ),
                &[],
            )
            .await?;
        let oldest: i64 = row.get(0);
        self.near.store(oldest.cast_unsigned(), Ordering::Relaxed);
        Ok((oldest, lsn(&row, "position")))
    }

    /// Removes the notes of every transaction below `oldest`, but of sessions whose row was refused. How many there were.
    pub(crate) async fn forget_below(&self, oldest: i64) -> Result<u64> {
        self.run(
            "DELETE FROM session_change c WHERE c.transaction_id < $1
             AND NOT EXISTS (SELECT 1 FROM session_parked p WHERE p.slot_name = $2 AND p.session_id = c.session_id)",
            &[(&oldest, Type::INT8), (&self.slot_name, Type::TEXT)],
        )
        .await
    }

    pub(crate) async fn slot(&self) -> Result<SlotState> {
        let row = self
            .one(
                "SELECT CAST(pg_current_wal_flush_lsn() - confirmed_flush_lsn AS bigint), active_pid,
                        COALESCE(wal_status IN ('unreserved', 'lost'), true)
                 FROM pg_replication_slots WHERE slot_name = $1",
                &[(&self.slot_name, Type::TEXT)],
            )
            .await?;
        Ok(SlotState { lag_bytes: row.get(0), active_pid: row.get(1), is_given_up: row.get(2) })
    }

    /// The table was emptied: the index has rows that nobody will delete one by one.
    pub(crate) async fn mark_incomplete(&self) -> Result<()> {
        self.run(
            "UPDATE session_replication SET is_complete = false WHERE slot_name = $1",
            &[(&self.slot_name, Type::TEXT)],
        )
        .await
        .map(drop)
    }

    /// The rows that are parked, each with its version.
    pub(crate) async fn parked(&self) -> Result<Vec<(String, u64)>> {
        let rows = self
            .rows(
                "SELECT session_id, version FROM session_parked WHERE slot_name = $1",
                &[(&self.slot_name, Type::TEXT)],
            )
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned())).collect())
    }

    /// Keeps a row that was refused, unless a newer one of the session is kept. Its session has a note from then on, also where
    /// no change noted it: a list finds it in the database.
    pub(crate) async fn park(&self, row: &SessionRow, refusal: &Refusal, now_ms: i64, retry_at_ms: i64) -> Result<()> {
        let text = serde_json::to_string(row).map_err(Error::internal)?;
        let version = row._version.cast_signed();
        self.run(
            "WITH note AS (
                INSERT INTO session_change (transaction_id, session_id, environment_id, created_at_ms)
                VALUES (CAST(CAST(pg_current_xact_id() AS text) AS bigint), $2, $8, $9) ON CONFLICT DO NOTHING
             )
             INSERT INTO session_parked
                (slot_name, session_id, version, index_row, error, attempts, parked_at_ms, retry_at_ms)
             VALUES ($1, $2, $3, CAST($4 AS jsonb), $5, 1, $6, $7)
             ON CONFLICT (slot_name, session_id) DO UPDATE SET version = EXCLUDED.version, index_row = EXCLUDED.index_row,
                error = EXCLUDED.error, attempts = 1, retry_at_ms = EXCLUDED.retry_at_ms
             WHERE session_parked.version <= EXCLUDED.version",
            &[
                (&self.slot_name, Type::TEXT),
                (&row.session_id, Type::TEXT),
                (&version, Type::INT8),
                (&text, Type::TEXT),
                (&shortened(&refusal.text), Type::TEXT),
                (&now_ms, Type::INT8),
                (&retry_at_ms, Type::INT8),
                (&row.environment_id, Type::TEXT),
                (&row.created_at, Type::INT8),
            ],
        )
        .await
        .map(drop)
    }

    /// The refused rows whose time has come, the most overdue first.
    pub(crate) async fn due(&self, now_ms: i64, limit: i64) -> Result<Vec<ParkedRow>> {
        let rows = self
            .rows(
                "SELECT session_id, version, CAST(index_row AS text), attempts FROM session_parked
                 WHERE slot_name = $1 AND retry_at_ms <= $2 ORDER BY retry_at_ms LIMIT $3",
                &[(&self.slot_name, Type::TEXT), (&now_ms, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        let read = |row: &Row| ParkedRow {
            session_id: row.get(0),
            version: row.get::<_, i64>(1).cast_unsigned(),
            row: row.get(2),
            attempts: row.get(3),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// It was refused once more.
    pub(crate) async fn park_again(&self, parked: &ParkedRow, error: &str, retry_at_ms: i64) -> Result<()> {
        self.run(
            "UPDATE session_parked SET attempts = attempts + 1, error = $4, retry_at_ms = $5
             WHERE slot_name = $1 AND session_id = $2 AND version = $3",
            &[
                (&self.slot_name, Type::TEXT),
                (&parked.session_id, Type::TEXT),
                (&parked.version.cast_signed(), Type::INT8),
                (&shortened(error), Type::TEXT),
                (&retry_at_ms, Type::INT8),
            ],
        )
        .await
        .map(drop)
    }

    /// The index has the session as of `version`: an older row of it is of no use any more.
    pub(crate) async fn unpark(&self, session_id: &str, version: u64) -> Result<()> {
        self.run(
            "DELETE FROM session_parked WHERE slot_name = $1 AND session_id = $2 AND version <= $3",
            &[(&self.slot_name, Type::TEXT), (&session_id, Type::TEXT), (&version.cast_signed(), Type::INT8)],
        )
        .await
        .map(drop)
    }

    async fn run(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64> {
        timeout(STATEMENT_TIMEOUT, self.client.execute_typed(sql, parameters)).await.map_err(failed)?.map_err(failed)
    }

    async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        timeout(STATEMENT_TIMEOUT, self.client.query_typed(sql, parameters)).await.map_err(failed)?.map_err(failed)
    }

    async fn one(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row> {
        let first = self.rows(sql, parameters).await?.into_iter().next();
        first.ok_or_else(|| failed(format!("the database knows no slot {}", self.slot_name)))
    }
}

type Parameter<'a> = (&'a (dyn tokio_postgres::types::ToSql + Sync), Type);

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable(Cause::new(error))
}
