//! Lists from a read replica of Postgres, as far as it has what the primary had.
//!
//! Freshness is asked for, not hoped for: a list first asks the primary how far its log is on disk, which is past every write
//! that any replica of ours has acknowledged, and reads from the replica only if that has replayed as much. So a list sees
//! what it would see on the primary; a replica that lags or is away costs that question and moves the list to the primary.

use crate::error::{damaged, failed};
use crate::reads::Reads;
use continuo_domain::{Error, Result};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a replica that did not answer is left alone.
const AWAY: Duration = Duration::from_secs(5);
/// The check is a transaction of its own, on the same connection: what it finds replayed is in every snapshot taken later.
const CHECKED: &str = "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

pub(crate) struct Replica {
    reads: Reads,
    away_until: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn new(reads: Reads) -> Self {
        Self { reads, away_until: Mutex::new(None) }
    }

    /// A snapshot of the replica with everything that was acknowledged before this call, or `None` where it has not.
    pub(crate) async fn snapshot(&self, primary: &Reads) -> Result<Option<DatabaseTransaction>> {
        if self.is_away() {
            return Ok(None);
        }
        let flushed = "SELECT CAST(pg_current_wal_flush_lsn() AS text) AS position";
        let row = primary.query_one_raw(Statement::from_string(DbBackend::Postgres, flushed)).await.map_err(failed)?;
        let position = row.and_then(|row| row.try_get::<String>("", "position").ok());
        let position = position.ok_or_else(|| damaged("the primary", "log", "it has no position"))?;
        let answer = self.snapshot_at(position).await;
        if let Err(error) = &answer {
            tracing::warn!(
                cause = error.cause().map(|c| c.for_log()),
                "the read replica does not answer; lists go to the primary"
            );
            *self.away_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now() + AWAY);
        }
        Ok(answer.unwrap_or_default())
    }

    /// One that is no standby (any more) has replayed nothing.
    async fn snapshot_at(&self, position: String) -> Result<Option<DatabaseTransaction>, Error> {
        let tx = self.reads.begin(None).await.map_err(failed)?;
        let replayed = "SELECT COALESCE(pg_last_wal_replay_lsn() >= CAST($1 AS pg_lsn), false) AS is_fresh";
        let replayed = Statement::from_sql_and_values(DbBackend::Postgres, replayed, [position.into()]);
        let row = self.reads.within(tx.query_one_raw(replayed)).await.map_err(failed)?;
        if !row.is_some_and(|row| row.try_get("", "is_fresh").unwrap_or(false)) {
            return Ok(None);
        }
        self.reads.within(tx.execute_unprepared(CHECKED)).await.map_err(failed)?;
        Ok(Some(tx))
    }

    pub(crate) async fn close(&self) {
        self.reads.close().await;
    }

    fn is_away(&self) -> bool {
        let until = *self.away_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}
