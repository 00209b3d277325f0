//! Run rows, the queue, waitpoints. The rules of a run are the domain's; a store applies them one at a time per run.

use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, SeqNum};
use continuo_domain::run::{Assignment, Attempt, NewRun, Run, RunChange, RunCommand, RunStatus};
use continuo_domain::session::Json;
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp, WaitpointId};

/// A row and whether it was there already, found by its idempotency key.
#[derive(Clone, Debug)]
pub struct MadeOrFound<T> {
    /// The row.
    pub row: T,
    /// It was there.
    pub is_cached: bool,
}

/// What a worker can take.
#[derive(Clone, Debug)]
pub struct DequeueRequest {
    /// The environment it works for.
    pub environment: EnvironmentId,
    /// The worker's id, for the lease.
    pub worker: String,
    /// The tasks it knows.
    pub task_identifiers: Vec<String>,
    /// How many runs it has room for.
    pub capacity: u32,
    /// The end of the leases it gets.
    pub lease_until: Timestamp,
}

/// A run before and after a command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// After it.
    pub run: Run,
    /// What it did.
    pub change: RunChange,
}

/// Which runs a list wants.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Any of these statuses.
    pub statuses: Vec<RunStatus>,
    /// Any of these tasks.
    pub task_identifiers: Vec<String>,
    /// Runs of this session.
    pub session: Option<SessionId>,
    /// Any of these tags.
    pub tags: Vec<String>,
}

/// Completing a waitpoint: what it did.
#[derive(Clone, Debug)]
pub struct WaitpointCompleted {
    /// The row after it.
    pub waitpoint: Waitpoint,
    /// This call completed it. A second completion is a no-op.
    pub is_first: bool,
    /// The runs this resumed: they are queued again.
    pub resumed: Vec<Run>,
}

/// Runs, their queue and their waitpoints.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// Makes and queues a run that belongs to no session, or finds the one its idempotency key names. (A session's runs are
    /// made by `SessionStore::claim_run`.)
    async fn trigger(&self, run: NewRun, now: Timestamp) -> Result<MadeOrFound<Run>>;

    /// The run, if the environment has it.
    async fn get(&self, environment: &EnvironmentId, run: &RunId) -> Result<Option<Run>>;

    /// A page of runs, newest first, older than `after` if given.
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &RunFilter,
        after: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<Run>>;

    /// The run's attempts, in order.
    async fn attempts(&self, run: &RunId) -> Result<Vec<Attempt>>;

    /// Applies a command by the rules of `Run::apply`, atomically, and keeps the attempt rows. An error changes nothing.
    /// `Suspend` on a waitpoint that is already complete queues the run for its resume in the same transaction.
    async fn apply(
        &self,
        environment: &EnvironmentId,
        run: &RunId,
        command: RunCommand,
        now: Timestamp,
    ) -> Result<Applied>;

    /// Hands out runs that are available at `now`, by priority, then age: each to one worker only. A queue with a limit
    /// never has more runs dequeued or executing, per concurrency key, than the limit.
    async fn dequeue(&self, request: DequeueRequest, now: Timestamp) -> Result<Vec<Assignment>>;

    /// Runs whose clock is due (`Run::due_at`), oldest first, at most `limit`.
    async fn due_runs(&self, now: Timestamp, limit: u32) -> Result<Vec<Run>>;

    /// The earliest moment a run becomes due or available, or a waitpoint times out, after `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;

    /// Replaces the metadata.
    async fn set_metadata(&self, run: &RunId, metadata: Option<Json>, now: Timestamp) -> Result<Run>;

    /// Adds tags that are not there yet.
    async fn add_tags(&self, run: &RunId, tags: Vec<String>, now: Timestamp) -> Result<Run>;

    /// Makes a waitpoint, or finds the one its idempotency key names (while the key counts).
    async fn create_waitpoint(&self, waitpoint: Waitpoint) -> Result<MadeOrFound<Waitpoint>>;

    /// The waitpoint, if the environment has it.
    async fn get_waitpoint(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> Result<Option<Waitpoint>>;

    /// A page of waitpoints, newest first, older than `after` if given.
    async fn list_waitpoints(
        &self,
        environment: &EnvironmentId,
        after: Option<&WaitpointId>,
        limit: u32,
    ) -> Result<Vec<Waitpoint>>;

    /// Completes an open waitpoint and queues the runs suspended on it, in one transaction. PENDING to COMPLETED exactly
    /// once. `WaitpointNotFound` if there is none.
    async fn complete_waitpoint(
        &self,
        waitpoint: &WaitpointId,
        completion: Completion,
        now: Timestamp,
    ) -> Result<WaitpointCompleted>;

    /// Open waitpoints on a channel whose wait is satisfied by a record at `seq_num`.
    async fn open_waits(&self, channel: &ChannelKey, seq_num: SeqNum) -> Result<Vec<Waitpoint>>;

    /// Open waitpoints on any channel of any bound session, ordered by id, after `after`: what the sweeper compares with
    /// the channels.
    async fn all_open_waits(&self, after: Option<&WaitpointId>, limit: u32) -> Result<Vec<Waitpoint>>;

    /// Open waitpoints whose `timeout_at` has passed, at most `limit`.
    async fn timed_out_waitpoints(&self, now: Timestamp, limit: u32) -> Result<Vec<Waitpoint>>;

    /// Notes that a worker announced these tasks.
    async fn register_tasks(
        &self,
        environment: &EnvironmentId,
        worker: &str,
        tasks: &[String],
        now: Timestamp,
    ) -> Result<()>;

    /// Has any worker ever announced this task?
    async fn knows_task(&self, environment: &EnvironmentId, task_identifier: &str) -> Result<bool>;
}
