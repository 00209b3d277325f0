//! Sessions, runs, waitpoints and tenants in SQL through sea-orm: SQLite for one node, in a form that Postgres takes too.
//!
//! Who comes first. [`Database`] is the file and the way to it: many readers, one batching writer. [`SqlStore`] is the
//! four ports on top of it. Every race between callers is decided by one statement with a condition or by one transaction;
//! rows that are read to be changed are locked, which SQLite (one writer) does without being asked.
//!
//! Identifiers are compared as they are given, byte by byte: no case folding, no trimming. Times are milliseconds and come
//! from the caller; nothing here reads a clock.
#![warn(missing_docs)]

mod append_claims;
mod convert;
mod database;
mod entity;
mod environments;
mod error;
mod list;
mod locks;
mod postgres;
mod queue;
mod reads;
mod run_filter;
mod run_store;
mod runs;
mod schema;
mod session_index;
mod session_store;
mod sessions;
mod sqlite;
mod trigger;
mod waitpoints;
mod writer;

pub use database::Database;
pub use postgres::PostgresOptions;
pub use schema::SchemaStatus;
pub use writer::WriterStats;

/// The ports on a database. A handle: cloning it is cheap.
#[derive(Clone)]
pub struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// The ports on this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[cfg(test)]
extern crate self as continuo_database;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_postgres;
#[cfg(test)]
mod tests_replicas;
