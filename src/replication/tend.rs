//! What has to be looked after beside the stream.

use crate::database::Database;
use crate::metrics::Metrics;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Every so many looks, notes that nobody removed are looked for.
const SWEEP_EVERY_LOOKS: u32 = 5;

/// A slot that is given up, and that nothing was acknowledged to for so many looks, is let go.
const GIVEN_UP_LOOKS: u32 = 5;

/// Looks after the slot and the notes. It asks only the database, so that nothing that ClickHouse does keeps it from that.
pub(crate) struct Tender {
    pub(crate) database: Arc<Database>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) acknowledged: Arc<AtomicU64>,
}

impl Tender {
    /// Runs until the connection to the database is lost, or somebody else has the slot, or the server wants it back.
    pub(crate) async fn run(self) -> Result<()> {
        let reader = self.database.slot().await?.active_pid;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = None;
        let (mut acknowledged, mut idle_looks) = (0, 0);
        for look in 0_u32.. {
            looks.tick().await;
            let slot = self.database.slot().await?;
            self.metrics.acked_lsn_lag_bytes.set(slot.lag_bytes.max(0));
            if slot.active_pid.is_none() || slot.active_pid != reader {
                return Err(lost("the server does not send its log to this worker any more"));
            }
            // While nothing can be stored, nothing is read, and the server cannot even say that it ends the connection: it would
            // hang in that, and no checkpoint could finish before it is free of the slot.
            let before = std::mem::replace(&mut acknowledged, self.acknowledged.load(Ordering::Relaxed));
            idle_looks = if slot.is_given_up && acknowledged == before { idle_looks + 1 } else { 0 };
            if idle_looks >= GIVEN_UP_LOOKS {
                return Err(lost("the server does not keep its log for the index any longer"));
            }
            if look % SWEEP_EVERY_LOOKS == 0 {
                sweep = self.sweep(sweep).await?;
                self.database.vacuum().await?;
            }
        }
        Ok(())
    }

    /// Removes the notes that a batch does not: of rows that were parked once, of a worker that ended between the store and the
    /// removal, of transactions before the slot. All that had ended at the look before and is behind what is acknowledged
    /// is stored.
    async fn sweep(&self, ended: Option<(i64, u64)>) -> Result<Option<(i64, u64)>> {
        let Some((oldest, lsn)) = ended else { return self.database.oldest_running().await.map(Some) };
        if self.acknowledged.load(Ordering::Relaxed) < lsn {
            return Ok(ended);
        }
        let notes = self.database.forget_below(oldest).await?;
        if notes > 0 {
            tracing::debug!(notes, "notes that nobody had removed are removed");
        }
        self.database.oldest_running().await.map(Some)
    }
}

fn lost(text: &'static str) -> Error {
    Error::Unavailable(Cause::new(text))
}
