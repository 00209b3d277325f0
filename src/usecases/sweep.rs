//! The sweeper: reads the state and brings it to where it should be, whoever left it half way.

use crate::Core;
use crate::seen::{PAGE, Seen};
use crate::turn::Turn;
use continuo_domain::session::{ListFilter, ListPosition, PageFrom, SessionStatus};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::session_store::BootEvent;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often closes that were left half done and boots that are due are looked for.
const SWEEP_MS: u64 = 1_000;
/// How often all open waits are compared with their channels, channels are looked through for what is too old, and workers
/// for those that are lost.
const WAITS_EVERY: Duration = Duration::from_secs(60);
/// How often packets that are past their time are looked for.
const PACKETS_EVERY: Duration = Duration::from_secs(3_600);

/// How far a replica looks back that takes over: changes of that time may have found nobody who swept.
const LOOK_BACK_MS: i64 = 600_000;

impl Core {
    /// Finishes closes that were left half done and boots what is due; at the start also what a crash may have left: waits
    /// whose record came, sessions with unread input and no run. One replica does this for all; what a replica owes by
    /// itself it pays itself. Runs until stopping.
    pub async fn run_sweeper(self) {
        // Side by side: what is promised within a second must not wait for a walk over everything.
        tokio::join!(self.sweep_promptly(), self.walk_over_everything());
        self.ports.leases.release_all().await;
    }

    async fn sweep_promptly(&self) {
        let mut turn = Turn::of("sweeper", &*self.ports.leases);
        // From where on changes are looked at; none before the first round of a turn.
        let mut since = None;
        while !self.stopping.is_cancelled() {
            since = if turn.is_ours().await {
                Some(turn.work(self.sweep_round(since)).await)
            } else {
                self.pay_owed_boots().await;
                None
            };
            self.pause(Duration::from_millis(SWEEP_MS)).await;
        }
    }

    /// What takes long, and has time.
    async fn walk_over_everything(&self) {
        let mut turn = Turn::of("walker", &*self.ports.leases);
        let (mut waits_at, mut packets_at) = (None, None);
        while !self.stopping.is_cancelled() {
            if !turn.is_ours().await {
                (waits_at, packets_at) = (None, None);
            } else if is_due(&mut waits_at, WAITS_EVERY) {
                turn.work(async {
                    self.report("waits", self.sweep_waits().await);
                    self.report("old records", self.sweep_ages().await);
                    self.report("workers", self.sweep_workers().await);
                })
                .await;
            } else if is_due(&mut packets_at, PACKETS_EVERY) {
                self.report("packets", turn.work(self.sweep_packets(self.now())).await);
            }
            self.pause(Duration::from_millis(SWEEP_MS)).await;
        }
    }

    async fn pause(&self, length: Duration) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = tokio::time::sleep(length) => {}
        }
    }

    /// Gives the moment from where on the next round looks at changes.
    async fn sweep_round(&self, since: Option<Timestamp>) -> Timestamp {
        let since = match since {
            Some(since) => since,
            None => self.begin_sweeping(self.now()).await,
        };
        self.report("closes", self.sweep_closes().await);
        let now = self.now();
        self.report("debts", self.sweep_debts(now).await);
        let boots = self.sweep_boots(since, now).await;
        // After a sweep that failed the next one looks back as far.
        let next = if boots.is_ok() { Timestamp(now.0 - 10 * SWEEP_MS as i64) } else { since };
        self.report("boots", boots);
        next
    }

    /// What somebody who went away may have left. Gives the moment from where on changes are for the sweeps after it.
    async fn begin_sweeping(&self, now: Timestamp) -> Timestamp {
        if self.ports.channels.is_shared() {
            // The debts tell of input that nobody followed up; looking at every session is for where there are none.
            return Timestamp(now.0 - LOOK_BACK_MS);
        }
        self.report("unread input", self.sweep_all_sessions().await);
        now
    }

    fn report(&self, what: &'static str, outcome: Result<u64>) {
        match outcome {
            Ok(0) => {}
            Ok(count) => info!(what, count, "swept"),
            Err(error) => warn!(what, error = %error, cause = ?error.cause(), "the sweeper will try again"),
        }
    }

    /// Deletes the packets that are past their time at `now`. Counts them.
    pub async fn sweep_packets(&self, now: Timestamp) -> Result<u64> {
        let Some(kept_ms) = self.settings.packets_kept_ms else { return Ok(0) };
        let put_before = Timestamp(now.0.saturating_sub_unsigned(kept_ms));
        self.ports.blobs.delete_packets(put_before).await
    }

    /// Removes workers whose replica went without a word. Counts them.
    pub async fn sweep_workers(&self) -> Result<u64> {
        self.ports.workers.forget_workers(self.workers_lost_before(self.now())).await
    }

    /// Every open wait is registered again (the registry forgets) and compared with its channel. Counts the ones that woke.
    pub async fn sweep_waits(&self) -> Result<u64> {
        let (mut after, mut woken) = (None, 0);
        loop {
            let mut page = self.ports.runs.all_open_waits(after.as_ref(), PAGE).await?;
            let Some(last) = page.last().map(|w| w.id.clone()) else { return Ok(woken) };
            for waitpoint in &mut page {
                if let Err(error) = self.register_and_check(waitpoint).await {
                    warn!(waitpoint.id = %waitpoint.id, error = %error, cause = ?error.cause(), "a wake is late");
                }
                woken += u64::from(!waitpoint.is_open());
            }
            after = Some(last);
        }
    }

    /// Finishes closes whose closer did not. Counts them.
    pub async fn sweep_closes(&self) -> Result<u64> {
        let (mut finished, mut seen) = (0, Seen::new());
        loop {
            let page = self.ports.sessions.unfinished_closes(seen.limit()).await?;
            let (page, has_more) = seen.new_of(page, |session| &session.id);
            for session in page {
                match self.finish_close(&session, None).await {
                    Ok(()) => finished += 1,
                    Err(error) => {
                        warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "a close is half done");
                    }
                }
            }
            if !has_more {
                return Ok(finished);
            }
        }
    }

    /// Tries the boots again that failed on this replica. Says which.
    async fn pay_owed_boots(&self) -> HashSet<(EnvironmentId, SessionId)> {
        let owed = self.signals.take_owed_boots();
        for (environment, session) in &owed {
            self.pay_owed_boot(environment, session).await;
        }
        owed
    }

    /// Boots open sessions with unread input and no live run, of those that changed since `since` or whose backoff is over;
    /// and what this replica owes.
    pub async fn sweep_boots(&self, since: Timestamp, now: Timestamp) -> Result<u64> {
        let tried = self.pay_owed_boots().await;
        let mut after = None;
        loop {
            let page = self.ports.sessions.sessions_without_live_run(since, now, after.as_ref(), PAGE).await?;
            let Some(last) = page.last().map(|s| s.id.clone()) else { return Ok(0) };
            for session in page {
                let this = (session.tenant.environment, session.id);
                // The row of one that failed a moment ago says the same again.
                if tried.contains(&this) {
                    continue;
                }
                if session.boot.is_owed() {
                    self.pay_owed_boot(&this.0, &this.1).await;
                } else {
                    self.boot_or_owe(&this.0, &this.1).await;
                }
            }
            after = Some(last);
        }
    }

    /// What fails is tried again with the next sweep, also when the session is no longer among those that changed.
    async fn boot_or_owe(&self, environment: &EnvironmentId, session: &SessionId) -> bool {
        let Err(error) = self.boot_for_unread(environment, session).await else { return true };
        warn!(session.id = %session, error = %error, cause = ?error.cause(), "unread input waits for the next sweep");
        self.owe_boot(environment, session).await;
        false
    }

    async fn pay_owed_boot(&self, environment: &EnvironmentId, session: &SessionId) {
        if !self.boot_or_owe(environment, session).await {
            return;
        }
        match self.ports.sessions.note_boot(session, BootEvent::Settled, self.now()).await {
            Ok(_) | Err(Error::SessionNotFound) => {}
            Err(error) => {
                warn!(session.id = %session, error = %error, cause = ?error.cause(), "a boot that was looked into stays owed");
            }
        }
    }

    /// Looks at every active session once: after a crash any of them may have input that no run was started for.
    pub(crate) async fn sweep_all_sessions(&self) -> Result<u64> {
        for environment in self.ports.environments.all().await? {
            self.sweep_environment(&environment.tenant.environment).await?;
        }
        Ok(0)
    }

    async fn sweep_environment(&self, environment: &EnvironmentId) -> Result<()> {
        let filter = ListFilter { statuses: vec![SessionStatus::Active], ..ListFilter::default() };
        let mut from = PageFrom::Start;
        while !self.stopping.is_cancelled() {
            let page = self.ports.index.list(environment, &filter, &from, PAGE, self.now()).await?;
            for session in &page.sessions {
                self.boot_or_owe(environment, &session.id).await;
            }
            match page.sessions.last().filter(|_| page.has_older) {
                None => break,
                Some(last) => from = PageFrom::After(ListPosition { created_at: last.created_at, id: last.id.clone() }),
            }
        }
        Ok(())
    }
}

/// True once at its time, which is then set anew.
fn is_due(at: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = at.is_none_or(|at| at <= Instant::now());
    if is_due {
        *at = Some(Instant::now() + every);
    }
    is_due
}
