//! Sessions in ClickHouse: the table that the replication worker fills, and lists from it.
#![warn(missing_docs)]

mod client;
mod conditions;
mod error;
mod index;
mod questions;
mod row;
mod schema;
mod walk;

pub use client::{ClickHouse, Options};
pub use error::{Refusal, is_refused};
pub use index::{ClickHouseIndex, NOTED_SESSIONS_MAX};
pub use row::SessionRow;
pub use schema::IndexSchema;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;
