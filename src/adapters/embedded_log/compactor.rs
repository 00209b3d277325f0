//! The compactor: copies the survivors of segments that are mostly dead into one fresh segment, stream by stream, so that
//! a few long-lived records do not hold many segments, and an old stream reads in one go.

use crate::batch::{BATCH_HEADER_BYTES, BatchBuffer, BatchHeader, PieceReader};
use crate::failure;
use crate::frame::{Content, StreamId};
use crate::index::Changes;
use crate::index_value::SegmentEntry;
use crate::indexer::{SegmentTable, Work};
use crate::reader;
use crate::run::{FrameRef, RUN_RECORDS_MAX, Run};
use crate::segment::{Generation, SEGMENT_HEADER_BYTES, Segment};
use crate::shared::{Shared, StopPoint};
use continuo_domain::Result;
use continuo_domain::channel::SeqNum;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A segment with less than one part in so many alive is a candidate.
const LIVE_PART: u64 = 4;
/// So many candidates are worth a new segment.
pub(crate) const VICTIMS_MIN: usize = 4;
/// Survivors are written and synced in steps, so that the committer's syncs do not queue behind them for long.
const COPY_BATCH_BYTES: usize = 1 << 20;

/// Compacts once, if there is enough to do.
pub(crate) fn compact(shared: &Shared, table: &mut SegmentTable) -> Result<Work> {
    let victims = victims(table, shared.segments.segment_bytes());
    if victims.len() < VICTIMS_MIN {
        return Ok(Work::Done);
    }
    let mut live = Vec::new();
    for (generation, entry) in &victims {
        live.extend(live_runs(shared, *generation, entry)?);
    }
    live.sort_unstable_by_key(|(stream, run)| (*stream, run.first_seq));

    let target = shared.segments.make_cold()?;
    shared.segments.add(target.clone());
    let mut copy = Copy::new(target);
    let mut changes = Changes::default();
    for (stream, run) in &live {
        copy.run(shared, *stream, run, &mut changes)?;
    }
    copy.finish(&mut changes)?;
    shared.segments.remember_open(copy.target.clone());
    if shared.stops_at(StopPoint::AfterCompactionCopy) {
        return Ok(Work::Stopped);
    }

    let mut after = table.clone();
    for (generation, entry) in &victims {
        after.drop_bytes(*generation, entry.live_bytes);
    }
    after.put_cold(copy.target.generation, copy.offset, copy.frame_bytes);
    let dead = after.put_changes(&mut changes);
    shared.index.commit(changes)?;
    *table = after;
    shared.registry.index_changed(&[]);
    if shared.stops_at(StopPoint::AfterCompactionSwap) {
        return Ok(Work::Stopped);
    }
    tracing::debug!(segments = dead.len(), bytes = copy.frame_bytes, "segments were compacted");
    for generation in dead {
        shared.segments.retire(generation);
    }
    Ok(Work::Done)
}

/// The emptiest sealed segments whose survivors fit into one.
fn victims(table: &SegmentTable, segment_bytes: u64) -> Vec<(Generation, SegmentEntry)> {
    let mut candidates: Vec<_> = table
        .iter()
        .filter(|(_, entry)| entry.sealed && entry.live_bytes < entry.total_bytes / LIVE_PART)
        .map(|(generation, entry)| (generation, entry.clone()))
        .collect();
    candidates.sort_by_key(|(_, entry)| entry.live_bytes);
    // The rest is room for the batches' headers and padding.
    let mut room = segment_bytes / 8 * 7;
    candidates.retain(|(_, entry)| {
        let fits = entry.live_bytes <= room;
        room -= if fits { entry.live_bytes } else { room };
        fits
    });
    candidates
}

/// The runs of the index that stand in this segment. The segment says which streams to ask for.
fn live_runs(shared: &Shared, generation: Generation, entry: &SegmentEntry) -> Result<Vec<(StreamId, Run)>> {
    let gone = || failure::damaged(format!("segment {generation:016x} is not there"));
    let segment = shared.segments.get(generation).ok_or_else(gone)?;
    let mut runs = Vec::new();
    for (stream, (first, last)) in streams_in(&segment, entry.end)? {
        for run in shared.index.runs_from(stream, first)? {
            let run = run?;
            if run.first_seq > last {
                break;
            }
            if run.segment == generation {
                runs.push((stream, run));
            }
        }
    }
    Ok(runs)
}

/// Every stream with records in the segment, and the first and last number.
fn streams_in(segment: &Segment, end: u64) -> Result<BTreeMap<StreamId, (SeqNum, SeqNum)>> {
    let mut streams = BTreeMap::new();
    let file = segment.file()?;
    let mut reader = PieceReader::new(&file);
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < end {
        let damaged =
            || failure::damaged(format!("segment {:016x}: the batch at {offset} is not right", segment.generation));
        let failed = |e| failure::file("read", &segment.path)(e);
        let header = BatchHeader::read(segment.seed, offset, reader.bytes(offset, BATCH_HEADER_BYTES).map_err(failed)?)
            .ok_or_else(damaged)?;
        let frames = reader.bytes(offset + BATCH_HEADER_BYTES as u64, header.length).map_err(failed)?;
        if !header.check_frames(segment.seed, frames) {
            return Err(damaged());
        }
        for (_, frame) in header.frames(segment.seed, frames) {
            if let Content::Record(record) = frame.content {
                let seen = streams.entry(frame.stream).or_insert((record.seq_num, record.seq_num));
                *seen = (seen.0.min(record.seq_num), seen.1.max(record.seq_num));
            }
        }
        offset += header.whole_bytes();
    }
    Ok(streams)
}

/// The new segment under way.
struct Copy {
    target: Arc<Segment>,
    offset: u64,
    batch: u64,
    buffer: BatchBuffer,
    frame_bytes: u64,
    /// The run being put together; runs that follow each other become one.
    open: Option<(StreamId, Run)>,
}

impl Copy {
    fn new(target: Arc<Segment>) -> Self {
        let buffer = BatchBuffer::default();
        Self { target, offset: SEGMENT_HEADER_BYTES, batch: 0, buffer, frame_bytes: 0, open: None }
    }

    fn run(&mut self, shared: &Shared, stream: StreamId, run: &Run, changes: &mut Changes) -> Result<()> {
        let continues = self.open.as_ref().is_some_and(|(open_stream, open)| {
            *open_stream == stream
                && open.end_seq() == run.first_seq
                && open.frames.len() + run.frames.len() <= RUN_RECORDS_MAX
        });
        if continues {
            changes.remove_run(stream, run.first_seq);
        } else {
            self.close_run(changes);
        }
        let generation = self.target.generation;
        let (_, mut open) = self.open.take().unwrap_or_else(|| (stream, Run::new(generation, run.first_seq)));
        open.has_parts |= run.has_parts;
        let mut copied = Ok(());
        let found = reader::read_frames(shared, run.segment, &run.frames, |_, at, bytes, of, record| {
            if (of, record.seq_num) != (stream, run.first_seq + at as u64) {
                return None;
            }
            match self.frame(bytes) {
                Ok(offset) => open.frames.push(FrameRef { offset, ..run.frames[at] }),
                Err(error) => copied = Err(error),
            }
            Some(())
        })?;
        copied?;
        found.ok_or_else(|| failure::damaged(format!("segment {:016x} is not there", run.segment)))?;
        self.open = Some((stream, open));
        Ok(())
    }

    /// Returns where it will stand.
    fn frame(&mut self, bytes: &[u8]) -> Result<u32> {
        if self.buffer.len() + bytes.len() > COPY_BATCH_BYTES && !self.buffer.is_empty() {
            self.write()?;
        }
        let (place, _) = self.buffer.push(|out| out.extend_from_slice(bytes));
        self.frame_bytes += bytes.len() as u64;
        Ok(self.offset as u32 + place as u32)
    }

    fn write(&mut self) -> Result<()> {
        let (bytes, written) = self.buffer.finish(self.target.seed, self.offset, self.batch + 1);
        let file = self.target.file()?;
        let write = || file.write_all_at(bytes, self.offset).and_then(|()| file.sync_data());
        write().map_err(failure::file("write", &self.target.path))?;
        self.offset += written;
        self.batch += 1;
        self.buffer.clear();
        Ok(())
    }

    fn close_run(&mut self, changes: &mut Changes) {
        if let Some((stream, run)) = self.open.take() {
            changes.put_run(stream, &run);
        }
    }

    /// Durable when this returns.
    fn finish(&mut self, changes: &mut Changes) -> Result<()> {
        self.close_run(changes);
        if self.buffer.is_empty() { Ok(()) } else { self.write() }
    }
}
