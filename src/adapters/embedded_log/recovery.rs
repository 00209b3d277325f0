//! Recovery: from the files to a log that can go on. What the index has is not read again; the rest of the log is.
//!
//! A batch is written only after the batch before it was synced. So at most the last batch can be half there after a
//! crash: it was not acknowledged, and it is cut. A bad place with a good batch of the same generation behind it, or a
//! hole in the batches' numbers, is damage, and the log is not opened.

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, PieceReader};
use crate::committer::{CHECKPOINT_STREAMS_MAX, Head};
use crate::failure;
use crate::frame::{Content, Frame, StreamId};
use crate::index_value::Progress;
use crate::indexer::{Indexer, SegmentTable, Work};
use crate::run::FrameRef;
use crate::segment::{Generation, Kind, SEGMENT_HEADER_BYTES, Segment};
use crate::segments::{Named, list};
use crate::shared::Shared;
use crate::stream::Stream;
use bytes::Bytes;
use continuo_domain::Result;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The log as it was found: where it goes on, and the indexer that has taken in all but the last segment.
pub(crate) struct Recovered {
    pub(crate) head: Head,
    pub(crate) indexer: Indexer,
}

/// Reads the directory and replays what the index does not have.
pub(crate) fn recover(shared: &Arc<Shared>) -> Result<Recovered> {
    let progress = shared.index.progress()?;
    let table = SegmentTable::new(shared.index.segments()?);
    let (dir, bytes) = (shared.segments.dir(), shared.segments.segment_bytes());
    for (generation, entry) in table.iter() {
        let segment = Segment::open(dir, entry.kind, generation, bytes)?;
        segment.close_file();
        shared.segments.add(Arc::new(segment));
    }
    let unread = unread(shared, &progress, &table)?;
    Replay::new(shared, progress, table).run(unread)
}

/// The segments that may have batches the index does not know, in order. Files nobody needs go to the stock.
fn unread(shared: &Shared, progress: &Progress, table: &SegmentTable) -> Result<Vec<Generation>> {
    let known: Vec<_> = table.iter().map(|(generation, entry)| (generation, entry.kind)).collect();
    let mut unread = Vec::new();
    for (path, named) in list(shared.segments.dir())? {
        match named {
            Named::Segment(Kind::Log, generation) if is_unread(progress, generation) => unread.push(generation),
            Named::Segment(kind, generation) if known.contains(&(generation, kind)) => {}
            Named::Segment(..) | Named::Free => shared.segments.add_free(path),
            Named::Foreign => tracing::warn!(file = %path.display(), "a file that is not ours lies in the log"),
        }
    }
    unread.sort_unstable();
    if progress.generation > 0 && !progress.sealed && unread.first() != Some(&progress.generation) {
        return Err(failure::damaged(format!(
            "segment {:016x}, which was being written, is missing",
            progress.generation
        )));
    }
    Ok(unread)
}

fn is_unread(progress: &Progress, generation: Generation) -> bool {
    generation > progress.generation || (generation == progress.generation && !progress.sealed)
}

fn has_first_batch(segment: &Segment) -> Result<bool> {
    let file = segment.file()?;
    let mut reader = PieceReader::new(&file);
    let failed = |e| failure::file("read", &segment.path)(e);
    let (at, seed) = (SEGMENT_HEADER_BYTES, segment.seed);
    let header = BatchHeader::read(seed, at, reader.bytes(at, BATCH_HEADER_BYTES).map_err(failed)?);
    let Some(header) = header else { return Ok(false) };
    let frames = reader.bytes(at + BATCH_HEADER_BYTES as u64, header.length).map_err(failed)?;
    Ok(header.check_frames(seed, frames))
}

struct Replay<'a> {
    shared: &'a Arc<Shared>,
    indexer: Indexer,
    progress: Progress,
    /// Of the batches so far.
    batch: u64,
    next_stream: StreamId,
    streams: HashMap<StreamId, Arc<Stream>>,
    /// Where the last batch stands; it is written again before anything relies on it.
    last: Option<LastBatch>,
}

struct LastBatch {
    segment: Arc<Segment>,
    offset: u64,
    bytes: u64,
}

impl<'a> Replay<'a> {
    fn new(shared: &'a Arc<Shared>, progress: Progress, table: SegmentTable) -> Self {
        let indexer = Indexer::new(shared.clone(), table);
        let (batch, next_stream) = (progress.batch, progress.next_stream.max(1));
        Self { shared, indexer, progress, batch, next_stream, streams: HashMap::new(), last: None }
    }

    fn run(mut self, unread: Vec<Generation>) -> Result<Recovered> {
        let mut head: Option<Head> = None;
        let mut ready: Vec<Arc<Segment>> = Vec::new();
        for generation in unread {
            let (dir, bytes) = (self.shared.segments.dir(), self.shared.segments.segment_bytes());
            let segment = Arc::new(Segment::open(dir, Kind::Log, generation, bytes)?);
            self.shared.segments.add(segment.clone());
            let is_used = has_first_batch(&segment)?;
            if is_used && !ready.is_empty() {
                return Err(failure::damaged(format!("segment {generation:016x} was written before its predecessor")));
            }
            // The log went on from the segment before, so that one is complete.
            if is_used && let Some(done) = head.as_mut() {
                self.index(done, true)?;
            }
            let mut next = self.head_in(segment.clone(), head.as_ref());
            self.segment(&mut next)?;
            tracing::info!(segment = generation, to = next.offset, "a segment was replayed");
            if is_used || head.is_none() {
                head = Some(next);
            } else {
                // Made ahead and not used, or the first batch in it was cut.
                ready.push(segment);
            }
        }
        self.write_last_again()?;
        let head = match head {
            Some(head) => head,
            None => self.first_head()?,
        };
        for segment in ready {
            self.shared.segments.add_ready(segment);
        }
        self.shared.intake.start_streams_at(self.next_stream);
        self.shared.counters.position.store(self.batch, Ordering::Release);
        self.shared.counters.unindexed_bytes.store(head.log_bytes, Ordering::Relaxed);
        Ok(Recovered { head, indexer: self.indexer })
    }

    fn head_in(&self, segment: Arc<Segment>, before: Option<&Head>) -> Head {
        let goes_on = segment.generation == self.progress.generation;
        Head {
            offset: if goes_on { self.progress.offset } else { SEGMENT_HEADER_BYTES },
            segment,
            batch: self.batch,
            interval: before.map_or(1, |head| head.interval),
            touched: Vec::new(),
            deleted: Vec::new(),
            log_bytes: 0,
        }
    }

    /// A log that has no segment to go on in.
    fn first_head(&mut self) -> Result<Head> {
        let segment = self.shared.segments.make_first()?;
        Ok(self.head_in(segment, None))
    }

    /// Replays one segment up to the last good batch, and makes sure that nothing good comes behind it.
    fn segment(&mut self, head: &mut Head) -> Result<()> {
        let segment = head.segment.clone();
        let file = segment.file()?;
        let failed = |e| failure::file("read", &segment.path)(e);
        let mut reader = PieceReader::new(&file);
        loop {
            let at = head.offset;
            let header = reader.bytes(at, BATCH_HEADER_BYTES).map_err(failed)?;
            let Some(header) = BatchHeader::read(segment.seed, at, header) else { break };
            let expected = self.batch + 1;
            if header.number != expected {
                return Err(failure::damaged(format!(
                    "segment {:016x}: the batch at {at} has number {}, not {expected}",
                    segment.generation, header.number
                )));
            }
            let frames = reader.bytes(at + BATCH_HEADER_BYTES as u64, header.length).map_err(failed)?;
            if !header.check_frames(segment.seed, frames) {
                break;
            }
            // One copy per batch; records share it only while they are looked at.
            let source = Bytes::copy_from_slice(frames);
            for (place, frame) in header.frames(segment.seed, &source) {
                self.frame(head, at + (BATCH_HEADER_BYTES + place) as u64, frame, &source)?;
            }
            self.batch = header.number;
            self.last = Some(LastBatch { segment: segment.clone(), offset: at, bytes: header.whole_bytes() });
            head.batch = self.batch;
            head.offset += header.whole_bytes();
            head.log_bytes += header.whole_bytes();
            if head.touched.len() >= CHECKPOINT_STREAMS_MAX {
                self.index(head, false)?;
            }
        }
        let end = file.metadata().map_err(failed)?.len();
        if let Some((later, _)) = reader.find_batch(segment.seed, head.offset + 1, end).map_err(failed)? {
            return Err(failure::damaged(format!(
                "segment {:016x}: the batch at {} is not right, but a later one at {later} is",
                segment.generation, head.offset
            )));
        }
        self.cut(&segment, head.offset)
    }

    /// Takes the header of a torn batch away, so that it means nothing to a later recovery.
    fn cut(&self, segment: &Segment, offset: u64) -> Result<()> {
        if offset + BATCH_HEADER_BYTES as u64 > self.shared.segments.segment_bytes() {
            return Ok(());
        }
        let file = segment.file()?;
        let mut header = [0; BATCH_HEADER_BYTES];
        let failed = |e| failure::file("cut", &segment.path)(e);
        file.read_exact_at(&mut header, offset).map_err(failed)?;
        if BatchHeader::read(segment.seed, offset, &header).is_none() {
            return Ok(());
        }
        tracing::warn!(segment = segment.generation, offset, "a batch was torn by a crash; it was not acknowledged");
        file.write_all_at(&[0; BATCH_HEADER_BYTES], offset).map_err(failed)?;
        file.sync_data().map_err(failed)
    }

    fn frame(&mut self, head: &mut Head, offset: u64, frame: Frame<'_>, source: &Bytes) -> Result<()> {
        let id = frame.stream;
        match frame.content {
            Content::Open { name } => {
                let stream = Stream::new(name, Arc::downgrade(&self.shared.registry));
                stream.state.lock().id = Some(id);
                self.shared.registry.insert(&stream);
                self.streams.insert(id, stream);
                self.next_stream = self.next_stream.max(id + 1);
            }
            Content::Delete => {
                if let Some(stream) = self.stream(id)? {
                    stream.state.lock().deleted = true;
                    self.shared.registry.delete(&stream.name, &[id]);
                }
                head.deleted.push(id);
            }
            Content::Record(record) => {
                let place = || format!("segment {:016x}: the frame at {offset}", head.segment.generation);
                let stream = self.stream(id)?.ok_or_else(|| failure::damaged(format!("{} has no stream", place())))?;
                let command = match record.may_be_command() {
                    true => record.to_record(source).and_then(|record| record.command()),
                    false => None,
                };
                let part_id = Some(record.part_id).filter(|id| !id.is_empty()).map(Box::from);
                let at = FrameRef { offset: offset as u32, bytes: frame.bytes as u32, timestamp: record.timestamp };
                let mut state = stream.state.lock();
                if state.meta.next_seq != record.seq_num {
                    let expected = state.meta.next_seq;
                    return Err(failure::damaged(format!("{} is record {}, not {expected}", place(), record.seq_num)));
                }
                if state.land(head.interval, head.segment.generation, at, part_id, command) {
                    head.touched.push(stream.clone());
                }
            }
        }
        Ok(())
    }

    /// A stream that was seen in the log before, or that the index knows.
    fn stream(&mut self, id: StreamId) -> Result<Option<Arc<Stream>>> {
        if let Some(stream) = self.streams.get(&id) {
            return Ok(Some(stream.clone()));
        }
        let Some(entry) = self.shared.index.stream(id)? else { return Ok(None) };
        let registry = Arc::downgrade(&self.shared.registry);
        let stream = Stream::indexed(&entry.name, registry, id, entry.meta, entry.has_parts);
        self.shared.registry.insert(&stream);
        self.streams.insert(id, stream.clone());
        Ok(Some(stream))
    }

    /// Takes a finished span into the index, so that memory does not have to hold it.
    fn index(&mut self, head: &mut Head, sealed: bool) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| last.segment.generation == head.segment.generation) {
            self.write_last_again()?;
        }
        let last_generation = self.shared.segments.last_generation();
        self.shared.counters.unindexed_bytes.fetch_add(head.log_bytes, Ordering::Relaxed);
        self.streams.clear();
        match self.indexer.index(&head.checkpoint(sealed, self.next_stream, last_generation))? {
            Work::Done => Ok(()),
            Work::Stopped => Err(failure::unavailable("a test ends the recovery here")),
        }
    }

    /// After a crash of the process alone the last batch may be in the kernel's memory only; after a failed sync it may
    /// even look clean there. Written and synced again, it is on disk for sure.
    fn write_last_again(&mut self) -> Result<()> {
        let Some(LastBatch { segment, offset, bytes }) = self.last.take() else { return Ok(()) };
        let file = segment.file()?;
        let again = || {
            let mut batch = vec![0; bytes as usize];
            file.read_exact_at(&mut batch, offset)?;
            file.write_all_at(&batch, offset)?;
            file.sync_data()
        };
        again().map_err(failure::file("write", &segment.path))
    }
}
