//! Blobs in a bucket of an S3-compatible store, for nodes that keep nothing themselves.
//!
//! ```text
//! <prefix>/snapshots/<environment>.<session>   a session's snapshot
//! <prefix>/packets/<hash>                      a packet; SHA-256 of its key's text, in hex: a path may be longer than a key
//! ```
//!
//! Clients never talk to the store: their URLs point at this server, which moves the bytes. So the limits, the check that a run
//! still owns its session, the end of a URL with its session and the cross-origin rules are the same wherever blobs lie; the
//! bucket stays private, its keys stay here, and a browser needs to reach one address only.
//!
//! A body is received whole into a nameless file before the store hears of it, and sent in one PUT with its length, which a store
//! takes whole or not at all. An upload that is cut or refused leaves nothing there, a crash leaves nothing here, and no part of
//! it is held in memory but what is on the move.
//!
//! The credentials must allow `s3:ListBucket` (without it a store says of a missing object that it is forbidden), `GetObject`,
//! `PutObject` and `DeleteObject`.
#![warn(missing_docs)]

mod client;
mod held;
mod names;
mod spool;
mod store;

pub use client::OpenError;
pub use store::{BlobS3, Options};

#[cfg(test)]
#[path = "../../../tests/it/contract/blob_store.rs"]
mod blob_store_contract;
#[cfg(test)]
#[path = "../../../tests/it/support/s3_server.rs"]
mod s3_server;
