//! Workers: one link per connected worker hands it runs, renews its leases, and tells it what it lost.

mod link;
mod presence;

use continuo_domain::channel::SeqNum;
use continuo_domain::run::{Assignment, RunError};
use continuo_domain::session::Session;

pub use continuo_ports::run_store::LeaseRef;

/// Longest worker id, in characters.
pub(crate) const WORKER_ID_CHARS_MAX: usize = 128;
/// Longest version a worker gives its code, in characters.
pub(crate) const WORKER_VERSION_CHARS_MAX: usize = 128;
/// Most tasks a worker may announce.
pub(crate) const WORKER_TASKS_MAX: usize = 1_000;
/// Most runs a worker may take at once.
pub(crate) const WORKER_CAPACITY_MAX: u32 = 10_000;

/// A worker introduces itself.
#[derive(Clone, Debug)]
pub struct WorkerHello {
    /// Its own name.
    pub worker_id: String,
    /// Version of its code, if it says.
    pub version: String,
    /// The tasks it knows.
    pub task_identifiers: Vec<String>,
    /// How many runs it takes at once.
    pub capacity: u32,
    /// Leases it still holds from an earlier link.
    pub held_leases: Vec<LeaseRef>,
}

impl WorkerHello {
    fn check(&self) -> continuo_domain::Result<()> {
        let mut found = continuo_domain::error::Violations::new();
        found.take(continuo_domain::text::bounded("hello.worker_id", &self.worker_id, WORKER_ID_CHARS_MAX))?;
        if !self.version.is_empty() {
            let version = continuo_domain::text::bounded("hello.version", &self.version, WORKER_VERSION_CHARS_MAX);
            found.take(version)?;
        }
        if !(1..=WORKER_TASKS_MAX).contains(&self.task_identifiers.len()) {
            found.add("hello.task_identifiers", "must name 1 to 1000 tasks");
        }
        for task in &self.task_identifiers {
            let field = "hello.task_identifiers";
            found.take(continuo_domain::text::bounded(field, task, continuo_domain::session::TASK_CHARS_MAX))?;
        }
        if !(1..=WORKER_CAPACITY_MAX).contains(&self.capacity) {
            found.add("hello.capacity", "must be 1 to 10000");
        }
        found.finish()
    }
}

/// What a worker says after hello.
#[derive(Clone, Debug)]
pub enum WorkerMessage {
    /// An attempt begins.
    Started(LeaseRef),
    /// Still there.
    Heartbeat(Vec<LeaseRef>),
    /// The run has read its `.in` below this number.
    Read(LeaseRef, SeqNum),
    /// The run was suspended; its place is free.
    Suspended(LeaseRef),
    /// The task returned.
    Completed {
        /// Which.
        lease: LeaseRef,
        /// Result text.
        output: Option<String>,
        /// Its content type.
        output_type: Option<String>,
    },
    /// The task failed.
    Failed {
        /// Which.
        lease: LeaseRef,
        /// Why.
        error: RunError,
        /// Another attempt may help.
        may_retry: bool,
    },
    /// No more assignments.
    Drain,
}

/// What the server tells a worker.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// The worker is known.
    Welcome {
        /// Life of a lease without a heartbeat.
        lease_ms: u32,
        /// Heartbeats are wanted this often.
        heartbeat_ms: u32,
    },
    /// A run to begin or to go on with.
    Assigned(Box<Assigned>),
    /// Leases that live on, each with fresh tokens.
    Renewed(Vec<(LeaseRef, RunTokens)>),
    /// A lease is over.
    Revoked(LeaseRef, RevokeReason),
    /// The run should end by itself within so many milliseconds.
    Stop(LeaseRef, u64),
}

/// A run's bearer tokens.
#[derive(Clone, Debug)]
pub struct RunTokens {
    /// For everything the run does.
    pub run_token: String,
    /// The form that SDKs take from their environment, for a worker that holds the root key.
    pub sdk_run_token: Option<String>,
}

/// An assignment with all a run needs.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The run and what it was resumed by.
    pub assignment: Assignment,
    /// The lease.
    pub lease: LeaseRef,
    /// Who the run is.
    pub tokens: RunTokens,
    /// Its session.
    pub session: Option<Session>,
    /// Life of the lease without a heartbeat.
    pub lease_ms: u32,
}

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeReason {
    /// A caller ended the run.
    Canceled,
    /// It used up its `max_duration`.
    TimedOut,
    /// It ran out, or the run went on elsewhere.
    LeaseExpired,
    /// The run was suspended by someone else.
    Suspended,
}

impl RevokeReason {
    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "CANCELED",
            Self::TimedOut => "TIMED_OUT",
            Self::LeaseExpired => "LEASE_EXPIRED",
            Self::Suspended => "SUSPENDED",
        }
    }
}
