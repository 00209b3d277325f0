//! Whose turn it is to do what one replica is enough for.

use continuo_ports::Leases;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

/// How long a replica that is gone keeps a job from the others.
pub(crate) const LEASE_TTL: Duration = Duration::from_millis(2_500);
/// How long an answer counts.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The lease of one job, as this replica sees it.
pub(crate) struct Turn<'a> {
    job: &'static str,
    leases: &'a dyn Leases,
    is_ours: bool,
    asked_at: Option<Instant>,
}

impl<'a> Turn<'a> {
    pub(crate) fn of(job: &'static str, leases: &'a dyn Leases) -> Self {
        Self { job, leases, is_ours: false, asked_at: None }
    }

    /// Is it ours? Without an answer it is: doing it twice is right, doing it never is not.
    pub(crate) async fn is_ours(&mut self) -> bool {
        if self.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.ask().await;
        }
        self.is_ours
    }

    /// Does some of the job, and keeps the lease meanwhile.
    pub(crate) async fn work<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(ASK_EVERY) => self.ask().await,
            }
        }
    }

    async fn ask(&mut self) {
        let is_ours = match self.leases.hold(self.job, LEASE_TTL).await {
            Ok(is_ours) => is_ours,
            Err(error) => {
                debug!(job = self.job, cause = ?error.cause(), "nobody says whose turn it is");
                true
            }
        };
        if is_ours != self.is_ours {
            info!(job = self.job, is_ours, "the turn has changed");
        }
        (self.is_ours, self.asked_at) = (is_ours, Some(Instant::now()));
    }
}
