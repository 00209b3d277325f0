//! The log as a whole: the port's contract, then what only this adapter promises.

mod damage;
mod export;
mod golden;
mod model;
mod reopen;
mod reuse;

use crate::contract::channel_store_contract;
use crate::log::{EmbeddedLog, Options, SEGMENT_BYTES_MIN};
use crate::shared::Tuning;
use continuo_domain::channel::{Append, ChannelKey, Direction, NewRecord, PartId, ReadFrom, Record};
use continuo_domain::{Result, SessionId, Timestamp};
use continuo_ports::ChannelStore;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// A clock that goes on with every look at it.
fn ticking(start: i64) -> impl Fn() -> Timestamp + Send + Sync + 'static {
    let now = AtomicI64::new(start);
    move || Timestamp(now.fetch_add(1, Ordering::Relaxed))
}

fn options(dir: &Path) -> Options {
    Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(dir, ticking(1_000_000)) }
}

/// Segments that are full after a few appends.
fn small(dir: &Path, tuning: Tuning) -> Options {
    let tuning = Tuning { small_segments: true, ..tuning };
    Options { segment_bytes: 16 << 10, tuning, ..options(dir) }
}

fn open_small(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(small(dir, Tuning::default())).unwrap()
}

async fn on_a_temp_dir() -> (Arc<dyn ChannelStore>, TempDir) {
    let dir = TempDir::new().unwrap();
    (Arc::new(EmbeddedLog::open(options(dir.path())).unwrap()), dir)
}

/// Everything old is in the index at once, and segments are used again and again.
async fn indexed_at_once() -> (Arc<dyn ChannelStore>, TempDir) {
    let dir = TempDir::new().unwrap();
    let tuning = Tuning { checkpoint_every_batch: true, ..Tuning::default() };
    (Arc::new(EmbeddedLog::open(Options { tuning, ..options(dir.path()) }).unwrap()), dir)
}

channel_store_contract!(embedded_log, crate::contract, on_a_temp_dir());
channel_store_contract!(embedded_log_indexed_at_once, crate::contract, indexed_at_once());

fn key(body: &str) -> ChannelKey {
    ChannelKey::reserved(SessionId::from_body(body), Direction::In)
}

fn one(body: &str) -> Append {
    Append::one(NewRecord::data(body.to_owned()))
}

fn with_part(body: &str, part_id: &str) -> Append {
    Append { part_id: Some(PartId::parse(part_id).unwrap()), ..one(body) }
}

async fn read_all(log: &EmbeddedLog, key: &ChannelKey) -> Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |last| last.seq_num + 1);
        let (batch, _) = log.read(key, ReadFrom::seq_num(next)).await?;
        if batch.is_empty() {
            return Ok(records);
        }
        records.extend(batch);
    }
}

async fn bodies(log: &EmbeddedLog, key: &ChannelKey) -> Vec<String> {
    let records = read_all(log, key).await.unwrap();
    records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
}
