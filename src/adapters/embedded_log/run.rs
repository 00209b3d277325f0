//! Runs: where consecutive records of one stream stand in one segment. In memory for what is not indexed yet; in the
//! index for the rest, as a value of about four bytes per record.
//!
//! ```text
//! varint  version: 1
//! varint  segment (generation)
//! varint  1 if any of the records has a part id, else 0
//! varint  number of records, at least 1
//! i64     timestamp of the first record, little-endian
//! then for each record
//! varint  bytes between the end of the frame before (0 for the first) and the begin of this frame
//! varint  bytes of the frame
//! varint  milliseconds since the record before (0 for the first)
//! ```

use crate::segment::Generation;
use crate::varint;
use continuo_domain::Timestamp;
use continuo_domain::channel::SeqNum;

/// Most records in one run of the index, so that reading a batch does not decode a whole segment's worth.
pub(crate) const RUN_RECORDS_MAX: usize = 4_096;

const VERSION: u64 = 1;

/// Where a record's frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRef {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) timestamp: Timestamp,
}

/// Consecutive records of one stream in one segment, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) segment: Generation,
    pub(crate) first_seq: SeqNum,
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) has_parts: bool,
}

impl Run {
    pub(crate) fn new(segment: Generation, first_seq: SeqNum) -> Self {
        Self { segment, first_seq, frames: Vec::new(), has_parts: false }
    }

    /// The number after the last record.
    pub(crate) fn end_seq(&self) -> SeqNum {
        self.first_seq + self.frames.len() as u64
    }

    pub(crate) fn contains(&self, seq_num: SeqNum) -> bool {
        (self.first_seq..self.end_seq()).contains(&seq_num)
    }

    /// The frames from a number on, without those before.
    pub(crate) fn frames_from(&self, seq_num: SeqNum) -> &[FrameRef] {
        let skip = seq_num.saturating_sub(self.first_seq).min(self.frames.len() as u64);
        &self.frames[skip as usize..]
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.bytes)).sum()
    }

    /// The number of the first record of this time or later; `None` if all are earlier.
    pub(crate) fn at_or_after(&self, timestamp: Timestamp) -> Option<SeqNum> {
        let earlier = self.frames.partition_point(|frame| frame.timestamp < timestamp);
        (earlier < self.frames.len()).then(|| self.first_seq + earlier as u64)
    }

    /// Without the records below `seq_num`; `None` if nothing is left.
    pub(crate) fn without_before(mut self, seq_num: SeqNum) -> Option<Self> {
        let dropped = self.frames.len() - self.frames_from(seq_num).len();
        self.frames.drain(..dropped);
        self.first_seq += dropped as u64;
        (!self.frames.is_empty()).then_some(self)
    }

    /// In pieces for the index.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Run> {
        self.frames.chunks(RUN_RECORDS_MAX).enumerate().map(|(at, frames)| Run {
            segment: self.segment,
            first_seq: self.first_seq + (at * RUN_RECORDS_MAX) as u64,
            frames: frames.to_vec(),
            has_parts: self.has_parts,
        })
    }

    /// The value in the index; the key has the first number.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.frames.len() * 4);
        varint::put(&mut out, VERSION);
        varint::put(&mut out, self.segment);
        varint::put(&mut out, u64::from(self.has_parts));
        varint::put(&mut out, self.frames.len() as u64);
        let first = self.frames.first().map_or(Timestamp::default(), |frame| frame.timestamp);
        out.extend_from_slice(&first.0.to_le_bytes());
        let (mut end, mut before) = (0, first);
        for frame in &self.frames {
            varint::put(&mut out, u64::from(frame.offset - end));
            varint::put(&mut out, u64::from(frame.bytes));
            varint::put(&mut out, frame.timestamp.0.wrapping_sub(before.0) as u64);
            (end, before) = (frame.offset + frame.bytes, frame.timestamp);
        }
        out
    }

    /// Reads a value of the index; `None` if it is not one.
    pub(crate) fn decode(first_seq: SeqNum, mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        if varint::take(rest)? != VERSION {
            return None;
        }
        let segment = varint::take(rest)?;
        let has_parts = varint::take(rest)? == 1;
        let count = usize::try_from(varint::take(rest)?).ok()?;
        let mut before = read_first_timestamp(rest)?;
        first_seq.checked_add(count as u64)?;
        let mut frames = Vec::with_capacity(count.min(rest.len() / 3));
        let mut end = 0u32;
        for _ in 0..count {
            let offset = end.checked_add(u32::try_from(varint::take(rest)?).ok()?)?;
            let bytes = u32::try_from(varint::take(rest)?).ok()?;
            let timestamp = Timestamp(before.0.wrapping_add(varint::take(rest)? as i64));
            frames.push(FrameRef { offset, bytes, timestamp });
            (end, before) = (offset.checked_add(bytes)?, timestamp);
        }
        (rest.is_empty() && !frames.is_empty()).then_some(Self { segment, first_seq, frames, has_parts })
    }

    /// Only the time of the first record, without decoding the rest.
    pub(crate) fn decode_first_timestamp(mut bytes: &[u8]) -> Option<Timestamp> {
        for _ in 0..4 {
            varint::take(&mut bytes)?;
        }
        read_first_timestamp(&mut bytes)
    }
}

fn read_first_timestamp(rest: &mut &[u8]) -> Option<Timestamp> {
    let (first, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(Timestamp(i64::from_le_bytes(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run() -> impl Strategy<Value = Run> {
        let frame = (0u32..5_000, 20u32..2_000_000, 0i64..100_000);
        let frames = proptest::collection::vec(frame, 1..300);
        (any::<u64>(), 0u64..1 << 60, any::<bool>(), -1_000i64..1 << 50, frames).prop_map(
            |(segment, first_seq, has_parts, start, steps)| {
                let (mut offset, mut time) = (4_096u32, start);
                let frames = steps.into_iter().map(|(gap, bytes, ms)| {
                    let frame = FrameRef { offset: offset + gap, bytes, timestamp: Timestamp(time + ms) };
                    (offset, time) = (frame.offset + bytes, time + ms);
                    frame
                });
                Run { segment, first_seq, frames: frames.collect(), has_parts }
            },
        )
    }

    proptest! {
        #[test]
        fn a_run_reads_back(run in run()) {
            let bytes = run.encode();
            prop_assert_eq!(Run::decode_first_timestamp(&bytes), Some(run.frames[0].timestamp));
            prop_assert_eq!(Run::decode(run.first_seq, &bytes), Some(run));
        }

        #[test]
        fn no_bytes_make_it_panic(first in any::<u64>(), bytes in any::<Vec<u8>>()) {
            let _ = Run::decode(first, &bytes);
            let _ = Run::decode_first_timestamp(&bytes);
        }

        #[test]
        fn dropping_the_front_keeps_the_rest(run in run(), at in 0u64..400) {
            let from = run.first_seq + at;
            let rest = run.frames_from(from).to_vec();
            let kept = run.clone().without_before(from);
            prop_assert_eq!(kept.is_none(), rest.is_empty());
            if let Some(kept) = kept {
                prop_assert_eq!(kept.end_seq(), run.end_seq());
                prop_assert_eq!(kept.frames, rest);
            }
        }

        #[test]
        fn a_time_is_found(run in run(), time in -1_000i64..1 << 50) {
            let found = run.at_or_after(Timestamp(time));
            let expected = run.frames.iter().position(|f| f.timestamp.0 >= time).map(|at| run.first_seq + at as u64);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn long_runs_are_cut_into_pieces() {
        let frame = |at: u32| FrameRef { offset: at * 10, bytes: 10, timestamp: Timestamp(0) };
        let run = Run { segment: 1, first_seq: 5, frames: (0..10_000).map(frame).collect(), has_parts: true };
        let pieces: Vec<_> = run.pieces().collect();
        assert_eq!(pieces.iter().map(|p| p.frames.len()).collect::<Vec<_>>(), [4_096, 4_096, 1_808]);
        assert!(pieces.windows(2).all(|w| w[0].end_seq() == w[1].first_seq));
    }
}
