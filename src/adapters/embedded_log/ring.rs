//! The newest records of followed streams, in memory and shared by their followers. Bounded over all streams together:
//! the oldest go first, and a follower that comes too late reads them from the log.

use crate::stream::{State, Stream};
use continuo_domain::channel::{Record, SeqNum};
use continuo_ports::channel_store::{READ_BATCH_BYTES_MAX, READ_BATCH_RECORDS_MAX};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// All rings together hold no more than this.
const RING_BYTES_MAX: usize = 32 << 20;
/// What a record costs besides its metered bytes.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// What is in the rings, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    stream: Weak<Stream>,
    first_seq: SeqNum,
    bytes: usize,
}

impl Rings {
    /// Shows new records to the followers of a stream, if there are any.
    pub(crate) fn publish(&mut self, stream: &Arc<Stream>, state: &mut State, records: &mut Vec<Record>) {
        // Records of before the first follower came are not here; a ring has no holes.
        if records.is_empty() || !stream.has_followers() {
            state.ring.clear();
            records.clear();
            return;
        }
        for batch in batches(records) {
            let first_seq = batch[0].seq_num;
            let bytes = batch.iter().map(weight).sum();
            state.ring.push_back(batch);
            self.entries.push_back(Entry { stream: Arc::downgrade(stream), first_seq, bytes });
            self.bytes += bytes;
        }
        while self.bytes > RING_BYTES_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes;
            match oldest.stream.upgrade() {
                Some(other) if Arc::ptr_eq(&other, stream) => drop_up_to(state, oldest.first_seq),
                Some(other) => drop_up_to(&mut other.state.lock(), oldest.first_seq),
                None => {}
            }
        }
    }
}

fn weight(record: &Record) -> usize {
    record.metered_bytes() + RECORD_OVERHEAD_BYTES
}

fn drop_up_to(state: &mut State, first_seq: SeqNum) {
    while state.ring.front().is_some_and(|batch| batch[0].seq_num <= first_seq) {
        state.ring.pop_front();
    }
}

/// Cuts records into batches a reader may be given.
fn batches(records: &mut Vec<Record>) -> Vec<Arc<[Record]>> {
    let mut out = Vec::with_capacity(1);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for record in records.drain(..) {
        let weight = record.metered_bytes();
        if batch.len() == READ_BATCH_RECORDS_MAX || (!batch.is_empty() && bytes + weight > READ_BATCH_BYTES_MAX) {
            out.push(std::mem::take(&mut batch).into());
            bytes = 0;
        }
        bytes += weight;
        batch.push(record);
    }
    out.push(batch.into());
    out
}

/// The records at `next`, if the ring has them: a whole batch where a reader stands at its begin, else its rest.
pub(crate) fn read(state: &State, next: SeqNum) -> Option<Arc<[Record]>> {
    let at = state.ring.partition_point(|batch| batch[0].seq_num <= next).checked_sub(1)?;
    let batch = &state.ring[at];
    let skip = usize::try_from(next - batch[0].seq_num).ok()?;
    match skip {
        0 => Some(batch.clone()),
        _ if skip < batch.len() => Some(batch[skip..].into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::Timestamp;

    fn record(seq_num: SeqNum, bytes: usize) -> Record {
        Record { seq_num, timestamp: Timestamp(0), headers: Vec::new(), body: vec![0; bytes].into() }
    }

    #[test]
    fn a_reader_takes_a_batch_or_its_rest() {
        let mut state = State::default();
        state.ring.push_back((3..6).map(|n| record(n, 1)).collect());
        state.ring.push_back((6..8).map(|n| record(n, 1)).collect());
        let numbers = |next| read(&state, next).map(|batch| batch.iter().map(|r| r.seq_num).collect::<Vec<_>>());
        assert_eq!(numbers(2), None);
        assert_eq!(numbers(3), Some(vec![3, 4, 5]));
        assert_eq!(numbers(5), Some(vec![5]));
        assert_eq!(numbers(6), Some(vec![6, 7]));
        assert_eq!(numbers(8), None);
    }

    #[test]
    fn batches_keep_to_the_limits() {
        let mut records: Vec<_> = (0..2_500).map(|n| record(n, 10)).chain([record(2_500, 1 << 20)]).collect();
        let lengths: Vec<_> = batches(&mut records).iter().map(|batch| batch.len()).collect();
        assert_eq!(lengths, [1_000, 1_000, 500, 1]);
    }

    #[test]
    fn the_oldest_go_first() {
        let registry = Weak::new();
        let streams: Vec<_> = ["a", "b"].map(|name| Stream::new(name, registry.clone())).into();
        let following: Vec<_> = streams.iter().cloned().map(crate::stream::Following::new).collect();
        let mut rings = Rings::default();
        for n in 0..100 {
            for stream in &streams {
                rings.publish(stream, &mut stream.state.lock(), &mut vec![record(n, 1 << 20)]);
            }
        }
        assert!(rings.bytes <= RING_BYTES_MAX);
        for stream in &streams {
            let state = stream.state.lock();
            assert!(read(&state, 0).is_none());
            assert_eq!(read(&state, 99).unwrap()[0].seq_num, 99);
        }
        drop(following);
    }
}
