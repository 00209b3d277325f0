//! The indexer: one thread that takes checkpoints in order and writes where their records stand into the index, together
//! with what trims and deletes took away. It is the only writer of the index, and it frees segments.

use crate::checkpoint::Checkpoint;
use crate::compactor;
use crate::failure;
use crate::frame::StreamId;
use crate::index::Changes;
use crate::index_value::{SegmentEntry, StreamEntry};
use crate::reader;
use crate::run::Run;
use crate::segment::{Generation, Kind};
use crate::shared::{Shared, StopPoint};
use crate::stream::Stream;
use continuo_domain::channel::SeqNum;
use continuo_domain::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The thread's own.
pub(crate) struct Indexer {
    shared: Arc<Shared>,
    pub(crate) segments: SegmentTable,
}

/// The index's segments, as they will be once the changes under way are durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentTable {
    entries: BTreeMap<Generation, SegmentEntry>,
    changed: HashSet<Generation>,
}

/// May the work go on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Done,
    /// A test wants it to end here.
    Stopped,
}

impl Indexer {
    pub(crate) fn new(shared: Arc<Shared>, segments: SegmentTable) -> Self {
        Self { shared, segments }
    }

    /// The thread. If the index cannot be written the log must not grow without bound: it stops taking appends.
    pub(crate) fn run(mut self) {
        while let Some(checkpoint) = self.shared.checkpoints.next() {
            match self.work(&checkpoint) {
                Ok(Work::Done) => {}
                Ok(Work::Stopped) => return self.shared.checkpoints.abandon(),
                Err(error) => {
                    tracing::error!(error = ?error, "the index could not be written; the log takes no more appends");
                    return self.fail(&error);
                }
            }
        }
    }

    fn fail(&self, error: &Error) {
        for work in self.shared.intake.close(error.clone()) {
            work.refuse(error);
        }
        self.shared.checkpoints.fail(error.clone());
    }

    fn work(&mut self, checkpoint: &Checkpoint) -> Result<Work> {
        if self.index(checkpoint)? == Work::Stopped {
            return Ok(Work::Stopped);
        }
        compactor::compact(&self.shared, &mut self.segments)
    }

    /// Takes one checkpoint into the index.
    pub(crate) fn index(&mut self, checkpoint: &Checkpoint) -> Result<Work> {
        let mut changes = Changes::default();
        let mut segments = self.segments.clone();
        for &id in &checkpoint.deleted {
            self.delete(id, &mut changes, &mut segments)?;
        }
        let deleted: HashSet<_> = checkpoint.deleted.iter().copied().collect();
        let progress = &checkpoint.progress;
        segments.written(progress.generation, progress.sealed, progress.offset);
        for stream in &checkpoint.touched {
            self.take_in(stream, checkpoint, &deleted, &mut changes, &mut segments)?;
        }
        let dead = segments.put_changes(&mut changes);
        changes.put_progress(progress);
        if self.shared.stops_at(StopPoint::BeforeIndexCommit) {
            return Ok(Work::Stopped);
        }
        self.shared.index.commit(changes)?;
        self.segments = segments;
        if self.shared.stops_at(StopPoint::AfterIndexCommit) {
            return Ok(Work::Stopped);
        }

        for stream in &checkpoint.touched {
            stream.state.lock().indexed(checkpoint.interval);
        }
        // Before the streams are let go: whoever loads one again must not believe what it read earlier.
        self.shared.registry.index_changed(&checkpoint.deleted);
        for generation in dead {
            self.shared.segments.retire(generation);
        }
        self.shared.counters.unindexed_bytes.fetch_sub(checkpoint.log_bytes, Ordering::Relaxed);
        Ok(Work::Done)
    }

    fn take_in(
        &self,
        stream: &Arc<Stream>,
        checkpoint: &Checkpoint,
        deleted: &HashSet<StreamId>,
        changes: &mut Changes,
        segments: &mut SegmentTable,
    ) -> Result<()> {
        let (id, hot, indexed_parts) = {
            let mut state = stream.state.lock();
            let hot = state.sealed_run(checkpoint.interval);
            let (Some(id), Some(hot)) = (state.id, hot) else { return Ok(()) };
            (id, hot, state.indexed_parts)
        };
        segments.add(hot.run.segment, hot.run.bytes());
        if deleted.contains(&id) {
            segments.drop_bytes(hot.run.segment, hot.run.bytes());
            return Ok(());
        }
        let earliest = hot.end.earliest;
        if earliest > 0 {
            self.trim(id, earliest, changes, segments)?;
        }
        let has_parts = indexed_parts || hot.run.has_parts;
        changes.put_stream(id, &StreamEntry { name: stream.name.clone(), meta: hot.end.clone(), has_parts });
        for (part_id, &seq_num) in hot.parts.iter().filter(|(_, seq_num)| **seq_num >= earliest) {
            changes.put_part(id, part_id, seq_num);
        }
        let all = hot.run.bytes();
        let live = hot.run.clone().without_before(earliest);
        segments.drop_bytes(hot.run.segment, all - live.as_ref().map_or(0, Run::bytes));
        for piece in live.iter().flat_map(Run::pieces) {
            changes.put_run(id, &piece);
        }
        Ok(())
    }

    /// Takes what lies below `earliest` out of the index.
    fn trim(&self, id: StreamId, earliest: SeqNum, changes: &mut Changes, segments: &mut SegmentTable) -> Result<()> {
        let before = self.shared.index.stream(id)?.map_or(earliest, |entry| entry.meta.earliest);
        if before >= earliest {
            return Ok(());
        }
        for run in self.shared.index.runs_from(id, before)? {
            let run = run?;
            if run.first_seq >= earliest {
                break;
            }
            self.forget_parts(id, &run, earliest, changes)?;
            changes.remove_run(id, run.first_seq);
            let (segment, all) = (run.segment, run.bytes());
            let rest = run.without_before(earliest);
            segments.drop_bytes(segment, all - rest.as_ref().map_or(0, Run::bytes));
            if let Some(rest) = rest {
                changes.put_run(id, &rest);
            }
        }
        Ok(())
    }

    /// Takes the part ids of trimmed records out of the index; the frames themselves say which those are.
    fn forget_parts(&self, id: StreamId, run: &Run, earliest: SeqNum, changes: &mut Changes) -> Result<()> {
        if !run.has_parts {
            return Ok(());
        }
        let kept = run.frames_from(earliest).len();
        let mut part_ids = Vec::new();
        let trimmed = &run.frames[..run.frames.len() - kept];
        reader::read_frames(&self.shared, run.segment, trimmed, |_, _, _, _, record| {
            if !record.part_id.is_empty() {
                part_ids.push((record.part_id.to_owned(), record.seq_num));
            }
            Some(())
        })?;
        for (part_id, seq_num) in part_ids {
            // The id may have come again, with a later record, after the trim.
            if self.shared.index.part(id, &part_id)? == Some(seq_num) {
                changes.remove_part(id, &part_id);
            }
        }
        Ok(())
    }

    fn delete(&self, id: StreamId, changes: &mut Changes, segments: &mut SegmentTable) -> Result<()> {
        let index = &self.shared.index;
        let Some(entry) = index.stream(id)? else { return Ok(()) };
        let owns_name = index.stream_id(&entry.name)? == Some(id);
        changes.remove_stream(id, owns_name.then_some(&entry.name));
        for run in index.runs_from(id, 0)? {
            let run = run?;
            changes.remove_run(id, run.first_seq);
            segments.drop_bytes(run.segment, run.bytes());
        }
        if entry.has_parts {
            for part_id in index.part_ids(id)? {
                changes.remove_part(id, &part_id);
            }
        }
        Ok(())
    }
}

impl Drop for Indexer {
    /// Also if the thread panics: the committer may not wait for it for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(&failure::unavailable("the indexer has ended"));
        }
    }
}

impl SegmentTable {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Generation, SegmentEntry)>) -> Self {
        Self { entries: entries.into_iter().collect(), changed: HashSet::new() }
    }

    /// The log was written up to here.
    fn written(&mut self, generation: Generation, sealed: bool, end: u64) {
        let entry = self.entries.entry(generation).or_insert_with(|| SegmentEntry {
            kind: Kind::Log,
            sealed,
            end,
            total_bytes: 0,
            live_bytes: 0,
        });
        (entry.sealed, entry.end) = (sealed, end);
        self.changed.insert(generation);
    }

    /// A segment of survivors came.
    pub(crate) fn put_cold(&mut self, generation: Generation, end: u64, bytes: u64) {
        let entry = SegmentEntry { kind: Kind::Cold, sealed: true, end, total_bytes: bytes, live_bytes: bytes };
        self.entries.insert(generation, entry);
        self.changed.insert(generation);
    }

    fn add(&mut self, generation: Generation, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.total_bytes += bytes;
            entry.live_bytes += bytes;
            self.changed.insert(generation);
        }
    }

    /// So many bytes of the segment are not needed any more.
    pub(crate) fn drop_bytes(&mut self, generation: Generation, bytes: u64) {
        if bytes == 0 {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.live_bytes = entry.live_bytes.saturating_sub(bytes);
            self.changed.insert(generation);
        }
    }

    /// Writes what changed; returns the segments nothing of which is needed, which are out of the table now.
    pub(crate) fn put_changes(&mut self, changes: &mut Changes) -> Vec<Generation> {
        let mut dead = Vec::new();
        for generation in self.changed.drain() {
            match self.entries.get(&generation) {
                Some(entry) if entry.sealed && entry.live_bytes == 0 => {
                    changes.remove_segment(generation);
                    self.entries.remove(&generation);
                    dead.push(generation);
                }
                Some(entry) => changes.put_segment(generation, entry),
                None => {}
            }
        }
        dead
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Generation, &SegmentEntry)> {
        self.entries.iter().map(|(generation, entry)| (*generation, entry))
    }
}
