//! The index's small values. Each begins with a version, then numbers as varints (timestamps as 8 bytes little-endian).

use crate::segment::{Generation, Kind};
use crate::stream::Meta;
use crate::varint;
use continuo_domain::Timestamp;
use continuo_domain::channel::FencingToken;

const VERSION: u64 = 1;

/// A stream as of the indexed part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) name: Box<str>,
    pub(crate) meta: Meta,
    /// Some of its records may have part ids.
    pub(crate) has_parts: bool,
}

impl StreamEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.name.len());
        varint::put(&mut out, VERSION);
        varint::put(&mut out, u64::from(self.has_parts));
        varint::put(&mut out, self.meta.next_seq);
        varint::put(&mut out, self.meta.earliest);
        out.extend_from_slice(&self.meta.last_timestamp.0.to_le_bytes());
        varint::put_bytes(&mut out, self.meta.fencing_token.as_str().as_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        (varint::take(rest)? == VERSION).then_some(())?;
        let has_parts = varint::take(rest)? == 1;
        let next_seq = varint::take(rest)?;
        let earliest = varint::take(rest)?;
        let (timestamp, behind) = rest.split_first_chunk::<8>()?;
        let last_timestamp = Timestamp(i64::from_le_bytes(*timestamp));
        *rest = behind;
        let token = std::str::from_utf8(varint::take_bytes(rest)?).ok()?;
        let fencing_token = FencingToken::parse(token).ok()?;
        let name = std::str::from_utf8(rest).ok()?.into();
        Some(Self { name, meta: Meta { next_seq, earliest, last_timestamp, fencing_token }, has_parts })
    }
}

/// A segment that the index refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) kind: Kind,
    /// No more will be written to it.
    pub(crate) sealed: bool,
    /// Where its batches end, as far as they are indexed.
    pub(crate) end: u64,
    /// Bytes of all record frames up to there.
    pub(crate) total_bytes: u64,
    /// Bytes of those that are neither trimmed nor deleted.
    pub(crate) live_bytes: u64,
}

impl SegmentEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        varint::put(&mut out, VERSION);
        varint::put(&mut out, u64::from(self.kind == Kind::Cold));
        varint::put(&mut out, u64::from(self.sealed));
        varint::put(&mut out, self.end);
        varint::put(&mut out, self.total_bytes);
        varint::put(&mut out, self.live_bytes);
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        (varint::take(rest)? == VERSION).then_some(())?;
        let kind = if varint::take(rest)? == 1 { Kind::Cold } else { Kind::Log };
        let sealed = varint::take(rest)? == 1;
        let end = varint::take(rest)?;
        let total_bytes = varint::take(rest)?;
        let live_bytes = varint::take(rest)?;
        rest.is_empty().then_some(Self { kind, sealed, end, total_bytes, live_bytes })
    }
}

/// How far the log is indexed, and the numbers that must not be given again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The segment that was being written; 0 before the first checkpoint.
    pub(crate) generation: Generation,
    /// The log goes on in a later segment.
    pub(crate) sealed: bool,
    /// Where the first batch that is not indexed begins, or will.
    pub(crate) offset: u64,
    /// Number of the last batch that is.
    pub(crate) batch: u64,
    pub(crate) next_stream: u64,
    /// Lower than any generation to come.
    pub(crate) last_generation: Generation,
}

impl Progress {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        varint::put(&mut out, VERSION);
        varint::put(&mut out, self.generation);
        varint::put(&mut out, u64::from(self.sealed));
        varint::put(&mut out, self.offset);
        varint::put(&mut out, self.batch);
        varint::put(&mut out, self.next_stream);
        varint::put(&mut out, self.last_generation);
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        (varint::take(rest)? == VERSION).then_some(())?;
        let generation = varint::take(rest)?;
        let sealed = varint::take(rest)? == 1;
        let offset = varint::take(rest)?;
        let batch = varint::take(rest)?;
        let next_stream = varint::take(rest)?;
        let last_generation = varint::take(rest)?;
        rest.is_empty().then_some(Self { generation, sealed, offset, batch, next_stream, last_generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stream_reads_back(
            name in "[a-z/]{0,40}", token in "[0-9.]{0,36}", next_seq in any::<u64>(), earliest in any::<u64>(),
            time in any::<i64>(), has_parts in any::<bool>(),
        ) {
            let fencing_token = FencingToken::parse(&token).unwrap();
            let meta = Meta { next_seq, earliest, last_timestamp: Timestamp(time), fencing_token };
            let entry = StreamEntry { name: name.as_str().into(), meta, has_parts };
            prop_assert_eq!(StreamEntry::decode(&entry.encode()), Some(entry));
        }

        #[test]
        fn a_segment_reads_back(cold in any::<bool>(), sealed in any::<bool>(), n in any::<[u64; 3]>()) {
            let kind = if cold { Kind::Cold } else { Kind::Log };
            let entry = SegmentEntry { kind, sealed, end: n[0], total_bytes: n[1], live_bytes: n[2] };
            prop_assert_eq!(SegmentEntry::decode(&entry.encode()), Some(entry));
        }

        #[test]
        fn progress_reads_back(sealed in any::<bool>(), n in any::<[u64; 5]>()) {
            let [generation, offset, batch, next_stream, last_generation] = n;
            let progress = Progress { generation, sealed, offset, batch, next_stream, last_generation };
            prop_assert_eq!(Progress::decode(&progress.encode()), Some(progress));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _ = (StreamEntry::decode(&bytes), SegmentEntry::decode(&bytes), Progress::decode(&bytes));
        }
    }
}
