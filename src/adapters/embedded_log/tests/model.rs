//! A long mixed history against a plain model of it, over restarts and stops at every step of the background work.

use super::{read_all, small};
use crate::log::EmbeddedLog;
use crate::shared::{Stop, StopPoint, Tuning};
use continuo_domain::channel::{Append, ChannelKey, Direction, FencingToken, NewRecord, PartId, SeqNum};
use continuo_domain::{Error, SessionId};
use continuo_ports::ChannelStore;
use std::collections::BTreeMap;
use tempfile::TempDir;

const SESSIONS: u64 = 5;
const OPERATIONS: usize = 700;

/// What a channel should be.
#[derive(Default)]
struct Expected {
    bodies: Vec<Vec<u8>>,
    earliest: SeqNum,
    fence: FencingToken,
    parts: BTreeMap<String, SeqNum>,
}

struct Model {
    channels: BTreeMap<u64, Expected>,
    random: u64,
    /// Rises, so that part ids differ.
    operations: usize,
}

fn key(channel: u64) -> ChannelKey {
    let direction = if channel.is_multiple_of(2) { Direction::In } else { Direction::Out };
    ChannelKey::reserved(SessionId::from_body(&(channel / 2).to_string()), direction)
}

impl Model {
    fn new(seed: u64) -> Self {
        Self { channels: BTreeMap::new(), random: seed, operations: 0 }
    }

    /// Not good, but the same each time.
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    async fn step(&mut self, log: &EmbeddedLog) {
        self.operations += 1;
        // Channel 0 is written rarely and never trimmed: its records are the survivors that compaction moves.
        let channel = match self.random(12) {
            0 => 0,
            other => 1 + other % (2 * SESSIONS - 1),
        };
        match self.random(40) {
            0 if channel > 1 => self.delete(log, channel / 2).await,
            1..=6 if channel > 0 => self.trim(log, channel).await,
            7 => self.fence(log, channel).await,
            8..=10 => self.repeat(log, channel).await,
            11..=18 => self.append_part(log, channel).await,
            _ => self.append(log, channel).await,
        }
    }

    async fn append(&mut self, log: &EmbeddedLog, channel: u64) {
        let count = 1 + self.random(4);
        let bodies: Vec<Vec<u8>> =
            (0..count).map(|_| vec![self.random(256) as u8; self.random(700) as usize]).collect();
        let records = bodies.iter().cloned().map(NewRecord::data).collect();
        let expected = self.channels.entry(channel).or_default();
        let append = Append { records, match_seq_num: Some(expected.bodies.len() as u64), ..Append::default() };
        log.append(&key(channel), append).await.unwrap();
        expected.bodies.extend(bodies);
    }

    async fn append_part(&mut self, log: &EmbeddedLog, channel: u64) {
        let part_id = format!("part {}", self.operations);
        let expected = self.channels.entry(channel).or_default();
        let appended = log.append(&key(channel), part(&part_id, part_id.as_bytes())).await.unwrap();
        assert_eq!((appended.start.seq_num, appended.repeated), (expected.bodies.len() as u64, false));
        expected.parts.insert(part_id.clone(), appended.start.seq_num);
        expected.bodies.push(part_id.into_bytes());
    }

    async fn repeat(&mut self, log: &EmbeddedLog, channel: u64) {
        let at = self.random(1_000) as usize;
        let Some(expected) = self.channels.get_mut(&channel) else { return };
        let Some((part_id, seq_num)) = expected.parts.iter().nth(at % expected.parts.len().max(1)) else { return };
        let (part_id, seq_num) = (part_id.clone(), *seq_num);
        let appended = log.append(&key(channel), part(&part_id, part_id.as_bytes())).await.unwrap();
        assert!(appended.repeated || seq_num < expected.earliest, "{part_id} at {seq_num} was written twice");
        if appended.repeated {
            assert_eq!(appended.start.seq_num, seq_num);
        } else {
            expected.parts.insert(part_id.clone(), appended.start.seq_num);
            expected.bodies.push(part_id.into_bytes());
        }
    }

    async fn trim(&mut self, log: &EmbeddedLog, channel: u64) {
        let back = self.random(6);
        let Some(expected) = self.channels.get_mut(&channel) else { return };
        let before = (expected.bodies.len() as u64).saturating_sub(back);
        log.append(&key(channel), Append::one(NewRecord::trim(before))).await.unwrap();
        expected.bodies.push(before.to_be_bytes().to_vec());
        expected.earliest = expected.earliest.max(before);
    }

    async fn fence(&mut self, log: &EmbeddedLog, channel: u64) {
        let token = FencingToken::parse(&format!("{}.0", self.operations)).unwrap();
        log.append(&key(channel), Append::one(NewRecord::fence(&token))).await.unwrap();
        let expected = self.channels.entry(channel).or_default();
        expected.bodies.push(token.as_str().as_bytes().to_vec());
        expected.fence = token;
    }

    async fn delete(&mut self, log: &EmbeddedLog, session: u64) {
        log.delete(&SessionId::from_body(&session.to_string())).await.unwrap();
        self.channels.retain(|channel, _| channel / 2 != session);
    }

    async fn check(&self, log: &EmbeddedLog) {
        for channel in 0..2 * SESSIONS {
            let key = key(channel);
            let nothing = Expected::default();
            let expected = self.channels.get(&channel).unwrap_or(&nothing);
            let tail = log.tail(&key).await.unwrap();
            assert_eq!(tail.position.seq_num, expected.bodies.len() as u64, "{key}");
            assert_eq!((tail.earliest_seq_num, &tail.fencing_token), (expected.earliest, &expected.fence), "{key}");
            let records = read_all(log, &key).await.unwrap();
            assert!(records.is_sorted_by_key(|record| record.timestamp));
            let read: Vec<_> = records.iter().map(|record| (record.seq_num, record.body.to_vec())).collect();
            let bodies = expected.bodies.iter().cloned().enumerate().map(|(n, body)| (n as u64, body));
            let wanted: Vec<_> = bodies.skip(expected.earliest as usize).collect();
            assert!(read == wanted, "{key}: {} records, {} wanted", read.len(), wanted.len());
            for (part_id, &seq_num) in &expected.parts {
                let found = log.part(&key, &PartId::parse(part_id).unwrap()).await.unwrap();
                assert_eq!(found, Some(seq_num).filter(|&seq_num| seq_num >= expected.earliest), "{key}: {part_id}");
            }
        }
    }
}

fn part(part_id: &str, body: &[u8]) -> Append {
    Append { part_id: Some(PartId::parse(part_id).unwrap()), ..Append::one(NewRecord::data(body.to_vec())) }
}

async fn live_through(seed: u64, tuning: Tuning) {
    let dir = TempDir::new().unwrap();
    let mut model = Model::new(seed);
    let wants_stop = tuning.stop_at.is_some();
    let mut stopped = 0;
    for life in 0..4 {
        let log = match EmbeddedLog::open(small(dir.path(), tuning.clone())) {
            Ok(log) => log,
            // The recovery itself was stopped; the next one begins with what it left.
            Err(error) if matches!(&error, Error::Unavailable(cause) if cause.for_log().contains("a test ends")) => {
                stopped += 1;
                EmbeddedLog::open(small(dir.path(), Tuning::default())).unwrap()
            }
            Err(error) => panic!("{error:?}"),
        };
        model.check(&log).await;
        for n in 0..OPERATIONS {
            model.step(&log).await;
            if n.is_multiple_of(50) {
                model.check(&log).await;
            }
        }
        model.check(&log).await;
        stopped += usize::from(log.shared().has_stopped_where_wanted());
        if life % 2 == 1 && !wants_stop {
            log.close().unwrap();
        }
    }
    assert!(!wants_stop || stopped > 0, "the stop was never reached");
    let log = EmbeddedLog::open(small(dir.path(), Tuning::default())).unwrap();
    model.check(&log).await;
    log.checkpoint().unwrap();
    model.check(&log).await;
}

async fn stops_at(point: StopPoint, passes: [usize; 2]) {
    for (seed, passes) in (1..).zip(passes) {
        let stop_at = Some(Stop { point, passes });
        live_through(seed, Tuning { stop_at, ..Tuning::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_survives_restarts() {
    live_through(1, Tuning::default()).await;
    live_through(2, Tuning { checkpoint_every_batch: true, ..Tuning::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_survives_a_stop_before_the_index_commit() {
    stops_at(StopPoint::BeforeIndexCommit, [0, 7]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_survives_a_stop_after_the_index_commit() {
    stops_at(StopPoint::AfterIndexCommit, [0, 7]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_survives_a_stop_after_the_copy_of_a_compaction() {
    stops_at(StopPoint::AfterCompactionCopy, [0, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_survives_a_stop_after_the_swap_of_a_compaction() {
    stops_at(StopPoint::AfterCompactionSwap, [0, 1]).await;
}
