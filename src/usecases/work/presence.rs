//! The row of a connected worker: made with its hello, kept while it is heard, gone with its link.

use crate::Core;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Timestamp};
use continuo_ports::worker_store::ConnectedWorker;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// How long the end of a link waits for its row to go: the worker is not told before, and should look for another replica.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a link hears of its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) at: Timestamp,
    pub(super) is_draining: bool,
}

/// Keeps the row beside the link: a heartbeat neither waits for it nor fails with it.
pub(super) struct Presence {
    core: Core,
    row: ConnectedWorker,
    noted_at: Instant,
}

impl Presence {
    /// The worker is listed when this returns, and its tasks are known.
    pub(super) async fn begin(core: &Core, row: ConnectedWorker) -> Result<Self> {
        core.ports.workers.connect_worker(&row, core.workers_lost_before(row.seen_at)).await?;
        Ok(Self { core: core.clone(), row, noted_at: Instant::now() })
    }

    /// Until the link ends, which drops its end of `heard`.
    pub(super) async fn keep(mut self, mut heard: watch::Receiver<Heard>) {
        while let Some(heard) = self.next(&mut heard).await {
            (self.row.seen_at, self.row.is_draining) = (heard.at, heard.is_draining);
            self.noted_at = Instant::now();
            let lost_before = self.core.workers_lost_before(self.core.now());
            if let Err(error) = self.core.ports.workers.note_worker(&self.row, lost_before).await {
                warn!(worker.id = self.row.id, error = %error, cause = ?error.cause(), "that a worker was heard is not noted");
            }
        }
        let ConnectedWorker { environment, id, link, .. } = &self.row;
        let gone = timeout(FAREWELL, self.core.ports.workers.disconnect_worker(environment, id, link)).await;
        if let Err(error) = gone.unwrap_or_else(|late| Err(Error::Unavailable(Cause::new(late)))) {
            warn!(worker.id = id, error = %error, cause = ?error.cause(), "a worker that is gone is listed a while longer");
        }
    }

    /// What is to be noted next, and not before its time: once in `heartbeat_ms`, or when it begins to drain.
    async fn next(&self, heard: &mut watch::Receiver<Heard>) -> Option<Heard> {
        heard.changed().await.ok()?;
        let every = Duration::from_millis(self.core.settings.heartbeat_ms.into());
        let was_draining = self.row.is_draining;
        tokio::select! {
            () = sleep_until(self.noted_at + every) => {}
            drains = heard.wait_for(|heard| heard.is_draining != was_draining) => drop(drains.ok()?),
        }
        Some(*heard.borrow_and_update())
    }
}

impl Core {
    /// A worker that was not heard of since then is lost: it has had the life of a lease, and what a note of it may be late.
    pub(crate) fn workers_lost_before(&self, now: Timestamp) -> Timestamp {
        let patience_ms = i64::from(self.settings.lease_ms) + i64::from(self.settings.heartbeat_ms);
        Timestamp(now.0.saturating_sub(patience_ms))
    }
}
