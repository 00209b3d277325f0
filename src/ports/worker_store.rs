//! Who works: the workers that are connected to any replica, and the tasks that workers announced.

use async_trait::async_trait;
use continuo_domain::{EnvironmentId, Result, Timestamp};

/// A worker that is connected, as it is known through one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedWorker {
    /// The environment it works for.
    pub environment: EnvironmentId,
    /// Its own name. Of links by one name the last to connect counts.
    pub id: String,
    /// The link, as leases name it.
    pub link: String,
    /// Version of its code, as it says; may be empty.
    pub version: String,
    /// The tasks it knows.
    pub task_identifiers: Vec<String>,
    /// How many runs it takes at once.
    pub capacity: u32,
    /// It takes no more.
    pub is_draining: bool,
    /// Since when it is connected.
    pub connected_at: Timestamp,
    /// When it was last heard.
    pub seen_at: Timestamp,
}

impl ConnectedWorker {
    /// Where it stands in the order of a list.
    pub fn position(&self) -> WorkerPosition {
        WorkerPosition { connected_at: self.connected_at, id: self.id.clone() }
    }
}

/// A worker in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedWorker {
    /// The worker.
    pub worker: ConnectedWorker,
    /// How many runs hold a lease through its link.
    pub held_leases: u32,
}

/// A place in the order of a list: (connected_at, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPosition {
    /// When the worker there connected.
    pub connected_at: Timestamp,
    /// Its name.
    pub id: String,
}

/// A page of workers, newest first.
#[derive(Clone, Debug)]
pub struct WorkerPage {
    /// At most as many as asked for, never fewer while there are more.
    pub workers: Vec<ListedWorker>,
    /// There are older ones than the last.
    pub has_older: bool,
}

/// The connected workers of all replicas. A row is one link's: of those that connected under its name the one that did so last,
/// as long as it is heard of.
#[async_trait]
pub trait WorkerStore: Send + Sync + 'static {
    /// Notes that a worker connected and that it announced its tasks, both or neither. A row of another link that connected
    /// later and was heard of since `lost_before` stays.
    async fn connect_worker(&self, worker: &ConnectedWorker, lost_before: Timestamp) -> Result<()>;

    /// Notes when a connected worker was last heard and whether it drains; the rest is as it was. A row that is not there is
    /// made again; one of another link stays as for `connect_worker`.
    async fn note_worker(&self, worker: &ConnectedWorker, lost_before: Timestamp) -> Result<()>;

    /// Removes the worker, if its row is this link's.
    async fn disconnect_worker(&self, environment: &EnvironmentId, id: &str, link: &str) -> Result<()>;

    /// A page of the workers heard of at `seen_from` or later, with the leases they hold, all at one moment.
    async fn list_workers(
        &self,
        environment: &EnvironmentId,
        seen_from: Timestamp,
        after: Option<&WorkerPosition>,
        size: u32,
    ) -> Result<WorkerPage>;

    /// Removes the workers of all environments that were last heard of before `lost_before`. Says how many.
    async fn forget_workers(&self, lost_before: Timestamp) -> Result<u64>;

    /// Has any worker ever announced this task?
    async fn knows_task(&self, environment: &EnvironmentId, task_identifier: &str) -> Result<bool>;
}
