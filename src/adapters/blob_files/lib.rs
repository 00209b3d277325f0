//! Blobs as files in a directory, for one node.
//!
//! ```text
//! <dir>/snapshots/<environment>.<session>   a session's snapshot
//! <dir>/packets/<hash>                      a packet; SHA-256 of its key's text, in hex: its path is a name, and never
//!                                           becomes a path on the disk
//! <dir>/drafts/<n>                          being written; what a crash left is thrown away at the next start
//! ```
//!
//! A file is `CBL1`, the length of the content type (u16, big-endian), the content type, and the bytes. It is written and
//! synced as a draft, then renamed, then the directory is synced: a name never stands for half a blob.
#![warn(missing_docs)]

mod draft;
mod file;
mod store;

pub use store::BlobFiles;

#[cfg(test)]
#[path = "../../../tests/it/contract/blob_store.rs"]
mod blob_store_contract;
