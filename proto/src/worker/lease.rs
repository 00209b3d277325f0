//! What the loop knows of one lease, and what it shares with the run's context.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::task::{Outcome, TaskError};
use crate::v1::work_request::Message;
use crate::v1::{
    Assignment, AttemptCompleted, AttemptFailed, AttemptStarted, AttemptSuspended, LeaseRef, ReadPosition, RunError,
};

/// `authorization: Bearer …`, ready to be sent and never printed.
pub(super) type Bearer = MetadataValue<Ascii>;

/// After so many heartbeats that name it a reported end is taken for known, should the server never say so.
const REPORTED_HEARTBEATS: u8 = 3;

/// Makes a header of a token; `None` if it holds what no header may.
pub(super) fn bearer(token: &str) -> Option<Bearer> {
    let mut value = Bearer::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Names a lease among all of this worker: a run that was suspended comes back under a new number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LeaseKey {
    pub(super) run_id: String,
    pub(super) lease: u64,
}

impl From<LeaseRef> for LeaseKey {
    fn from(lease: LeaseRef) -> Self {
        Self { run_id: lease.run_id, lease: lease.lease }
    }
}

impl LeaseKey {
    pub(super) fn to_ref(&self) -> LeaseRef {
        LeaseRef { run_id: self.run_id.clone(), lease: self.lease }
    }
}

/// The part that the run's context sees.
pub(super) struct Shared {
    pub(super) key: LeaseKey,
    pub(super) assignment: Assignment,
    pub(super) token: watch::Receiver<Bearer>,
    pub(super) revoked: CancellationToken,
    pub(super) stop_requested: CancellationToken,
    pub(super) draining: CancellationToken,
    pub(super) data: Channel,
    /// Everything of `.in` below this number was read.
    pub(super) read: AtomicU64,
    /// Tells the loop that `read` moved. A full queue is no loss: the next heartbeat looks at every lease.
    pub(super) read_moved: mpsc::Sender<LeaseKey>,
    pub(super) next_part: AtomicU64,
}

/// Where a lease stands.
enum Phase {
    Running,
    /// Lost, but its task has a moment left.
    Over,
    /// The task returned; the report is kept until the server answers that the lease is over, because a broken connection
    /// may have swallowed it.
    Ended {
        report: Message,
        heartbeats: u8,
    },
}

/// A lease as the loop sees it.
pub(super) struct Lease {
    pub(super) shared: std::sync::Arc<Shared>,
    token: watch::Sender<Bearer>,
    lives: Duration,
    deadline: Instant,
    is_start_known: bool,
    read_sent: u64,
    phase: Phase,
}

impl Lease {
    pub(super) fn new(shared: std::sync::Arc<Shared>, token: watch::Sender<Bearer>, lives: Duration) -> Self {
        // Who goes on after a wait does not announce a start.
        let is_start_known = shared.assignment.resumed_by.is_some();
        let deadline = Instant::now() + lives;
        Self { shared, token, lives, deadline, is_start_known, read_sent: 0, phase: Phase::Running }
    }

    /// Does the worker still answer for it? Such leases are named in heartbeats and after a reconnect.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self.phase, Phase::Over)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// The lease is lost. True if nothing is left to wait for.
    pub(super) fn revoke(&mut self) -> bool {
        let has_ended = matches!(self.phase, Phase::Ended { .. });
        self.phase = Phase::Over;
        self.shared.revoked.cancel();
        has_ended
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.is_held() && self.deadline <= now
    }

    /// The server renewed it. Answers with what to send again: it should not know the lease any more if the run's end had
    /// reached it.
    pub(super) fn renew(&mut self, token: Option<Bearer>) -> Option<Message> {
        self.deadline = Instant::now() + self.lives;
        self.is_start_known = true;
        if let Some(token) = token {
            self.token.send_replace(token);
        }
        match &self.phase {
            Phase::Ended { report, heartbeats } if *heartbeats > 0 => Some(report.clone()),
            _ => None,
        }
    }

    /// A heartbeat names it. False if it need not be named any more.
    pub(super) fn beat(&mut self) -> bool {
        match &mut self.phase {
            Phase::Running => true,
            Phase::Over => false,
            Phase::Ended { heartbeats, .. } => {
                *heartbeats += 1;
                *heartbeats <= REPORTED_HEARTBEATS
            }
        }
    }

    /// The read position, if it moved since it was sent.
    pub(super) fn moved_read(&mut self) -> Option<Message> {
        let read = self.shared.read.load(Ordering::Acquire);
        if read <= self.read_sent || !self.is_held() {
            return None;
        }
        self.read_sent = read;
        Some(Message::ReadPosition(ReadPosition { lease: Some(self.shared.key.to_ref()), seq_num: read }))
    }

    /// The task returned: what to report, and whether the lease is to be kept until the server knows.
    pub(super) fn end(&mut self, result: Result<Outcome, TaskError>) -> (Vec<Message>, bool) {
        let lease = Some(self.shared.key.to_ref());
        let report = match result {
            Ok(Outcome::Completed(output)) => {
                Message::Completed(AttemptCompleted { lease, output, output_type: String::new() })
            }
            Ok(Outcome::Suspended) => Message::Suspended(AttemptSuspended { lease }),
            Err(error) => Message::Failed(AttemptFailed {
                lease,
                error: Some(RunError { name: error.name, message: error.message, stack_trace: None }),
                is_final: error.is_final,
            }),
        };
        if !self.is_running() {
            // Nobody waits for the end of a lost lease, but a suspended run's place is free from now on.
            let suspended = matches!(report, Message::Suspended(_)).then_some(report);
            return (suspended.into_iter().collect(), false);
        }
        let mut messages: Vec<Message> = self.moved_read().into_iter().collect();
        messages.push(report.clone());
        self.phase = Phase::Ended { report, heartbeats: 0 };
        (messages, true)
    }

    /// The first thing to say about a fresh attempt.
    pub(super) fn start(&self) -> Option<Message> {
        let lease = Some(self.shared.key.to_ref());
        (!self.is_start_known).then_some(Message::Started(AttemptStarted { lease }))
    }

    /// Everything the server may have missed while the connection was down.
    pub(super) fn repeat(&mut self) -> Vec<Message> {
        if !self.is_held() {
            return Vec::new();
        }
        self.read_sent = 0;
        let report = match &self.phase {
            Phase::Ended { report, .. } => Some(report.clone()),
            _ => None,
        };
        self.start().into_iter().chain(self.moved_read()).chain(report).collect()
    }
}
