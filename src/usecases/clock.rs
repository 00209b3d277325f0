//! The clock: moves everything that is due by time. Woken by a hint and by itself, so a lost hint costs latency only.

use crate::Core;
use crate::seen::{PAGE, Seen};
use crate::turn::Turn;
use continuo_domain::run::RunCommand;
use continuo_domain::waitpoint::{Completion, Waitpoint, WaitpointKind};
use continuo_domain::{Result, Timestamp};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

/// Longest sleep of the clock loop.
const CLOCK_MAX: Duration = Duration::from_secs(1);
/// Shortest time between a round and one that a hint asks for: where much happens, one round is for all of it.
const CLOCK_MIN: Duration = Duration::from_millis(5);

impl Core {
    /// Moves everything that is due by the clock: leases, time limits, delays, retries, timeouts of waits. One replica does
    /// this for all; each wakes its own workers for what has become available meanwhile. Runs until stopping.
    pub async fn run_clock(self) {
        let mut turn = Turn::of("clock", &*self.ports.leases);
        // When workers look at their queues again. A change of the timers, which every heartbeat is, never puts it off.
        let mut look_at = Instant::now() + CLOCK_MAX;
        let mut due = None;
        while !self.stopping.is_cancelled() {
            let is_ours = turn.is_ours().await;
            self.signals.clock_is_here(is_ours);
            let now = self.now();
            if Instant::now() >= look_at || due.is_some_and(|due| due <= now) {
                self.signals.work_due();
                look_at = Instant::now() + CLOCK_MAX;
            }
            due = if is_ours { turn.work(self.round_of_clock(now)).await } else { None };
            if let Some(due) = due {
                look_at = look_at.min(Instant::now() + Duration::from_millis(due.ms_since(now).max(1)));
            }
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.signals.next_timer_change(), if is_ours => sleep(CLOCK_MIN).await,
                () = sleep_until(look_at) => {}
            }
        }
        self.ports.leases.release_all().await;
    }

    /// Says when something is due next.
    async fn round_of_clock(&self, now: Timestamp) -> Option<Timestamp> {
        self.tick(now).await.unwrap_or_else(|error| {
            warn!(error = %error, cause = ?error.cause(), "the clock will try again");
            None
        })
    }

    /// One round of the clock at `now`: moves what is due, and says when something is due next.
    pub async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let moved = self.tick_runs(now).await? + self.tick_waitpoints(now).await?;
        // More may be due than one round takes; where nothing moves, trying at once does not help.
        if moved >= PAGE {
            return Ok(Some(now));
        }
        self.ports.runs.next_due(now).await
    }

    /// One page of those that can be moved.
    async fn tick_runs(&self, now: Timestamp) -> Result<u32> {
        let (mut moved, mut seen) = (0, Seen::new());
        loop {
            let page = self.ports.runs.due_runs(now, seen.limit()).await?;
            let (page, has_more) = seen.new_of(page, |run| &run.spec.id);
            for run in page {
                let id = run.spec.id;
                match self.ports.runs.apply(&run.spec.environment, &id, RunCommand::Tick, now).await {
                    Ok(applied) => {
                        moved += 1;
                        self.after_run_change(&applied).await;
                    }
                    // One that cannot be moved must not stop the clock for the others.
                    Err(error) => {
                        warn!(run.id = %id, error = %error, cause = ?error.cause(), "a due run waits");
                    }
                }
            }
            if !has_more || moved >= PAGE {
                return Ok(moved);
            }
        }
    }

    async fn tick_waitpoints(&self, now: Timestamp) -> Result<u32> {
        let (mut moved, mut seen) = (0, Seen::new());
        loop {
            let page = self.ports.runs.timed_out_waitpoints(now, seen.limit()).await?;
            let (page, has_more) = seen.new_of(page, |waitpoint| &waitpoint.id);
            for waitpoint in page {
                match self.complete(&waitpoint.id, completion_by_time(&waitpoint, now)).await {
                    Ok(_) => moved += 1,
                    Err(error) => {
                        warn!(waitpoint.id = %waitpoint.id, error = %error, cause = ?error.cause(), "a timeout waits");
                    }
                }
            }
            if !has_more || moved >= PAGE {
                return Ok(moved);
            }
        }
    }
}

fn completion_by_time(waitpoint: &Waitpoint, now: Timestamp) -> Completion {
    match waitpoint.kind {
        WaitpointKind::Manual => Completion::timed_out(&waitpoint.timeout_at.unwrap_or(now).to_iso()),
        WaitpointKind::DateTime | WaitpointKind::Run => Completion::empty(),
    }
}
