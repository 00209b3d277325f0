//! Sessions, runs, waitpoints and tenants in SQL through sea-orm: SQLite for one node, Postgres for any number of replicas.
//!
//! [`Database`] is the way to either: on SQLite many readers and one batching writer, on Postgres a pool and a transaction
//! per job. [`SqlStore`] is the ports on top of it, with the same statements for both; where only one needs something (locks,
//! `SKIP LOCKED`, a transaction that is run again) the other does without.
//!
//! Who comes first. Every race between callers is decided by one statement with a condition or by one transaction; rows that
//! are read to be changed are locked. On SQLite there is one writer and no lock to wait for. On Postgres, under READ
//! COMMITTED, each statement sees what was committed before it began, and
//! - who locks several rows locks a run before those that wait for it, a wait before its registration, and for the rest by
//!   id; who cannot (renewals, handing out) takes what is free and waits for nothing while it holds something;
//! - what no row stands for yet is an advisory lock of the transaction: a name that a session takes while a wait by that name
//!   is registered, a place in a queue with a limit;
//! - a transaction that loses all the same, or finds that rows moved between two of its statements, is run again.
//!
//! Identifiers are compared as they are given, byte by byte: no case folding, no trimming. Times are milliseconds and come
//! from the caller; nothing here reads a clock.
#![warn(missing_docs)]

mod append_claims;
mod attempts;
mod convert;
mod copy;
mod create;
mod cte;
mod database;
mod entity;
mod environments;
mod error;
mod homes;
mod indexed_rows;
mod list;
mod list_index;
mod locks;
mod postgres;
mod probe;
mod queue;
mod queues;
mod reads;
mod replica;
mod revocations;
mod run_filter;
mod run_store;
mod runs;
mod schema;
mod session_index;
mod session_store;
mod sessions;
mod settle;
mod sqlite;
mod time;
mod trigger;
mod waitpoints;
mod workers;
mod writer;

pub use copy::CopyOptions;
pub use database::Database;
pub use homes::Home;
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
mod homes_tests;
#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_postgres;
#[cfg(test)]
mod tests_replicas;
#[cfg(test)]
mod tests_standby;
