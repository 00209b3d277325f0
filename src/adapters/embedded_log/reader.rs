//! Finding and reading records: from memory's runs or the index's, then from the segments, each frame checked. Everything
//! here may wait for the disk.

use crate::failure;
use crate::frame::{self, Content, RecordFrame, StreamId};
use crate::run::{FrameRef, Run};
use crate::segment::Generation;
use crate::shared::Shared;
use crate::stream::{State, Stream};
use bytes::Bytes;
use continuo_domain::channel::{ReadFrom, ReadStart, Record, SeqNum, Tail};
use continuo_domain::{Error, Result, Timestamp};
use continuo_ports::channel_store::{READ_BATCH_BYTES_MAX, READ_BATCH_RECORDS_MAX};
use std::io;
use std::os::unix::fs::FileExt;

/// Frames this close together are read at once; what lies between is read for nothing and kept while the records live.
const READ_GAP_BYTES_MAX: u32 = 1 << 10;
/// One read takes no more than this, unless one frame is longer.
const READ_SPAN_BYTES_MAX: u32 = 1 << 20;
/// How often a read looks again because the compactor moved its records away. Each time is one compaction; more than
/// a few within one read means that the index points nowhere.
const ATTEMPTS_MAX: usize = 16;

/// What stands at a number.
pub(crate) enum Found {
    /// The next records, at least one, within the limits of a batch.
    Records(Vec<Record>),
    /// It was trimmed away; this is the first number that is left.
    Trimmed(SeqNum),
    /// It is the tail, or the stream was deleted.
    Tail,
}

/// Records of one segment, in order.
struct Piece {
    segment: Generation,
    first_seq: SeqNum,
    frames: Vec<FrameRef>,
}

/// Where to look.
enum Place {
    Memory(Vec<Piece>),
    Index(StreamId),
}

/// The number at which a read begins, and the tail it was worked out under. A number may lie below the first record.
pub(crate) fn resolve(shared: &Shared, stream: &Stream, from: &ReadFrom) -> Result<(SeqNum, Tail)> {
    let state = stream.state.lock();
    let tail = state.meta.tail();
    let tail_seq_num = tail.position.seq_num;
    let is_past = match from.start {
        ReadStart::SeqNum(seq_num) => seq_num > tail_seq_num,
        ReadStart::Timestamp(timestamp) => timestamp > tail.position.timestamp,
        ReadStart::TailOffset(_) => false,
    };
    if is_past && !from.clamp {
        return Err(Error::PastTail { tail_seq_num });
    }
    let start = match from.start {
        _ if is_past => tail_seq_num,
        ReadStart::SeqNum(seq_num) => seq_num,
        ReadStart::TailOffset(records) => tail_seq_num.saturating_sub(records).max(tail.earliest_seq_num),
        ReadStart::Timestamp(timestamp) => {
            let (id, indexed_to) = (state.id, state.indexed_to);
            let in_memory = at_or_after(&state, timestamp);
            drop(state);
            let indexed = (tail.earliest_seq_num, indexed_to);
            let found = match id {
                Some(id) if indexed.0 < indexed.1 => shared.index.at_or_after(id, indexed, timestamp)?,
                _ => None,
            };
            found.or(in_memory).unwrap_or(tail_seq_num).max(tail.earliest_seq_num)
        }
    };
    Ok((start, tail))
}

fn at_or_after(state: &State, timestamp: Timestamp) -> Option<SeqNum> {
    let sealed = state.sealed.iter().map(|hot| &hot.run);
    sealed.chain(state.open.as_ref().map(|hot| &hot.run)).find_map(|run| run.at_or_after(timestamp))
}

/// The records at `seq_num`, one batch.
pub(crate) fn read(shared: &Shared, stream: &Stream, seq_num: SeqNum) -> Result<Found> {
    for _ in 0..ATTEMPTS_MAX {
        let (id, place) = {
            let state = stream.state.lock();
            // A deleted stream has no records any more, and the index may have lost them between two looks.
            let Some(id) = state.id.filter(|_| !state.deleted) else { return Ok(Found::Tail) };
            if seq_num < state.meta.earliest {
                return Ok(Found::Trimmed(state.meta.earliest));
            }
            if seq_num >= state.meta.next_seq {
                return Ok(Found::Tail);
            }
            (id, place(&state, id, seq_num))
        };
        let pieces = match place {
            Place::Memory(pieces) => pieces,
            Place::Index(id) => indexed_pieces(shared, id, seq_num)?,
        };
        if let Some(records) = read_pieces(shared, id, &pieces)?
            && !records.is_empty()
        {
            return Ok(Found::Records(records));
        }
    }
    Err(failure::damaged(format!("record {seq_num} of {} is in no segment", stream.name)))
}

/// The record at exactly this number, if it is there and not trimmed.
pub(crate) fn read_one(shared: &Shared, stream: &Stream, seq_num: SeqNum) -> Result<Option<Record>> {
    match read(shared, stream, seq_num)? {
        Found::Records(records) => Ok(records.into_iter().next()),
        Found::Trimmed(_) | Found::Tail => Ok(None),
    }
}

fn place(state: &State, id: StreamId, seq_num: SeqNum) -> Place {
    if seq_num < state.indexed_to {
        return Place::Index(id);
    }
    let mut batch = BatchOfPieces::new(seq_num);
    for hot in state.sealed.iter().map(|hot| &hot.run).chain(state.open.as_ref().map(|hot| &hot.run)) {
        if !batch.take(hot) {
            break;
        }
    }
    Place::Memory(batch.pieces)
}

fn indexed_pieces(shared: &Shared, id: StreamId, seq_num: SeqNum) -> Result<Vec<Piece>> {
    let mut batch = BatchOfPieces::new(seq_num);
    for run in shared.index.runs_from(id, seq_num)? {
        if !batch.take(&run?) {
            break;
        }
    }
    Ok(batch.pieces)
}

/// Pieces up to the limits of a batch.
struct BatchOfPieces {
    pieces: Vec<Piece>,
    next: SeqNum,
    records: usize,
    bytes: usize,
}

impl BatchOfPieces {
    fn new(next: SeqNum) -> Self {
        Self { pieces: Vec::new(), next, records: 0, bytes: 0 }
    }

    /// Takes what it can of a run; false when no more is wanted. Runs before the number are passed over, a run behind a
    /// hole ends the batch.
    fn take(&mut self, run: &Run) -> bool {
        if run.end_seq() <= self.next {
            return true;
        }
        if !run.contains(self.next) {
            return false;
        }
        let all = run.frames_from(self.next);
        let mut taken = 0;
        for frame in all {
            let bytes = frame.bytes as usize;
            if self.records > 0 && (self.records == READ_BATCH_RECORDS_MAX || self.bytes + bytes > READ_BATCH_BYTES_MAX)
            {
                break;
            }
            (self.records, self.bytes, taken) = (self.records + 1, self.bytes + bytes, taken + 1);
        }
        if taken > 0 {
            let frames = all[..taken].to_vec();
            self.pieces.push(Piece { segment: run.segment, first_seq: self.next, frames });
            self.next += taken as u64;
        }
        taken == all.len()
    }
}

/// Reads the records; `None` if a segment was given up meanwhile, so that the index knows better by now.
fn read_pieces(shared: &Shared, id: StreamId, pieces: &[Piece]) -> Result<Option<Vec<Record>>> {
    let mut records = Vec::with_capacity(pieces.iter().map(|piece| piece.frames.len()).sum());
    for piece in pieces {
        let read = read_frames(shared, piece.segment, &piece.frames, |source, at, _, stream, frame| {
            let expected = piece.first_seq + at as u64;
            let record = frame.to_record(source).filter(|_| (stream, frame.seq_num) == (id, expected));
            record.map(|record| records.push(record))
        })?;
        if read.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(records))
}

/// Reads the frames of one run, in order, and hands each to `visit` with the bytes it was read into, its place in
/// `frames`, its own bytes and its stream. A frame that is not right, or that `visit` does not take, is damage. `None`
/// if the segment was given up.
pub(crate) fn read_frames(
    shared: &Shared,
    generation: Generation,
    frames: &[FrameRef],
    mut visit: impl FnMut(&Bytes, usize, &[u8], StreamId, RecordFrame<'_>) -> Option<()>,
) -> Result<Option<()>> {
    let Some(segment) = shared.segments.get(generation) else { return Ok(None) };
    let file = segment.file()?;
    let damaged =
        |offset: u32| failure::damaged(format!("segment {generation:016x}: the frame at {offset} is not right"));
    let mut at = 0;
    while at < frames.len() {
        let span = span(&frames[at..]);
        let (first, last) = (&frames[at], &frames[at + span - 1]);
        let mut bytes = vec![0; (last.offset + last.bytes - first.offset) as usize];
        file.read_exact_at(&mut bytes, u64::from(first.offset)).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => damaged(first.offset),
            _ => failure::file("read", &segment.path)(e),
        })?;
        let source = Bytes::from(bytes);
        for (place, frame) in frames[at..at + span].iter().enumerate() {
            let from = (frame.offset - first.offset) as usize;
            let own = &source[from..from + frame.bytes as usize];
            let visited = frame::read(segment.seed, own).filter(|read| read.bytes == own.len()).and_then(|read| {
                let Content::Record(record) = read.content else { return None };
                visit(&source, at + place, own, read.stream, record)
            });
            visited.ok_or_else(|| damaged(frame.offset))?;
        }
        at += span;
    }
    Ok(Some(()))
}

/// How many of the frames are read at once.
fn span(frames: &[FrameRef]) -> usize {
    let start = frames[0].offset;
    let together = frames.windows(2).take_while(|pair| {
        let gap = pair[1].offset.saturating_sub(pair[0].offset + pair[0].bytes);
        gap <= READ_GAP_BYTES_MAX && pair[1].offset + pair[1].bytes - start <= READ_SPAN_BYTES_MAX
    });
    1 + together.count()
}
