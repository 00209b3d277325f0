//! Batches: what one `fdatasync` makes durable, and what recovery keeps or drops as a whole.
//!
//! ```text
//!  0  u32  magic: "CoBa"
//!  4  u32  header checksum: CRC-32 of (the batch's offset in the segment as u64) and bytes 8..32, from the segment's seed
//!  8  u64  number: from 1, without gaps over all segments; never used again
//! 16  u32  length: bytes of frames after this header, padding included
//! 20  u32  number of frames
//! 24  u32  frames checksum: CRC-32 of the frames' checksums, in order
//! 28  u32  zero
//! 32  frames, then zeros up to a multiple of 8
//! ```
//!
//! The offset is folded in so that a copy of a batch inside somebody's record body is not taken for a batch, and the
//! frames' checksums are bound so that a batch is never pieced together from two writes to the same place.

use crate::frame::{self, Frame};
use crate::segment::BLOCK_BYTES;
use std::io;

/// Bytes before the first frame.
pub(crate) const BATCH_HEADER_BYTES: usize = 32;
/// Batches begin at multiples of this.
pub(crate) const BATCH_ALIGN_BYTES: usize = 8;

const MAGIC: u32 = u32::from_le_bytes(*b"CoBa");

/// A batch header whose checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) number: u64,
    /// Bytes after the header.
    pub(crate) length: usize,
    pub(crate) frames: u32,
    frames_checksum: u32,
}

impl BatchHeader {
    /// Reads the header found at `offset`; `None` if there is none of this generation made for this place.
    pub(crate) fn read(seed: u32, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BATCH_HEADER_BYTES] = bytes.get(..BATCH_HEADER_BYTES)?.try_into().ok()?;
        if word(bytes, 0) != MAGIC || word(bytes, 4) != header_checksum(seed, offset, bytes) {
            return None;
        }
        let number = u64::from(word(bytes, 8)) | u64::from(word(bytes, 12)) << 32;
        let length = word(bytes, 16) as usize;
        Some(Self { number, length, frames: word(bytes, 20), frames_checksum: word(bytes, 24) })
    }

    /// Header and frames together.
    pub(crate) fn whole_bytes(&self) -> u64 {
        (BATCH_HEADER_BYTES + self.length) as u64
    }

    /// Hands every frame with its place in `bytes` to `visit`; false, possibly after some, if they are not all right.
    pub(crate) fn check_frames(&self, seed: u32, bytes: &[u8]) -> bool {
        let Some(mut rest) = bytes.get(..self.length) else { return false };
        let mut all = crc32fast::Hasher::new();
        for _ in 0..self.frames {
            let Some(frame) = frame::read(seed, rest) else { return false };
            all.update(&frame.checksum.to_le_bytes());
            rest = &rest[frame.bytes..];
        }
        rest.len() < BATCH_ALIGN_BYTES && all.finalize() == self.frames_checksum
    }

    /// The frames of a batch that [`Self::check_frames`] found right, each with its place after the header.
    pub(crate) fn frames<'a>(&self, seed: u32, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Frame<'a>)> {
        let mut at = 0;
        (0..self.frames).map_while(move |_| {
            let frame = frame::read(seed, bytes.get(at..)?)?;
            at += frame.bytes;
            Some((at - frame.bytes, frame))
        })
    }
}

fn word(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header_checksum(seed: u32, offset: u64, header: &[u8; BATCH_HEADER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&offset.to_le_bytes());
    hasher.update(&header[8..]);
    hasher.finalize()
}

/// A batch under construction. The buffer is kept from batch to batch.
#[derive(Debug)]
pub(crate) struct BatchBuffer {
    bytes: Vec<u8>,
    frames: u32,
}

impl Default for BatchBuffer {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_HEADER_BYTES], frames: 0 }
    }
}

impl BatchBuffer {
    /// Starts over.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.frames = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes so far, the header included: where the next frame will stand.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a frame through one of the `frame::put_…` functions; returns its place after the batch's begin and its
    /// length.
    pub(crate) fn push(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
        let start = self.bytes.len();
        put(&mut self.bytes);
        self.frames += 1;
        (start, self.bytes.len() - start)
    }

    /// The bytes to write at `offset`, and how many of them are the batch: zeros follow up to the end of the block.
    pub(crate) fn finish(&mut self, seed: u32, offset: u64, number: u64) -> (&[u8], u64) {
        let mut checksums = crc32fast::Hasher::new();
        let mut at = BATCH_HEADER_BYTES;
        for _ in 0..self.frames {
            let (end, checksum) = frame::seal(&mut self.bytes, at, seed);
            checksums.update(&checksum.to_le_bytes());
            at = end;
        }
        let padded = self.bytes.len().next_multiple_of(BATCH_ALIGN_BYTES);
        let mut header = [0u8; BATCH_HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&((padded - BATCH_HEADER_BYTES) as u32).to_le_bytes());
        header[20..24].copy_from_slice(&self.frames.to_le_bytes());
        header[24..28].copy_from_slice(&checksums.finalize().to_le_bytes());
        let checksum = header_checksum(seed, offset, &header);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        let end = (offset + padded as u64).next_multiple_of(BLOCK_BYTES);
        self.bytes.resize((end - offset) as usize, 0);
        (&self.bytes, padded as u64)
    }
}

/// Reads a file in large pieces and lends parts of it. Bytes behind the end of the file read as missing.
pub(crate) struct PieceReader<'a> {
    file: &'a std::fs::File,
    piece: Vec<u8>,
    start: u64,
    filled: usize,
}

/// How much one read asks for.
const PIECE_BYTES: usize = 1 << 20;

impl<'a> PieceReader<'a> {
    pub(crate) fn new(file: &'a std::fs::File) -> Self {
        Self { file, piece: Vec::new(), start: 0, filled: 0 }
    }

    /// Up to `length` bytes at `offset`; fewer only at the end of the file.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        if offset < self.start || offset + length as u64 > self.start + self.filled as u64 {
            self.fill(offset, length.max(PIECE_BYTES))?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.piece[from.min(self.filled)..(from + length).min(self.filled)])
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if self.piece.len() < length {
            self.piece.resize(length, 0);
        }
        (self.start, self.filled) = (offset, 0);
        while self.filled < length {
            match self.file.read_at(&mut self.piece[self.filled..length], offset + self.filled as u64) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The first place in `from..to` where a batch header of this generation stands.
    pub(crate) fn find_batch(&mut self, seed: u32, from: u64, to: u64) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut offset = from.next_multiple_of(BATCH_ALIGN_BYTES as u64);
        while offset + (BATCH_HEADER_BYTES as u64) <= to {
            let rest = (to - offset).min(PIECE_BYTES as u64) as usize;
            let piece = self.bytes(offset, rest)?;
            if piece.len() < BATCH_HEADER_BYTES {
                return Ok(None);
            }
            for at in (0..=piece.len() - BATCH_HEADER_BYTES).step_by(BATCH_ALIGN_BYTES) {
                if piece[at..at + 4] != MAGIC.to_le_bytes() {
                    continue;
                }
                if let Some(header) = BatchHeader::read(seed, offset + at as u64, &piece[at..]) {
                    return Ok(Some((offset + at as u64, header)));
                }
            }
            // The last places of a piece are looked at again with the next one, where their headers are whole.
            let looked_at = (piece.len() - BATCH_HEADER_BYTES) / BATCH_ALIGN_BYTES + 1;
            offset += (looked_at * BATCH_ALIGN_BYTES) as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Content;

    fn batch(seed: u32, offset: u64, number: u64) -> Vec<u8> {
        let mut buffer = BatchBuffer::default();
        buffer.push(|out| frame::put_open(out, 1, "a"));
        buffer.push(|out| frame::put_delete(out, 1));
        let (bytes, length) = buffer.finish(seed, offset, number);
        assert_eq!((offset as usize + bytes.len()) % BLOCK_BYTES as usize, 0);
        assert!(bytes[length as usize..].iter().all(|&byte| byte == 0));
        bytes[..length as usize].to_vec()
    }

    #[test]
    fn a_batch_reads_back() {
        let bytes = batch(3, 4096, 17);
        assert_eq!(bytes.len() % BATCH_ALIGN_BYTES, 0);
        let header = BatchHeader::read(3, 4096, &bytes).unwrap();
        assert_eq!((header.number, header.whole_bytes()), (17, bytes.len() as u64));
        let frames = &bytes[BATCH_HEADER_BYTES..];
        assert!(header.check_frames(3, frames));
        let read: Vec<_> = header.frames(3, frames).collect();
        assert!(matches!(read[0], (0, Frame { content: Content::Open { name: "a" }, .. })));
        assert!(matches!(read[1], (18, Frame { content: Content::Delete, .. })));
    }

    #[test]
    fn a_batch_counts_only_where_it_was_written() {
        let bytes = batch(3, 4096, 17);
        assert_eq!(BatchHeader::read(3, 8192, &bytes), None, "a copy elsewhere");
        assert_eq!(BatchHeader::read(4, 4096, &bytes), None, "of another generation");
    }

    #[test]
    fn frames_of_two_writes_do_not_mix() {
        let mut mixed = batch(3, 4096, 17);
        let mut other = BatchBuffer::default();
        other.push(|out| frame::put_open(out, 1, "b"));
        let (other, _) = other.finish(3, 4096, 17);
        mixed[32..50].copy_from_slice(&other[32..50]);
        let header = BatchHeader::read(3, 4096, &mixed).unwrap();
        assert!(!header.check_frames(3, &mixed[BATCH_HEADER_BYTES..]), "each frame alone is right");
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let whole = batch(3, 64, 2);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let right = BatchHeader::read(3, 64, &bytes)
                .is_some_and(|header| header.check_frames(3, &bytes[BATCH_HEADER_BYTES..]));
            let in_padding = bit / 8 >= 32 + 18 + 17;
            assert_eq!(right, in_padding, "bit {bit}");
        }
    }

    #[test]
    fn a_later_batch_is_found_across_pieces() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        let offset = (PIECE_BYTES - 16) as u64;
        file.write_all(&vec![1; offset as usize]).unwrap();
        file.write_all(&batch(3, offset, 5)).unwrap();
        let mut reader = PieceReader::new(&file);
        let (at, header) = reader.find_batch(3, 3, 1 << 22).unwrap().unwrap();
        assert_eq!((at, header.number), (offset, 5));
        assert!(reader.find_batch(3, offset + 8, 1 << 22).unwrap().is_none());
    }
}
