//! Frames: what a batch is made of. All numbers are little-endian.
//!
//! ```text
//!  0  u32  checksum: CRC-32 (IEEE) of bytes 4.. of the frame, started from the segment's seed
//!  4  u32  length: bytes of the frame after this field
//!  8  u8   kind: 1 record, 2 open, 3 delete
//!  9  u64  stream: given once, never used again
//!
//! record                                             open (before the first record of a stream)
//! 17  u64     seq_num                                17  the stream's name, UTF-8, to the end
//! 25  i64     timestamp, milliseconds
//! 33  varint  part id length (0: none), part id      delete (the stream and all its records are gone)
//!     varint  number of headers, then for each:      17  nothing
//!             varint name length, name,
//!             varint value length, value
//!     body, to the end
//! ```
//!
//! The checksum starts from the seed of the segment's generation, so that a frame left over from an earlier life of the
//! same blocks is never taken for one of this life.

use crate::varint;
use bytes::Bytes;
use continuo_domain::Timestamp;
use continuo_domain::channel::{Header, NewRecord, Record, SeqNum};

/// Checksum and length.
pub(crate) const FRAME_HEAD_BYTES: usize = 8;
/// Everything of a record frame before the part id.
const RECORD_FIXED_BYTES: usize = 33;
/// Everything of an open or delete frame before the name.
const STREAM_FIXED_BYTES: usize = 17;
/// Most bytes the lengths of one header take.
const HEADER_LENGTHS_BYTES_MAX: usize = 8;
/// Most bytes the part id's length and the number of headers take.
const COUNTS_BYTES_MAX: usize = 8;

const KIND_RECORD: u8 = 1;
const KIND_OPEN: u8 = 2;
const KIND_DELETE: u8 = 3;

/// Number of a stream inside one log. Never used again, also not after a delete.
pub(crate) type StreamId = u64;

/// A frame whose checksum was right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) stream: StreamId,
    pub(crate) content: Content<'a>,
    /// All bytes of the frame.
    pub(crate) bytes: usize,
    /// The checksum, which the batch binds.
    pub(crate) checksum: u32,
}

/// What the frame says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Record(RecordFrame<'a>),
    Open { name: &'a str },
    Delete,
}

/// A record as it stands in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFrame<'a> {
    pub(crate) seq_num: SeqNum,
    pub(crate) timestamp: Timestamp,
    /// Empty if it has none.
    pub(crate) part_id: &'a str,
    headers: usize,
    rest: &'a [u8],
}

/// No record frame of this record is longer.
pub(crate) fn record_bytes_max(record: &NewRecord, part_id: Option<&str>) -> usize {
    let headers: usize = record.headers.iter().map(|h| HEADER_LENGTHS_BYTES_MAX + h.name.len() + h.value.len()).sum();
    RECORD_FIXED_BYTES + COUNTS_BYTES_MAX + part_id.map_or(0, str::len) + headers + record.body.len()
}

/// Bytes of the open frame.
pub(crate) fn open_bytes(name: &str) -> usize {
    STREAM_FIXED_BYTES + name.len()
}

/// Appends a record frame, not sealed yet.
pub(crate) fn put_record(
    out: &mut Vec<u8>,
    stream: StreamId,
    (seq_num, timestamp): (SeqNum, Timestamp),
    part_id: Option<&str>,
    headers: &[Header],
    body: &[u8],
) {
    let start = begin(out, KIND_RECORD, stream);
    out.extend_from_slice(&seq_num.to_le_bytes());
    out.extend_from_slice(&timestamp.0.to_le_bytes());
    varint::put_bytes(out, part_id.unwrap_or_default().as_bytes());
    varint::put(out, headers.len() as u64);
    for header in headers {
        varint::put_bytes(out, &header.name);
        varint::put_bytes(out, &header.value);
    }
    out.extend_from_slice(body);
    end(out, start);
}

/// Appends an open frame, not sealed yet.
pub(crate) fn put_open(out: &mut Vec<u8>, stream: StreamId, name: &str) {
    let start = begin(out, KIND_OPEN, stream);
    out.extend_from_slice(name.as_bytes());
    end(out, start);
}

/// Appends a delete frame, not sealed yet.
pub(crate) fn put_delete(out: &mut Vec<u8>, stream: StreamId) {
    let start = begin(out, KIND_DELETE, stream);
    end(out, start);
}

fn begin(out: &mut Vec<u8>, kind: u8, stream: StreamId) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    start
}

fn end(out: &mut [u8], start: usize) {
    let length = (out.len() - start - FRAME_HEAD_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

/// Writes the checksum into the frame that begins at `start`, once it is known which segment it goes to. Returns where
/// it ends, and the checksum.
pub(crate) fn seal(frames: &mut [u8], start: usize, seed: u32) -> (usize, u32) {
    let mut length = [0; 4];
    length.copy_from_slice(&frames[start + 4..start + 8]);
    let end = start + FRAME_HEAD_BYTES + u32::from_le_bytes(length) as usize;
    let checksum = checksum(seed, &frames[start + 4..end]);
    frames[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    (end, checksum)
}

/// The checksum of `bytes` in a segment with this seed.
pub(crate) fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Reads the frame at the front of `bytes`; `None` unless it is whole and right.
pub(crate) fn read(seed: u32, bytes: &[u8]) -> Option<Frame<'_>> {
    let expected = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    let whole = bytes.get(..FRAME_HEAD_BYTES.checked_add(length)?)?;
    if checksum(seed, &whole[4..]) != expected {
        return None;
    }
    let stream = u64::from_le_bytes(whole.get(9..17)?.try_into().ok()?);
    let rest = &whole[STREAM_FIXED_BYTES..];
    let content = match whole[8] {
        KIND_RECORD => Content::Record(read_record(rest)?),
        KIND_OPEN => Content::Open { name: std::str::from_utf8(rest).ok()? },
        KIND_DELETE if rest.is_empty() => Content::Delete,
        _ => return None,
    };
    Some(Frame { stream, content, bytes: whole.len(), checksum: expected })
}

fn read_record(bytes: &[u8]) -> Option<RecordFrame<'_>> {
    let seq_num = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let timestamp = Timestamp(i64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?));
    let mut rest = &bytes[16..];
    let part_id = std::str::from_utf8(varint::take_bytes(&mut rest)?).ok()?;
    let headers = usize::try_from(varint::take(&mut rest)?).ok()?;
    Some(RecordFrame { seq_num, timestamp, part_id, headers, rest })
}

impl<'a> RecordFrame<'a> {
    /// The record; its headers and body share `source`, which the frame was read from.
    pub(crate) fn to_record(self, source: &Bytes) -> Option<Record> {
        let mut rest = self.rest;
        // The count is not trusted with memory: a header takes at least two bytes.
        let mut headers = Vec::with_capacity(self.headers.min(rest.len() / 2));
        for _ in 0..self.headers {
            let name = source.slice_ref(varint::take_bytes(&mut rest)?);
            let value = source.slice_ref(varint::take_bytes(&mut rest)?);
            headers.push(Header { name, value });
        }
        Some(Record { seq_num: self.seq_num, timestamp: self.timestamp, headers, body: source.slice_ref(rest) })
    }

    /// May this be a command? Commands have exactly one header.
    pub(crate) fn may_be_command(self) -> bool {
        self.headers == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(n: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..n)
    }

    proptest! {
        #[test]
        fn a_record_reads_back(
            seed in any::<u32>(), stream in any::<u64>(), seq_num in any::<u64>(), timestamp in any::<i64>(),
            part_id in "[ -~]{0,200}", body in bytes_of(600),
            headers in proptest::collection::vec((bytes_of(20), bytes_of(300)), 0..5),
        ) {
            let headers: Vec<_> = headers.into_iter().map(|(n, v)| Header::new(n, v)).collect();
            let part = Some(part_id.as_str()).filter(|p| !p.is_empty());
            let mut out = vec![7; 3];
            put_record(&mut out, stream, (seq_num, Timestamp(timestamp)), part, &headers, &body);
            prop_assert_eq!(seal(&mut out, 3, seed).0, out.len());
            let new = NewRecord { headers: headers.clone(), body: body.clone().into() };
            prop_assert!(out.len() - 3 <= record_bytes_max(&new, part));
            let source = Bytes::from(out).slice(3..);
            let frame = read(seed, &source).unwrap();
            prop_assert_eq!((frame.stream, frame.bytes), (stream, source.len()));
            let Content::Record(record) = frame.content else { panic!("not a record") };
            prop_assert_eq!(record.part_id, part_id);
            let expected = Record { seq_num, timestamp: Timestamp(timestamp), headers, body: body.into() };
            prop_assert_eq!(record.to_record(&source), Some(expected));
            prop_assert!(read(seed ^ 1, &source).is_none(), "of another generation");
        }

        #[test]
        fn a_flipped_bit_is_seen(body in bytes_of(40), bit in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            put_record(&mut out, 1, (2, Timestamp(3)), Some("p"), &[Header::new("a", "b")], &body);
            seal(&mut out, 0, 5);
            let bit = bit.index(out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(5, &out).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in bytes_of(200)) {
            let mut framed = vec![0; 4];
            framed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            framed.extend_from_slice(&bytes);
            let sum = checksum(0, &framed[4..]);
            framed[..4].copy_from_slice(&sum.to_le_bytes());
            let source = Bytes::from(framed);
            if let Some(Frame { content: Content::Record(record), .. }) = read(0, &source) {
                let _ = record.to_record(&source);
            }
        }
    }

    #[test]
    fn open_and_delete_read_back() {
        let mut out = Vec::new();
        put_open(&mut out, 9, "session_a/in");
        seal(&mut out, 0, 1);
        assert_eq!(out.len(), open_bytes("session_a/in"));
        assert!(matches!(read(1, &out).unwrap().content, Content::Open { name: "session_a/in" }));
        out.clear();
        put_delete(&mut out, 9);
        seal(&mut out, 0, 1);
        assert!(matches!(read(1, &out), Some(Frame { stream: 9, content: Content::Delete, .. })));
    }
}
