//! What one process can do by itself: tell the time, make identifiers, remember who waits; and be alone.
#![warn(missing_docs)]

mod clock;
mod followed_clock;
mod hints;
mod ids;
mod leases;
mod waitpoint_registry;

pub use clock::SystemClock;
pub use followed_clock::{Answer, FollowedClock};
pub use hints::NoHints;
pub use ids::TimeOrderedIds;
pub use leases::EveryLease;
pub use waitpoint_registry::InProcessRegistry;

#[cfg(test)]
#[path = "../../../tests/it/contract/waitpoint_registry.rs"]
mod waitpoint_registry_contract;
