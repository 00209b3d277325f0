//! What one process can do by itself: tell the time, make identifiers, remember who waits.
#![warn(missing_docs)]

mod clock;
mod ids;
mod waitpoint_registry;

pub use clock::SystemClock;
pub use ids::TimeOrderedIds;
pub use waitpoint_registry::InProcessRegistry;

#[cfg(test)]
#[path = "../../../tests/it/contract/waitpoint_registry.rs"]
mod waitpoint_registry_contract;
