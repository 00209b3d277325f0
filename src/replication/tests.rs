//! The worker between a real database and a real index. Each test has its own of both, and ends with a comparison of every
//! row.

mod changes;
mod faults;
mod kills;
mod parked;
mod reconcile;
mod server;
mod setup;
mod status;
mod support;
mod tending;
mod terms;

#[path = "../../tests/support/proxy.rs"]
mod proxy;
