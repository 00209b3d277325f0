//! Cuts and flips. The log recovers exactly what was acknowledged up to a torn last batch, or refuses to open; it never
//! gives out something else.

use super::{bodies, key, one, open_small, read_all, small, with_part};
use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::log::EmbeddedLog;
use crate::segment::{Kind, SEGMENT_HEADER_BYTES, Segment};
use crate::shared::{Stop, StopPoint, Tuning};
use continuo_domain::channel::{Append, ChannelKey, NewRecord};
use continuo_domain::{Error, Result};
use continuo_ports::ChannelStore;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A log that was never indexed: one segment with some batches, one append each.
struct Victim {
    dir: TempDir,
    bytes: Vec<u8>,
    batches: Vec<Range<usize>>,
    written: Vec<String>,
}

impl Victim {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(never_indexed(dir.path())).unwrap();
        let written: Vec<_> = (0..6).map(|n| format!("record {n}")).collect();
        for (n, body) in written.iter().enumerate() {
            let append = if n % 2 == 0 { one(body) } else { with_part(body, body) };
            log.append(&key("a"), append).await.unwrap();
        }
        drop(log);
        let bytes = fs::read(segment_file(dir.path())).unwrap();
        let batches = batches(dir.path(), &bytes);
        assert_eq!(batches.len(), written.len());
        Self { dir, bytes, batches, written }
    }

    /// The log as it was, with another segment, and what is in it then.
    async fn with(&self, bytes: &[u8]) -> Result<Vec<String>> {
        let dir = self.dir.path();
        fs::remove_dir_all(dir.join("index")).unwrap();
        fs::write(segment_file(dir), bytes).unwrap();
        let log = EmbeddedLog::open(never_indexed(dir))?;
        let found = bodies(&log, &key("a")).await;
        // It can go on where it was cut.
        let appended = log.append(&key("a"), one("more")).await.unwrap();
        assert_eq!(appended.start.seq_num, found.len() as u64);
        drop(log);
        let log = EmbeddedLog::open(never_indexed(dir)).unwrap();
        let after = bodies(&log, &key("a")).await;
        assert_eq!((&after[..found.len()], after.last().map(String::as_str)), (&found[..], Some("more")));
        Ok(found)
    }
}

fn never_indexed(dir: &Path) -> crate::log::Options {
    small(dir, Tuning { stop_at: Some(Stop { point: StopPoint::BeforeIndexCommit, passes: 0 }), ..Tuning::default() })
}

fn segment_file(dir: &Path) -> PathBuf {
    Segment::path(&dir.join("segments"), Kind::Log, 1)
}

fn batches(dir: &Path, bytes: &[u8]) -> Vec<Range<usize>> {
    let segment = Segment::open(&dir.join("segments"), Kind::Log, 1, bytes.len() as u64).unwrap();
    let mut at = SEGMENT_HEADER_BYTES as usize;
    let mut batches = Vec::new();
    while let Some(header) = BatchHeader::read(segment.seed, at as u64, &bytes[at..]) {
        batches.push(at..at + header.whole_bytes() as usize);
        at += header.whole_bytes() as usize;
    }
    batches
}

fn is_damaged<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Damaged(_)))
}

#[tokio::test]
async fn a_torn_last_batch_is_cut() {
    let victim = Victim::new().await;
    let last = victim.batches.last().unwrap().clone();
    let acknowledged_before = &victim.written[..victim.written.len() - 1];
    let mut torn = 0;
    for cut in last.clone().step_by(5) {
        let mut bytes = victim.bytes.clone();
        bytes[cut..last.end].fill(0);
        let found = victim.with(&bytes).await.unwrap();
        let is_whole = bytes == victim.bytes;
        torn += usize::from(!is_whole);
        assert_eq!(found, if is_whole { &victim.written } else { acknowledged_before }, "cut at {cut}");
    }
    assert!(torn > 10);
}

#[tokio::test]
async fn a_flip_in_the_last_batch_cuts_it() {
    let victim = Victim::new().await;
    let last = victim.batches.last().unwrap().clone();
    let acknowledged_before = &victim.written[..victim.written.len() - 1];
    for (n, at) in last.clone().enumerate().step_by(5) {
        let mut bytes = victim.bytes.clone();
        bytes[at] ^= 1 << (n % 8);
        let found = victim.with(&bytes).await.unwrap();
        // The padding says nothing; a flip there is no loss.
        let in_padding = at >= last.end - 7 && found == victim.written;
        assert!(in_padding || found == acknowledged_before, "flip at {at}: {found:?}");
    }
}

#[tokio::test]
async fn damage_before_a_good_batch_is_refused() {
    let victim = Victim::new().await;
    for batch in &victim.batches[..victim.batches.len() - 1] {
        for at in batch.clone().step_by(23) {
            let mut flipped = victim.bytes.clone();
            flipped[at] ^= 0x40;
            let mut cut = victim.bytes.clone();
            cut[at..batch.end].fill(0);
            for bytes in [flipped, cut] {
                match victim.with(&bytes).await {
                    Ok(found) => assert!(at >= batch.end - 7 && found == victim.written, "at {at}"),
                    refused => assert!(is_damaged(&refused), "at {at}: {refused:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn the_refusal_says_where() {
    let victim = Victim::new().await;
    let mut bytes = victim.bytes.clone();
    bytes[victim.batches[2].start + 50] ^= 1;
    let Err(error) = victim.with(&bytes).await else { panic!("it opened") };
    assert_eq!(error.to_string(), "stored data is damaged");
    let cause = error.cause().unwrap().for_log();
    assert!(cause.contains("segment 0000000000000001"), "{cause}");
    assert!(cause.contains(&format!("at {}", victim.batches[2].start)), "{cause}");
}

#[tokio::test]
async fn a_shortened_segment_is_refused() {
    let victim = Victim::new().await;
    for length in [0, 17, 4_096, victim.batches[3].start, victim.bytes.len() - 1] {
        let outcome = victim.with(&victim.bytes[..length]).await;
        assert!(is_damaged(&outcome), "{length}: {outcome:?}");
    }
}

/// An agent may well print the log's own files into a session.
#[tokio::test]
async fn a_copy_of_the_log_inside_a_record_is_no_later_batch() {
    let victim = Victim::new().await;
    let log = EmbeddedLog::open(never_indexed(victim.dir.path())).unwrap();
    let copy = victim.bytes[..victim.batches.last().unwrap().end].to_vec();
    log.append(&key("a"), Append::one(NewRecord::data(copy))).await.unwrap();
    drop(log);
    let mut bytes = fs::read(segment_file(victim.dir.path())).unwrap();
    let last = batches(victim.dir.path(), &bytes).last().unwrap().clone();
    bytes[last.start..last.start + BATCH_HEADER_BYTES].fill(0);
    assert_eq!(victim.with(&bytes).await.unwrap(), victim.written);
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    for missing in 1..=3 {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(never_indexed(dir.path())).unwrap();
        while log.stats().segments < 4 {
            log.append(&key("a"), one(&"x".repeat(2_000))).await.unwrap();
        }
        drop(log);
        fs::remove_file(Segment::path(&dir.path().join("segments"), Kind::Log, missing)).unwrap();
        let outcome = EmbeddedLog::open(small(dir.path(), Tuning::default())).map(|_| ());
        assert!(is_damaged(&outcome), "{missing}: {outcome:?}");
    }
}

#[tokio::test]
async fn damage_in_indexed_records_is_found_when_they_are_read() {
    let dir = TempDir::new().unwrap();
    let (good, bad) = (key("good"), key("bad"));
    let log = open_small(dir.path());
    log.append(&good, one("good")).await.unwrap();
    log.append(&bad, with_part("to be flipped", "p")).await.unwrap();
    log.close().unwrap();
    drop(log);
    let path = segment_file(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|window| window == b"to be flipped").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let log = open_small(dir.path());
    assert_eq!(bodies(&log, &good).await, ["good"]);
    assert!(is_damaged(&read_all(&log, &bad).await));
    // Whether the repeat is one cannot be said any more; it is not taken for a new record.
    assert!(is_damaged(&log.append(&bad, with_part("to be flipped", "p")).await));
}

#[tokio::test]
async fn an_indexed_segment_that_is_gone_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    let key: ChannelKey = key("a");
    log.append(&key, one("x")).await.unwrap();
    log.close().unwrap();
    drop(log);
    fs::remove_file(segment_file(dir.path())).unwrap();
    assert!(is_damaged(&EmbeddedLog::open(small(dir.path(), Tuning::default())).map(|_| ())));
}
