//! Background loops. Each reads the state and brings it to where it should be; each is woken by a hint and by a clock, so a
//! lost hint costs latency only.

use crate::Core;
use continuo_domain::run::RunCommand;
use continuo_domain::session::{ListFilter, ListPosition, PageFrom, SessionStatus};
use continuo_domain::waitpoint::{Completion, WaitpointKind};
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp};
use std::time::Duration;
use tracing::{info, warn};

const PAGE: u32 = 100;
/// Longest sleep of the clock loop.
const CLOCK_MS_MAX: u64 = 1_000;
/// How often closes that were left half done and boots that are due are looked for.
const SWEEP_MS: u64 = 1_000;
/// How often all open waits are compared with their channels, and channels are looked through for what is too old.
const WAITS_EVERY: Duration = Duration::from_secs(60);
/// How often packets that are past their time are looked for.
const PACKETS_EVERY: Duration = Duration::from_secs(3_600);

impl Core {
    /// Moves everything that is due by the clock: leases, time limits, delays, retries, timeouts of waits. Runs until stopping.
    pub async fn run_clock(self) {
        while !self.stopping.is_cancelled() {
            let now = self.now();
            let sleep_ms = match self.tick(now).await {
                Ok(Some(next)) => next.ms_since(now).clamp(1, CLOCK_MS_MAX),
                Ok(None) => CLOCK_MS_MAX,
                Err(error) => {
                    warn!(error = %error, cause = ?error.cause(), "the clock will try again");
                    CLOCK_MS_MAX
                }
            };
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.signals.next_timer_change() => {}
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => self.signals.work_due(),
            }
        }
    }

    /// One round of the clock at `now`: moves what is due, and says when something is due next.
    pub async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut moved = 0;
        for run in self.ports.runs.due_runs(now, PAGE).await? {
            match self.ports.runs.apply(&run.spec.environment, &run.spec.id, RunCommand::Tick, now).await {
                Ok(applied) => {
                    moved += 1;
                    self.after_run_change(&applied).await;
                }
                // One that cannot be moved must not stop the clock for the others.
                Err(error) => warn!(run.id = %run.spec.id, error = %error, cause = ?error.cause(), "a due run waits"),
            }
        }
        for waitpoint in self.ports.runs.timed_out_waitpoints(now, PAGE).await? {
            let completion = match waitpoint.kind {
                WaitpointKind::Manual => Completion::timed_out(&waitpoint.timeout_at.unwrap_or(now).to_iso()),
                WaitpointKind::DateTime | WaitpointKind::Run => Completion::empty(),
            };
            match self.complete(&waitpoint.id, completion).await {
                Ok(_) => moved += 1,
                Err(error) => {
                    warn!(waitpoint.id = %waitpoint.id, error = %error, cause = ?error.cause(), "a timeout waits");
                }
            }
        }
        // More may be due than one round takes; where nothing moves, trying at once does not help.
        if moved >= PAGE {
            return Ok(Some(now));
        }
        self.ports.runs.next_due(now).await
    }

    /// Finishes closes that were left half done and boots what is due; at the start also what a crash may have left: waits
    /// whose record came, sessions with unread input and no run. Runs until stopping.
    pub async fn run_sweeper(self) {
        // What changes during the first look at everything is for the sweep after it.
        let mut since = self.now();
        self.report("waits", self.sweep_waits().await);
        self.report("unread input", self.sweep_all_sessions().await);
        let mut waits_at = tokio::time::Instant::now() + WAITS_EVERY;
        let mut packets_at = tokio::time::Instant::now();
        while !self.stopping.is_cancelled() {
            let now = self.now();
            self.report("closes", self.sweep_closes().await);
            let boots = self.sweep_boots(since, now).await;
            // After a sweep that failed the next one looks back as far.
            if boots.is_ok() {
                since = Timestamp(now.0 - 10 * SWEEP_MS as i64);
            }
            self.report("boots", boots);
            if tokio::time::Instant::now() >= waits_at {
                self.report("waits", self.sweep_waits().await);
                self.report("old records", self.sweep_ages().await);
                waits_at = tokio::time::Instant::now() + WAITS_EVERY;
            }
            if tokio::time::Instant::now() >= packets_at {
                self.report("packets", self.sweep_packets(now).await);
                packets_at = tokio::time::Instant::now() + PACKETS_EVERY;
            }
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(SWEEP_MS)) => {}
            }
        }
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
        let mut finished = 0;
        for session in self.ports.sessions.unfinished_closes(PAGE).await? {
            match self.finish_close(&session, None).await {
                Ok(()) => finished += 1,
                Err(error) => {
                    warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "a close is half done");
                }
            }
        }
        Ok(finished)
    }

    /// Boots open sessions with unread input and no live run, of those that changed since `since` or whose backoff is over.
    pub async fn sweep_boots(&self, since: Timestamp, now: Timestamp) -> Result<u64> {
        for (environment, session) in self.signals.take_owed_boots() {
            self.boot_or_owe(&environment, &session).await;
        }
        let mut after = None;
        loop {
            let page = self.ports.sessions.sessions_without_live_run(since, now, after.as_ref(), PAGE).await?;
            let Some(last) = page.last().map(|s| s.id.clone()) else { return Ok(0) };
            for session in page {
                self.boot_or_owe(&session.tenant.environment, &session.id).await;
            }
            after = Some(last);
        }
    }

    /// What fails is tried again with the next sweep, also when the session is no longer among those that changed.
    async fn boot_or_owe(&self, environment: &EnvironmentId, session: &SessionId) {
        if let Err(error) = self.boot_for_unread(environment, session).await {
            warn!(session.id = %session, error = %error, cause = ?error.cause(), "unread input waits for the next sweep");
            self.signals.owe_boot(environment, session);
        }
    }

    /// Looks at every active session once: after a crash any of them may have input that no run was started for.
    async fn sweep_all_sessions(&self) -> Result<u64> {
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
