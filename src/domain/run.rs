//! Runs: executions of a task, alone or behind a session.

mod debounce;
mod machine;
mod metadata;
mod new_run;

pub use debounce::{DEBOUNCE_KEY_CHARS_MAX, DEBOUNCE_MS_MIN, Debounce};
pub use machine::{AttemptChange, Holder, RunChange, RunCommand};
pub use metadata::{MetadataOperation, MetadataUpdate, MetadataVerb};
pub use new_run::{KeyScope, NewRun, Parent, UserKey};

use crate::channel::SeqNum;
use crate::id::WaitpointId;
use crate::time::Timestamp;
use crate::waitpoint::{Completion, Waitpoint};

/// Rounds of probe, trigger and claim before an ensure gives up.
pub const CLAIM_ROUNDS_MAX: u32 = 3;
/// Attempts of a run whose trigger did not say.
pub const ATTEMPTS_DEFAULT: u32 = 1;
/// How long an executing run may go on writing its last records after it was asked to stop.
pub const STOP_GRACE_MS: u64 = 30_000;
/// Longest payload, output or metadata of a run, in bytes.
pub const RUN_JSON_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Waits for a worker.
    Pending,
    /// Waits for its start time.
    Delayed,
    /// Handed to a worker that has not started it yet.
    Dequeued,
    /// Runs on a worker.
    Executing,
    /// Waits for the next attempt.
    RetryingAfterFailure,
    /// Suspended on a waitpoint; holds no worker capacity.
    WaitingToResume,
    /// Ended well.
    CompletedSuccessfully,
    /// Ended with the task's error.
    CompletedWithErrors,
    /// Ended by a caller.
    Canceled,
    /// Its worker was lost and no attempt is left.
    Crashed,
    /// The server could not carry it on.
    SystemFailure,
    /// Its time to live passed before it started.
    Expired,
    /// It executed for longer than `max_duration`.
    TimedOut,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 13] = [
        Self::Pending,
        Self::Delayed,
        Self::Dequeued,
        Self::Executing,
        Self::RetryingAfterFailure,
        Self::WaitingToResume,
        Self::CompletedSuccessfully,
        Self::CompletedWithErrors,
        Self::Canceled,
        Self::Crashed,
        Self::SystemFailure,
        Self::Expired,
        Self::TimedOut,
    ];

    /// The spelling in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delayed => "DELAYED",
            Self::Dequeued => "DEQUEUED",
            Self::Executing => "EXECUTING",
            Self::RetryingAfterFailure => "RETRYING_AFTER_FAILURE",
            Self::WaitingToResume => "WAITING_TO_RESUME",
            Self::CompletedSuccessfully => "COMPLETED_SUCCESSFULLY",
            Self::CompletedWithErrors => "COMPLETED_WITH_ERRORS",
            Self::Canceled => "CANCELED",
            Self::Crashed => "CRASHED",
            Self::SystemFailure => "SYSTEM_FAILURE",
            Self::Expired => "EXPIRED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// Reads the spelling in rows.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// The spelling clients see.
    pub fn public(self) -> &'static str {
        match self {
            Self::Pending => "QUEUED",
            Self::Executing | Self::RetryingAfterFailure => "EXECUTING",
            Self::WaitingToResume => "WAITING",
            Self::CompletedSuccessfully => "COMPLETED",
            Self::CompletedWithErrors => "FAILED",
            other => other.as_str(),
        }
    }

    /// Over, for good. A session's run is alive as long as its status is not terminal.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::CompletedSuccessfully
                | Self::CompletedWithErrors
                | Self::Canceled
                | Self::Crashed
                | Self::SystemFailure
                | Self::Expired
                | Self::TimedOut
        )
    }
}

/// Why a run of a session was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunReason {
    /// The session was made.
    Initial,
    /// The run before was over.
    Continuation,
    /// The run before handed over to a newer version.
    Upgrade,
    /// Anything else a caller said.
    Manual,
}

impl RunReason {
    /// The spelling in rows and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Continuation => "continuation",
            Self::Upgrade => "upgrade",
            Self::Manual => "manual",
        }
    }

    /// Reads a reason; what is not one of ours is `manual`.
    pub fn parse(text: &str) -> Self {
        [Self::Initial, Self::Continuation, Self::Upgrade]
            .into_iter()
            .find(|r| r.as_str() == text)
            .unwrap_or(Self::Manual)
    }
}

/// A worker's exclusive right to execute a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The execution snapshot it began with: the lease's number.
    pub number: u64,
    /// Who holds it.
    pub worker: String,
    /// The link through which the worker holds it: the one that took it, or the last one it came back through. Only that
    /// link's end is the lease's. Empty for a lease that is older than links.
    pub link: String,
    /// It ends here unless it is renewed.
    pub until: Timestamp,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// Class of the error, for example `Error`.
    pub name: String,
    /// What a person reads.
    pub message: String,
    /// Where it happened, if the worker said.
    pub stack_trace: Option<String>,
}

impl RunError {
    /// An error of ours.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into(), stack_trace: None }
    }
}

/// A run row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it was made with.
    pub spec: NewRun,
    /// `current_run_version` it claimed in its session; 0 without one.
    pub session_version: u64,
    /// Where it is in its life.
    pub status: RunStatus,
    /// Number of the latest execution snapshot: each change of the run makes one.
    pub snapshot: u64,
    /// Attempts begun.
    pub attempt_number: u32,
    /// Number of the lease under which the last of them began; later ones of the same attempt woke it from a wait.
    pub attempt_lease: u64,
    /// Who executes it, if anyone does.
    pub lease: Option<Lease>,
    /// When it may be handed out: now for a queued run, later for a retry, never (`None`) for one that waits or executes.
    pub available_at: Option<Timestamp>,
    /// What it is suspended on, or what it was resumed by in this stretch of execution.
    pub waiting_on: Option<WaitpointId>,
    /// When its current stretch of execution began.
    pub executing_since: Option<Timestamp>,
    /// Milliseconds of execution before the current stretch.
    pub executed_ms: u64,
    /// It was asked to stop and is canceled at this moment if it is still there.
    pub stop_by: Option<Timestamp>,
    /// Everything below this number of its session's `.in` it has read.
    pub read_seq_num: SeqNum,
    /// Result text.
    pub output: Option<String>,
    /// Its content type.
    pub output_type: Option<String>,
    /// Why it failed.
    pub error: Option<RunError>,
    /// Creation.
    pub created_at: Timestamp,
    /// First start.
    pub started_at: Option<Timestamp>,
    /// Last change.
    pub updated_at: Timestamp,
    /// End.
    pub completed_at: Option<Timestamp>,
}

impl Run {
    /// A fresh run: queued, or delayed.
    pub fn new(spec: NewRun, session_version: u64, now: Timestamp) -> Self {
        let delayed = spec.delay_until.filter(|&at| at > now);
        Self {
            session_version,
            status: if delayed.is_some() { RunStatus::Delayed } else { RunStatus::Pending },
            snapshot: 1,
            attempt_number: 0,
            attempt_lease: 0,
            lease: None,
            available_at: Some(delayed.unwrap_or(now)),
            waiting_on: None,
            executing_since: None,
            executed_ms: 0,
            stop_by: None,
            read_seq_num: 0,
            output: None,
            output_type: None,
            error: None,
            created_at: now,
            started_at: None,
            updated_at: now,
            completed_at: None,
            spec,
        }
    }

    /// Not over.
    pub fn is_alive(&self) -> bool {
        !self.status.is_terminal()
    }

    /// The queue it stands in.
    pub fn queue(&self) -> String {
        self.spec.queue.clone().unwrap_or_else(|| format!("task/{}", self.spec.task_identifier))
    }

    /// When it expires if it is not started: counted from when it could first be handed out.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let from = self.spec.delay_until.unwrap_or(self.created_at);
        self.spec.ttl_ms.filter(|_| self.started_at.is_none() && self.lease.is_none()).map(|ttl| from.plus_ms(ttl))
    }

    /// When `max_duration` is used up, if it executes.
    pub fn times_out_at(&self) -> Option<Timestamp> {
        let limit_ms = u64::from(self.spec.max_duration_s?) * 1_000;
        self.executing_since.map(|since| since.plus_ms(limit_ms.saturating_sub(self.executed_ms)))
    }

    /// How it ended, as whoever waits for it is told; `None` while it is alive.
    pub fn completion(&self) -> Option<Completion> {
        if self.is_alive() {
            return None;
        }
        let output_type = self.output_type.clone().unwrap_or_else(|| "application/json".into());
        Some(match &self.error {
            None => Completion { output: self.output.clone(), output_type, is_error: false },
            Some(error) => Completion::failed(error),
        })
    }

    /// The next moment at which the clock has something to say about this run.
    pub fn due_at(&self) -> Option<Timestamp> {
        if !self.is_alive() {
            return None;
        }
        let delayed = self.spec.delay_until.filter(|_| self.status == RunStatus::Delayed);
        let lease = self.lease.as_ref().map(|l| l.until);
        [self.expires_at(), self.times_out_at(), self.stop_by, lease, delayed].into_iter().flatten().min()
    }
}

/// A run handed to a worker, with all it needs to begin or go on.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The run, as it stands after it was handed out.
    pub run: Run,
    /// The waitpoint it was suspended on, if it goes on after one.
    pub resumed_by: Option<Waitpoint>,
}

/// An attempt row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Who executed it.
    pub worker: String,
    /// Start.
    pub started_at: Timestamp,
    /// End, if it is over.
    pub ended_at: Option<Timestamp>,
    /// Why it failed, if it did.
    pub error: Option<RunError>,
}

#[cfg(test)]
mod tests;
