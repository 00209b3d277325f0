//! The channel log of one node: every channel of every session in one shared log, on plain files.
//!
//! * `frame`, `batch`, `segment`: the bytes on disk, bottom up. Version 1; `golden/` holds a log of that version.
//! * `intake`, `draft`: callers turn their appends into frames of the next batch.
//! * `committer`, `acknowledger`: the one thread that writes, and the one that answers. One `fdatasync` per batch;
//!   durable, then visible, then acknowledged.
//! * `indexer`, `compactor`: records stay where the committer put them. When a span of the log is complete, only
//!   *where they stand* goes into an index. Copying the records themselves into an ordered store would halve the
//!   throughput that lasts; this costs four bytes per record. Survivors of mostly dead segments are put together.
//! * `recovery`: replays what the index does not have, cuts a torn tail, refuses damage.
//! * `reader`, `follower`, `ring`: from memory what is new, from the segments what is old.
//! * `registry`: a stream is in memory only while it is needed.
//!
//! ```text
//! <dir>/lock       held by the process that has the log open
//! <dir>/segments/  see `segment`
//! <dir>/index/     see `index`
//! ```
#![warn(missing_docs)]

mod acknowledger;
mod batch;
mod channel_store;
mod checkpoint;
mod committer;
mod compactor;
mod draft;
mod export;
mod failure;
mod follower;
mod frame;
mod index;
mod index_value;
mod indexer;
mod intake;
mod log;
mod reader;
mod recovery;
mod registry;
mod ring;
mod run;
mod segment;
mod segments;
mod shared;
mod stream;
mod varint;
mod written;

pub use log::{EmbeddedLog, Options, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Stats};

#[cfg(test)]
#[path = "../../../tests/it/contract/channel_store.rs"]
mod contract;
#[cfg(test)]
mod tests;
