//! What waits where.

use crate::Core;
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::{Error, Result};
use continuo_ports::run_store::Queues;

/// Most queues in an answer.
pub const QUEUES_MAX: u32 = 1_000;

impl Core {
    /// The queues that hold runs which are not over, those with the most pending runs first.
    pub async fn list_queues(&self, caller: &Principal, limit: u32) -> Result<Queues> {
        if !caller.has_secret_key() || !caller.may(Action::Read, &[Resource::all("runs")]) {
            return Err(Error::PermissionDenied);
        }
        self.ports.runs.queues(&caller.environment, limit.clamp(1, QUEUES_MAX), self.now()).await
    }
}
