//! The rules by which a run changes. A command goes in, the changed run and what it means for others come out.

use super::{Lease, Run, RunError, RunStatus};
use crate::channel::SeqNum;
use crate::id::WaitpointId;
use crate::time::Timestamp;
use crate::{Error, Result};

/// After the task failed.
const RETRY_BACKOFF_FIRST_MS: u64 = 1_000;
/// After its worker was lost, which says little about the task: another one should go on soon.
const LOST_BACKOFF_FIRST_MS: u64 = 200;
const RETRY_BACKOFF_MAX_MS: u64 = 30_000;

/// By what right a caller changes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It holds this lease.
    Lease(u64),
    /// It acts on this execution snapshot.
    Snapshot(u64),
    /// It owns the environment; whatever the run is doing.
    Owner,
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// A worker takes it from the queue.
    Dequeue {
        /// Who.
        worker: String,
        /// Through which link.
        link: String,
        /// Until when, unless renewed.
        lease_until: Timestamp,
    },
    /// The worker begins an attempt.
    Start(Holder),
    /// The worker is still there.
    Renew {
        /// Whose right.
        holder: Holder,
        /// The link it has come back through; `None` where it stays with the one it has. A heartbeat may be read long after
        /// it was sent, by a replica that stood still, when the worker has come back elsewhere.
        link: Option<String>,
        /// The new end.
        lease_until: Timestamp,
    },
    /// The run has read its session's `.in` up to here (exclusive). Only ever forward.
    Read {
        /// Whose right.
        holder: Holder,
        /// Everything below was read.
        seq_num: SeqNum,
    },
    /// The run waits and gives its capacity back.
    Suspend {
        /// Whose right.
        holder: Holder,
        /// For what.
        waitpoint: WaitpointId,
    },
    /// What it waited for has happened.
    Resume {
        /// The waitpoint.
        waitpoint: WaitpointId,
    },
    /// The task returned.
    Complete {
        /// Whose right.
        holder: Holder,
        /// Result text.
        output: Option<String>,
        /// Its content type.
        output_type: Option<String>,
    },
    /// The task failed.
    Fail {
        /// Whose right.
        holder: Holder,
        /// Why.
        error: RunError,
        /// The worker allows another attempt.
        may_retry: bool,
    },
    /// The worker's stream is lost.
    LoseLease {
        /// The lease that is lost; another one is left alone.
        number: u64,
        /// The link that ended; a lease that the worker holds through another one by now is left alone.
        link: String,
        /// What happened.
        error: RunError,
    },
    /// A caller ends it.
    Cancel {
        /// Why, for people.
        reason: String,
    },
    /// A newer run has its session: an executing run is to end by itself until `by`, any other is canceled at once.
    HandOver {
        /// The end of the grace.
        by: Timestamp,
    },
    /// A delayed run gets another start.
    Reschedule {
        /// The new one; it is queued at once if that is past.
        at: Timestamp,
    },
    /// The clock has moved on.
    Tick,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptChange {
    /// It began.
    Started {
        /// From 1.
        number: u32,
        /// On which worker.
        worker: String,
    },
    /// It is over.
    Ended {
        /// From 1.
        number: u32,
        /// Why it failed, if it did.
        error: Option<RunError>,
    },
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunChange {
    /// The status before.
    pub was: RunStatus,
    /// The lease this change ended.
    pub ended_lease: Option<Lease>,
    /// The attempt it concerns.
    pub attempt: Option<AttemptChange>,
    /// Nothing changed: a repeat, or a command whose moment is past.
    pub is_noop: bool,
}

impl Run {
    /// Applies one command. On an error the run is as it was.
    pub fn apply(&mut self, command: RunCommand, now: Timestamp) -> Result<RunChange> {
        let was = self.status;
        let lease_before = self.lease.clone();
        let attempt = match command {
            RunCommand::Dequeue { worker, link, lease_until } => self.dequeue(worker, link, lease_until, now),
            RunCommand::Start(holder) => self.start(holder, now),
            RunCommand::Renew { holder, link, lease_until } => self.renew(holder, link, lease_until),
            RunCommand::Read { holder, seq_num } => self.read(holder, seq_num),
            RunCommand::Suspend { holder, waitpoint } => self.suspend(holder, waitpoint, now),
            RunCommand::Resume { waitpoint } => self.resume(&waitpoint, now),
            RunCommand::Complete { holder, output, output_type } => self.complete(holder, output, output_type, now),
            RunCommand::Fail { holder, error, may_retry } => self.fail(holder, error, may_retry, now),
            RunCommand::LoseLease { number, link, error } => self.lose_link(number, &link, error, now),
            RunCommand::Cancel { reason } => self.cancel(&reason, now),
            RunCommand::HandOver { by } if self.status == RunStatus::Executing => self.ask_to_stop(by),
            RunCommand::HandOver { .. } => self.cancel("It handed its session over", now),
            RunCommand::Reschedule { at } => self.reschedule(at, now),
            RunCommand::Tick => self.tick(now),
        }?;
        let is_noop = matches!(attempt, Done::Nothing);
        if !is_noop {
            self.updated_at = now;
        }
        let ended_lease = lease_before.filter(|l| self.lease.as_ref().is_none_or(|now| now.number != l.number));
        let attempt = match attempt {
            Done::Attempt(change) => Some(change),
            Done::Changed | Done::Nothing => None,
        };
        Ok(RunChange { was, ended_lease, attempt, is_noop })
    }

    fn dequeue(&mut self, worker: String, link: String, lease_until: Timestamp, now: Timestamp) -> Result<Done> {
        if self.available_at.is_none_or(|at| at > now) {
            return Err(self.not_ready());
        }
        self.next_snapshot();
        self.available_at = None;
        self.lease = Some(Lease { number: self.snapshot, worker, link, until: lease_until });
        if self.status == RunStatus::WaitingToResume {
            self.status = RunStatus::Executing;
            self.executing_since = Some(now);
        } else {
            self.status = RunStatus::Dequeued;
        }
        Ok(Done::Changed)
    }

    fn start(&mut self, holder: Holder, now: Timestamp) -> Result<Done> {
        let lease = self.check(holder)?.cloned();
        if self.status != RunStatus::Dequeued {
            return Ok(Done::Nothing);
        }
        let (worker, number) = lease.map(|l| (l.worker, l.number)).unwrap_or_default();
        self.next_snapshot();
        self.status = RunStatus::Executing;
        self.attempt_number += 1;
        self.attempt_lease = number;
        self.started_at.get_or_insert(now);
        self.executing_since = Some(now);
        Ok(Done::Attempt(AttemptChange::Started { number: self.attempt_number, worker }))
    }

    fn renew(&mut self, holder: Holder, link: Option<String>, lease_until: Timestamp) -> Result<Done> {
        self.check(holder)?;
        if let Some(lease) = &mut self.lease {
            lease.until = lease.until.max(lease_until);
            lease.link = link.unwrap_or_else(|| std::mem::take(&mut lease.link));
        }
        Ok(Done::Changed)
    }

    fn read(&mut self, holder: Holder, seq_num: SeqNum) -> Result<Done> {
        self.check(holder)?;
        if seq_num <= self.read_seq_num {
            return Ok(Done::Nothing);
        }
        self.read_seq_num = seq_num;
        Ok(Done::Changed)
    }

    fn suspend(&mut self, holder: Holder, waitpoint: WaitpointId, now: Timestamp) -> Result<Done> {
        if self.status == RunStatus::WaitingToResume && self.waiting_on.as_ref() == Some(&waitpoint) {
            return Ok(Done::Nothing);
        }
        self.check(holder)?;
        let done = match (self.status, holder) {
            (RunStatus::Executing, _) => Done::Changed,
            // It began: the word of it is still on its way, on another stream than this.
            (RunStatus::Dequeued, Holder::Lease(_)) => self.start(holder, now)?,
            _ => return Err(self.not_ready()),
        };
        self.leave_execution(now);
        self.status = RunStatus::WaitingToResume;
        self.waiting_on = Some(waitpoint);
        self.available_at = None;
        Ok(done)
    }

    fn resume(&mut self, waitpoint: &WaitpointId, now: Timestamp) -> Result<Done> {
        let waits = self.status == RunStatus::WaitingToResume && self.waiting_on.as_ref() == Some(waitpoint);
        if !waits || self.available_at.is_some() {
            return Ok(Done::Nothing);
        }
        self.next_snapshot();
        self.available_at = Some(now);
        Ok(Done::Changed)
    }

    fn complete(
        &mut self,
        holder: Holder,
        output: Option<String>,
        output_type: Option<String>,
        now: Timestamp,
    ) -> Result<Done> {
        self.check(holder)?;
        (self.output, self.output_type) = (output, output_type);
        Ok(self.end(RunStatus::CompletedSuccessfully, None, now))
    }

    fn fail(&mut self, holder: Holder, error: RunError, may_retry: bool, now: Timestamp) -> Result<Done> {
        self.check(holder)?;
        if self.status == RunStatus::Dequeued {
            // It failed without saying that it began: that is an attempt, or it would be tried for ever.
            self.attempt_number += 1;
        }
        if may_retry && self.attempt_number < self.spec.max_attempts {
            return Ok(self.retry(error, RETRY_BACKOFF_FIRST_MS, now));
        }
        Ok(self.end(RunStatus::CompletedWithErrors, Some(error), now))
    }

    fn lose_link(&mut self, number: u64, link: &str, error: RunError, now: Timestamp) -> Result<Done> {
        if self.lease.as_ref().is_none_or(|l| l.number != number || l.link != link) {
            return Ok(Done::Nothing);
        }
        self.lose_lease(error, now)
    }

    fn lose_lease(&mut self, error: RunError, now: Timestamp) -> Result<Done> {
        if self.stop_by.is_some() {
            return self.cancel("Its worker was lost while it was asked to stop", now);
        }
        if self.status == RunStatus::Dequeued {
            return Ok(self.requeue_unstarted(now));
        }
        if self.attempt_number < self.spec.max_attempts {
            return Ok(self.retry(error, LOST_BACKOFF_FIRST_MS, now));
        }
        Ok(self.end(RunStatus::Crashed, Some(error), now))
    }

    fn cancel(&mut self, reason: &str, now: Timestamp) -> Result<Done> {
        if !self.is_alive() {
            return Ok(Done::Nothing);
        }
        Ok(self.end(RunStatus::Canceled, Some(RunError::new("TASK_RUN_CANCELLED", reason)), now))
    }

    fn reschedule(&mut self, at: Timestamp, now: Timestamp) -> Result<Done> {
        if self.status != RunStatus::Delayed {
            return Err(self.not_ready());
        }
        self.next_snapshot();
        (self.spec.delay_until, self.available_at) = (Some(at), Some(at.max(now)));
        Ok(Done::Changed)
    }

    fn ask_to_stop(&mut self, by: Timestamp) -> Result<Done> {
        if !self.is_alive() || self.stop_by.is_some() {
            return Ok(Done::Nothing);
        }
        self.stop_by = Some(by);
        self.next_snapshot();
        Ok(Done::Changed)
    }

    fn tick(&mut self, now: Timestamp) -> Result<Done> {
        if !self.is_alive() {
            return Ok(Done::Nothing);
        }
        let is_past = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if is_past(self.stop_by) {
            return self.cancel("It was asked to stop and did not", now);
        }
        if is_past(self.times_out_at()) {
            let error = RunError::new("MAX_DURATION_EXCEEDED", "The run executed for longer than its max_duration");
            return Ok(self.end(RunStatus::TimedOut, Some(error), now));
        }
        if self.lease.as_ref().is_some_and(|l| l.until <= now) {
            let error = RunError::new("WORKER_LOST", "The worker's lease ran out without a heartbeat");
            return self.lose_lease(error, now);
        }
        if is_past(self.expires_at()) {
            let error = RunError::new("RUN_EXPIRED", "The run was not started within its ttl");
            return Ok(self.end(RunStatus::Expired, Some(error), now));
        }
        if self.status == RunStatus::Delayed && is_past(self.spec.delay_until) {
            self.next_snapshot();
            self.status = RunStatus::Pending;
            return Ok(Done::Changed);
        }
        Ok(Done::Nothing)
    }

    fn check(&self, holder: Holder) -> Result<Option<&Lease>> {
        let holds = match holder {
            Holder::Lease(number) => self.lease.as_ref().is_some_and(|l| l.number == number),
            Holder::Snapshot(snapshot) => self.snapshot == snapshot && self.is_alive(),
            Holder::Owner if self.is_alive() => true,
            Holder::Owner => return Err(self.not_ready()),
        };
        if holds { Ok(self.lease.as_ref()) } else { Err(Error::StaleSnapshot { snapshot: self.snapshot }) }
    }

    fn not_ready(&self) -> Error {
        Error::RunNotReady { status: self.status.public() }
    }

    fn next_snapshot(&mut self) {
        self.snapshot += 1;
    }

    fn leave_execution(&mut self, now: Timestamp) {
        self.next_snapshot();
        self.executed_ms += self.executing_since.take().map_or(0, |since| now.ms_since(since));
        self.lease = None;
        self.waiting_on = None;
    }

    /// The worker never began: the attempt does not count, another worker may have it at once.
    fn requeue_unstarted(&mut self, now: Timestamp) -> Done {
        self.leave_execution(now);
        self.status = if self.attempt_number == 0 { RunStatus::Pending } else { RunStatus::RetryingAfterFailure };
        self.available_at = Some(now);
        Done::Changed
    }

    fn retry(&mut self, error: RunError, first_ms: u64, now: Timestamp) -> Done {
        let number = self.attempt_number;
        self.leave_execution(now);
        self.status = RunStatus::RetryingAfterFailure;
        let factor = 1_u64 << number.saturating_sub(1).min(16);
        self.available_at = Some(now.plus_ms((first_ms * factor).min(RETRY_BACKOFF_MAX_MS)));
        self.error = Some(error.clone());
        Done::Attempt(AttemptChange::Ended { number, error: Some(error) })
    }

    fn end(&mut self, status: RunStatus, error: Option<RunError>, now: Timestamp) -> Done {
        let number = self.attempt_number;
        self.leave_execution(now);
        self.status = status;
        self.available_at = None;
        self.stop_by = None;
        self.completed_at = Some(now);
        self.error = error.clone();
        if number == 0 { Done::Changed } else { Done::Attempt(AttemptChange::Ended { number, error }) }
    }
}

enum Done {
    Changed,
    Attempt(AttemptChange),
    Nothing,
}
