//! Run rows, the queue, waitpoints. The rules of a run are the domain's; a store applies them one at a time per run.

use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, SeqNum};
use continuo_domain::principal::OneTimeToken;
use continuo_domain::run::{
    Assignment, Attempt, Holder, MetadataUpdate, NewRun, Run, RunChange, RunCommand, RunStatus,
};
use continuo_domain::waitpoint::{Completion, Waitpoint, WaitpointKind};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp, WaitpointId};

/// A row and whether it was there already, found by its idempotency key.
#[derive(Clone, Debug)]
pub struct MadeOrFound<T> {
    /// The row.
    pub row: T,
    /// It was there.
    pub is_cached: bool,
}

/// A trigger: the run, and what happens in the same transaction.
#[derive(Clone, Debug)]
pub struct NewTrigger {
    /// The run.
    pub run: NewRun,
    /// The token it is triggered with, if that is good for one trigger.
    pub one_time_token: Option<OneTimeToken>,
    /// The parent is suspended until the run is over.
    pub wait: Option<ParentWait>,
}

impl From<NewRun> for NewTrigger {
    fn from(run: NewRun) -> Self {
        Self { run, one_time_token: None, wait: None }
    }
}

/// A parent that waits for the run it triggers.
#[derive(Clone, Debug)]
pub struct ParentWait {
    /// By what right the parent is suspended.
    pub holder: Holder,
    /// The id of the waitpoint it waits on.
    pub waitpoint: WaitpointId,
}

/// What a trigger did.
#[derive(Clone, Debug)]
pub struct Triggered {
    /// The run.
    pub row: Run,
    /// It was there, found by its idempotency key or debounced.
    pub is_cached: bool,
    /// What the parent waits on, and the parent after it was suspended.
    pub wait: Option<(Waitpoint, Applied)>,
}

/// A lease as its holder names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// The run.
    pub run: RunId,
    /// The lease's number.
    pub number: u64,
}

/// What a lease that lives on belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The run's session.
    pub session: Option<SessionId>,
    /// The version it claimed there.
    pub session_version: u64,
}

/// What a worker can take.
#[derive(Clone, Debug)]
pub struct DequeueRequest {
    /// The environment it works for.
    pub environment: EnvironmentId,
    /// The worker's id, for the lease.
    pub worker: String,
    /// The link to it, for the lease.
    pub link: String,
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
    /// Other runs that changed with it: whoever waited for its end, and its children if it was canceled.
    pub others: Vec<Applied>,
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
    /// Pinned to any of these versions.
    pub versions: Vec<String>,
    /// In any of these queues, as `Run::queue` spells them.
    pub queues: Vec<String>,
    /// On any of these machine presets.
    pub machines: Vec<String>,
    /// In any of these regions.
    pub regions: Vec<String>,
    /// Triggered in this batch.
    pub batch: Option<String>,
    /// Made by this bulk action.
    pub bulk_action: Option<String>,
    /// Triggered by this run.
    pub parent: Option<RunId>,
    /// Made by a test, or not.
    pub is_test: Option<bool>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not newer.
    pub created_to: Option<Timestamp>,
}

/// Which waitpoints a list wants.
#[derive(Clone, Debug, Default)]
pub struct WaitpointFilter {
    /// Any of these kinds.
    pub kinds: Vec<WaitpointKind>,
    /// Any of these states.
    pub states: Vec<WaitpointState>,
    /// With this key.
    pub idempotency_key: Option<String>,
    /// Any of these tags.
    pub tags: Vec<String>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not newer.
    pub created_to: Option<Timestamp>,
}

/// Where a waitpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitpointState {
    /// Not complete.
    Open,
    /// Complete.
    Completed,
    /// Complete with an error.
    Failed,
}

/// From where a page goes, and which way; the page itself is always newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PageFrom<Id> {
    /// The newest.
    #[default]
    Start,
    /// Older than this one.
    After(Id),
    /// Newer than this one.
    Before(Id),
}

/// A page, newest first by (created_at, id).
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// At most as many as asked for, never fewer while there are more.
    pub rows: Vec<T>,
    /// There are older ones than the last.
    pub has_older: bool,
    /// There are newer ones than the first.
    pub has_newer: bool,
}

/// A queue and its runs that are not over, each counted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// As `Run::queue` spells it.
    pub name: String,
    /// A worker may take them: `Pending`, or in any other status with an `available_at` that has come.
    pub pending: u64,
    /// `Delayed`, and not yet due.
    pub delayed: u64,
    /// `Dequeued`.
    pub dequeued: u64,
    /// `Executing`.
    pub executing: u64,
    /// `RetryingAfterFailure`, and not yet due.
    pub retrying: u64,
    /// `WaitingToResume`, and what they wait for has not come.
    pub waiting: u64,
    /// The earliest `available_at` of the pending ones.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Queues that hold runs which are not over.
#[derive(Clone, Debug)]
pub struct Queues {
    /// At most as many as asked for: those with the most pending runs first, then by name.
    pub queues: Vec<QueueCounts>,
    /// There are more.
    pub has_more: bool,
}

/// Completing a waitpoint: what it did.
#[derive(Clone, Debug)]
pub struct WaitpointCompleted {
    /// The row after it.
    pub waitpoint: Waitpoint,
    /// This call completed it. A second completion is a no-op.
    pub is_first: bool,
    /// The runs this resumed: they are queued again.
    pub resumed: Vec<Applied>,
}

/// Runs, their queue and their waitpoints.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// Makes and queues a run that belongs to no session, or finds the one its idempotency key names, or the delayed one
    /// that its debounce key names and that can still be put off (`Run::absorb`). (A session's runs are made by
    /// `SessionStore::claim_run`.) A one-time token is spent in the same transaction, also by a run that was found;
    /// `Unauthenticated` if it was spent before, and then nothing happens. With a wait the parent is suspended in the same
    /// transaction, and resumed at once if the run is over already; an error of that suspension makes no run.
    async fn trigger(&self, trigger: NewTrigger, now: Timestamp) -> Result<Triggered>;

    /// The run, if the environment has it.
    async fn get(&self, environment: &EnvironmentId, run: &RunId) -> Result<Option<Run>>;

    /// A page of runs. `RunNotFound` if the one it goes from is not there.
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &RunFilter,
        from: &PageFrom<RunId>,
        size: u32,
    ) -> Result<Page<Run>>;

    /// The run's attempts, in order.
    async fn attempts(&self, run: &RunId) -> Result<Vec<Attempt>>;

    /// Applies a command by the rules of `Run::apply`, atomically, and keeps the attempt rows. An error changes nothing.
    /// `Suspend` on a waitpoint that is already complete queues the run for its resume in the same transaction. With the end
    /// of a run every waitpoint that awaits it is completed, and the children of a canceled one are canceled.
    async fn apply(
        &self,
        environment: &EnvironmentId,
        run: &RunId,
        command: RunCommand,
        now: Timestamp,
    ) -> Result<Applied>;

    /// Renews leases: what `RunCommand::Renew` does, without touching what a heartbeat does not concern. With a link they are
    /// that link's from here on. An answer for each lease, in order; `StaleSnapshot` or `RunNotFound` for one that is over.
    async fn renew(
        &self,
        environment: &EnvironmentId,
        leases: &[LeaseRef],
        link: Option<&str>,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Result<Renewed>>>;

    /// Hands out runs that are available at `now`, by priority, then age: each to one worker only. A queue with a limit
    /// never has more runs dequeued or executing, per concurrency key, than the limit.
    async fn dequeue(&self, request: DequeueRequest, now: Timestamp) -> Result<Vec<Assignment>>;

    /// The environment's queues with how many of their runs stand where at `now`, all from one look. Takes time with the runs
    /// that are not over, not with those that are.
    async fn queues(&self, environment: &EnvironmentId, limit: u32, now: Timestamp) -> Result<Queues>;

    /// Runs whose clock is due (`Run::due_at`), oldest first, at most `limit`.
    async fn due_runs(&self, now: Timestamp, limit: u32) -> Result<Vec<Run>>;

    /// The earliest moment a run becomes due or available, or a waitpoint times out, after `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;

    /// Changes the metadata of a run, of its parent and of the one at the top in one transaction: of concurrent changes none
    /// is lost. The run after it.
    async fn update_metadata(&self, run: &RunId, update: MetadataUpdate, now: Timestamp) -> Result<Run>;

    /// Adds tags that are not there yet.
    async fn add_tags(&self, run: &RunId, tags: Vec<String>, now: Timestamp) -> Result<Run>;

    /// Makes a waitpoint, or finds the one its idempotency key names (while the key counts).
    async fn create_waitpoint(&self, waitpoint: Waitpoint) -> Result<MadeOrFound<Waitpoint>>;

    /// The waitpoint, if the environment has it.
    async fn get_waitpoint(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> Result<Option<Waitpoint>>;

    /// A page of waitpoints. `WaitpointNotFound` if the one it goes from is not there.
    async fn list_waitpoints(
        &self,
        environment: &EnvironmentId,
        filter: &WaitpointFilter,
        from: &PageFrom<WaitpointId>,
        size: u32,
    ) -> Result<Page<Waitpoint>>;

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

    /// Open waitpoints on any of these reserved channels, whatever record they wait for.
    async fn open_waits_on(&self, channels: &[ChannelKey]) -> Result<Vec<Waitpoint>>;

    /// Open waitpoints on any channel of any bound session, ordered by id, after `after`: what the sweeper compares with
    /// the channels.
    async fn all_open_waits(&self, after: Option<&WaitpointId>, limit: u32) -> Result<Vec<Waitpoint>>;

    /// Open waitpoints whose `timeout_at` has passed, at most `limit`.
    async fn timed_out_waitpoints(&self, now: Timestamp, limit: u32) -> Result<Vec<Waitpoint>>;
}
