//! Channels of the embedded log, taken over.

use super::{open, own_rows, shared_s2};
use crate::log::S2Log;
use continuo_domain::channel::{Append, ChannelKey, Direction, FencingToken, Header, NewRecord, ReadFrom, Record};
use continuo_domain::{SessionId, Timestamp};
use continuo_embedded_log::{EmbeddedLog, Options};
use continuo_ports::{AppendClaims, ChannelStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Both {
    old: EmbeddedLog,
    new: Arc<S2Log>,
    basin: String,
    taken: AtomicU64,
    _dirs: (TempDir, TempDir),
}

impl Both {
    async fn open() -> Self {
        let dir = TempDir::new().unwrap();
        let now = AtomicI64::new(1_600_000_000_000);
        let old = EmbeddedLog::open(Options::new(dir.path(), move || Timestamp(now.fetch_add(7, Ordering::Relaxed))));
        let (rows, rows_dir) = own_rows().await;
        let basin = rows.basin(&SessionId::from_body("any")).await.unwrap().unwrap();
        let (old, new) = (old.unwrap(), open(&shared_s2(), &rows));
        Self { old, new, basin, taken: AtomicU64::new(0), _dirs: (dir, rows_dir) }
    }

    async fn import(&self, channel: &ChannelKey) -> continuo_domain::Result<()> {
        self.taken.store(0, Ordering::Relaxed);
        let progress = |numbers| {
            self.taken.fetch_add(numbers, Ordering::Relaxed);
        };
        self.new.import(&self.old, channel, &self.basin, &progress).await?;
        let earliest = self.old.tail(channel).await?.earliest_seq_num;
        let until = Instant::now() + Duration::from_secs(60);
        while !self.new.has_trimmed(channel, &self.basin, earliest).await? {
            assert!(Instant::now() < until, "{channel} is not trimmed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn put(&self, channel: &ChannelKey, records: Vec<NewRecord>) {
        self.old.append(channel, Append { records, ..Append::default() }).await.unwrap();
    }

    async fn assert_same(&self, channel: &ChannelKey) {
        let (tail, kept) = (self.old.tail(channel).await.unwrap(), all(&self.old, channel).await);
        assert_eq!(all(&*self.new, channel).await, kept, "{channel}");
        assert_eq!(self.new.tail(channel).await.unwrap(), tail, "{channel}");
        assert_eq!(self.taken.load(Ordering::Relaxed), tail.position.seq_num);
    }
}

async fn all(log: &dyn ChannelStore, channel: &ChannelKey) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |last| last.seq_num + 1);
        let batch = log.read(channel, ReadFrom::seq_num(next)).await.unwrap().0;
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

fn key(body: &str) -> ChannelKey {
    ChannelKey::reserved(SessionId::from_body(body), Direction::Out)
}

fn data(count: usize) -> Vec<NewRecord> {
    (0..count).map(|n| NewRecord::data(format!("record {n}"))).collect()
}

fn fence(token: &str) -> NewRecord {
    NewRecord::fence(&FencingToken::parse(token).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_keep_their_numbers_times_and_commands() {
    let both = Both::open().await;
    let own_header =
        NewRecord { headers: vec![Header::new("a", "b"), Header::new("continuo-claim", "x")], body: "h".into() };
    let cases: [(&str, Vec<Vec<NewRecord>>); 9] = [
        ("plain", vec![data(3), data(1_000), vec![own_header]]),
        ("fenced", vec![data(2), vec![fence("1.0")], data(1), vec![fence("2.7.closed")]]),
        ("trimmed", vec![data(9), vec![NewRecord::trim(5)], data(2)]),
        ("trimmed-long", vec![data(1_000), data(1_000), vec![fence("3.1")], data(700), vec![NewRecord::trim(2_400)]]),
        ("all-trimmed", vec![data(4), vec![fence("4.0"), NewRecord::trim(u64::MAX)]]),
        ("trim-alone", vec![vec![NewRecord::trim(1)]]),
        ("trim-first", vec![vec![NewRecord::trim(1)], vec![fence("5.0")], data(1)]),
        ("fence-first", vec![vec![fence("6.0")], vec![NewRecord::trim(1)], data(1)]),
        ("fence-and-trim", vec![vec![fence("7.0")], vec![NewRecord::trim(2)]]),
    ];
    for (name, appends) in cases {
        for records in appends {
            both.put(&key(name), records).await;
        }
        both.import(&key(name)).await.unwrap();
        both.assert_same(&key(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_where_it_stopped() {
    let both = Both::open().await;
    let channel = key("a");
    both.put(&channel, data(10)).await;
    for _ in 0..2 {
        both.import(&channel).await.unwrap();
        both.assert_same(&channel).await;
    }
    both.put(&channel, data(1_000)).await;
    both.import(&channel).await.unwrap();
    both.assert_same(&channel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_other_records_is_left_alone() {
    let both = Both::open().await;
    for (name, there) in [("other", data(2)), ("longer", data(9))] {
        let channel = key(name);
        both.put(&channel, vec![NewRecord::data("x"); 3]).await;
        both.new.append(&channel, Append { records: there.clone(), ..Append::default() }).await.unwrap();
        let refused = both.import(&channel).await.unwrap_err();
        assert!(refused.to_string().contains("holds other records"), "{refused}");
        assert_eq!(all(&*both.new, &channel).await.len(), there.len());
    }
}
