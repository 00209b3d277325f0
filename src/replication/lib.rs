//! The replication worker: it reads the log of Postgres by logical decoding and keeps the index in ClickHouse up with it.
#![warn(missing_docs)]

mod backoff;
mod batch;
mod change;
mod database;
mod epoch;
mod flights;
mod index;
mod mend;
mod metrics;
mod options;
mod parked;
mod pgoutput;
mod publication;
mod reconcile;
mod setup;
mod slot;
mod sql;
mod status;
mod store;
mod stream;
mod tend;
mod term;
mod transaction;
mod worker;

pub use change::{Change, Changes, WrongRow};
pub use flights::{Flight, Flights, Lsn};
pub use metrics::Metrics;
pub use options::Options;
pub use pgoutput::{Column, Malformed, Message, Relation, RelationColumn, Tuple, decode};
pub use reconcile::{Report, Scope, Step, reconcile};
pub use setup::{Prepared, drop_replication, prepare};
pub use slot::Slot;
pub use status::{ParkedSession, Status, status};
pub use worker::Worker;

#[cfg(test)]
mod tests;
