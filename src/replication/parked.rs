//! Rows that the index refused: kept in the database, tried again on a clock.

use crate::database::Database;
use crate::metrics::Metrics;
use crate::store::Store;
use continuo_clickhouse::{Refusal, SessionRow};
use continuo_domain::Result;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;

/// Above that many it is not the rows: the worker waits for the index to be mended and parks no more.
pub(crate) const PARKED_MAX: usize = 1_000;
/// After the first refusal a row is tried again in so long, then in twice that, and so on.
const RETRY_FIRST_MS: i64 = 10_000;
/// But never later than that.
const RETRY_LONGEST_MS: i64 = 600_000;
/// So many are tried at a time.
const RETRY_ROWS: i64 = 100;
/// How often it is looked whether the time of any has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The parked rows of a slot. Each is the newest that the log had of its session when the index refused it, so that what is
/// tried again is what the database has, or a newer row is on its way.
pub(crate) struct Parked {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    /// The sessions that may be parked, with their versions.
    versions: Mutex<HashMap<String, u64>>,
}

impl Parked {
    pub(crate) async fn load(database: Arc<Database>, metrics: Arc<Metrics>) -> Result<Self> {
        let parked = Self { database, metrics, versions: Mutex::default() };
        parked.look().await?;
        Ok(parked)
    }

    /// Learns of rows that were parked elsewhere, or are no more: by the worker before, or by a comparison. One that is parked
    /// at this moment is learned of by the next look.
    async fn look(&self) -> Result<()> {
        let versions = self.database.parked().await?.into_iter().collect();
        *self.versions.lock() = versions;
        self.count();
        Ok(())
    }

    pub(crate) fn has_room(&self) -> bool {
        self.versions.lock().len() < PARKED_MAX
    }

    /// Keeps a row. It is durable when this returns.
    pub(crate) async fn park(&self, row: &SessionRow, refusal: &Refusal) -> Result<()> {
        let now = now_ms();
        self.database.park(row, refusal, now, now + RETRY_FIRST_MS).await?;
        tracing::error!(
            session = row.session_id,
            code = refusal.code,
            "the index refused a session; its row is parked"
        );
        let newest = |version: &mut u64| *version = (*version).max(row._version);
        self.versions.lock().entry(row.session_id.clone()).and_modify(newest).or_insert(row._version);
        self.count();
        Ok(())
    }

    /// The index has these: older rows of the same sessions need not be kept.
    pub(crate) async fn stored(&self, rows: &[SessionRow]) -> Result<()> {
        let older: Vec<_> = {
            let versions = self.versions.lock();
            if versions.is_empty() {
                return Ok(());
            }
            let is_older =
                |row: &&SessionRow| versions.get(&row.session_id).is_some_and(|parked| *parked <= row._version);
            rows.iter().filter(is_older).map(|row| (row.session_id.clone(), row._version)).collect()
        };
        for (session_id, version) in older {
            self.unpark(&session_id, version).await?;
        }
        Ok(())
    }

    /// Tries parked rows again, each when its time has come. Ends with the connection to the database.
    pub(crate) async fn retry_for_ever(&self, store: &Store) -> Result<Infallible> {
        loop {
            if let Err(error) = self.retry(store).await {
                if self.database.is_lost() {
                    return Err(error);
                }
                tracing::debug!(?error, "the parked rows are tried another time");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Tries the rows whose time has come. Those that the index has a newer row of, which overtook them, are dropped.
    async fn retry(&self, store: &Store) -> Result<()> {
        self.look().await?;
        if self.versions.lock().is_empty() {
            return Ok(());
        }
        for parked in self.database.due(now_ms(), RETRY_ROWS).await? {
            let later = now_ms() + wait_ms(parked.attempts);
            let Ok(row) = serde_json::from_str::<SessionRow>(&parked.row) else {
                self.database.park_again(&parked, "another release parked it, and it cannot be read", later).await?;
                continue;
            };
            if store.newest(&row).await? < row._version
                && let Err(refusal) = store.retry(&row).await?
            {
                self.database.park_again(&parked, &refusal.text, later).await?;
                continue;
            }
            self.unpark(&parked.session_id, parked.version).await?;
        }
        Ok(())
    }

    async fn unpark(&self, session_id: &str, version: u64) -> Result<()> {
        self.database.unpark(session_id, version).await?;
        let mut versions = self.versions.lock();
        if versions.get(session_id).is_some_and(|parked| *parked <= version) {
            versions.remove(session_id);
        }
        drop(versions);
        self.count();
        Ok(())
    }

    fn count(&self) {
        self.metrics.parked_rows.set(self.versions.lock().len() as i64);
    }
}

fn wait_ms(attempts: i64) -> i64 {
    RETRY_FIRST_MS.saturating_mul(1 << attempts.clamp(0, 16)).min(RETRY_LONGEST_MS)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
