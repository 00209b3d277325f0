//! Hints and leases over one Postgres connection.
#![warn(missing_docs)]
