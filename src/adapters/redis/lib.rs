//! Waits, hints and leases in Redis.
#![warn(missing_docs)]
