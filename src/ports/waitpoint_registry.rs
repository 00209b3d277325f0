//! Who waits on a channel, as a hint: fast, and allowed to forget. The truth is the waitpoint rows.

use async_trait::async_trait;
use continuo_domain::channel::Direction;
use continuo_domain::waitpoint::WaitedSession;
use continuo_domain::{EnvironmentId, Result, Timestamp, WaitpointId};

/// The key of a set of waits. Carries the environment: the same name in two environments never cross-wakes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WaitKey {
    /// Tenant.
    pub environment: EnvironmentId,
    /// Whose channel.
    pub session: WaitedSession,
    /// Which side.
    pub direction: Direction,
}

/// Sets of waits with a life that only grows.
#[async_trait]
pub trait WaitpointRegistry: Send + Sync + 'static {
    /// Adds a wait; the set lives until `until` at least: a short wait never shortens a longer sibling's, and neither does
    /// the same wait registered again.
    async fn register(&self, key: &WaitKey, waitpoint: &WaitpointId, until: Timestamp) -> Result<()>;

    /// Removes a wait, if it is there.
    async fn remove(&self, key: &WaitKey, waitpoint: &WaitpointId) -> Result<()>;

    /// Reads and clears the set in one step: a concurrent registration is either in the answer or still in the set. Waits
    /// whose time is over at `now` are not in the answer.
    async fn drain(&self, key: &WaitKey, now: Timestamp) -> Result<Vec<WaitpointId>>;
}
