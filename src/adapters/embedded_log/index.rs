//! The index: where the records of the log up to some point stand. Kept in fjall, an LSM tree, because the writes are
//! many small keys in no order (part ids, runs of many streams) once per checkpoint; redb's copy-on-write tree was four
//! times slower at that in our measurements and held six times the memory.
//!
//! All numbers in keys are big-endian, so that keys sort by them.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `names` | stream name | stream id, u64 |
//! | `streams` | stream id | flags (1: has part ids), next seq_num, earliest seq_num, last timestamp, fencing token, name |
//! | `runs` | stream id, first seq_num | [`Run`] |
//! | `parts` | stream id, part id | seq_num, u64 |
//! | `segments` | generation | kind (1 log, 2 cold), end of the batches, bytes of all frames, bytes of those still needed |
//! | `state` | `progress` | [`Progress`]: how far the log is indexed |
//!
//! One checkpoint is one atomic batch over all keyspaces, synced before anything relies on it. Values begin with a
//! version. Only the indexer writes. Whoever looks at more than one key meanwhile does so in a snapshot: outside of one, fjall
//! shows a batch key by key, as it comes into memory.

use crate::failure;
use crate::frame::StreamId;
use crate::index_value::{Progress, SegmentEntry, StreamEntry};
use crate::run::Run;
use crate::segment::Generation;
use continuo_domain::channel::SeqNum;
use continuo_domain::{Result, Timestamp};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use std::collections::BTreeMap;
use std::path::Path;

/// What the index keeps in memory of what it read.
const CACHE_BYTES: u64 = 16 << 20;
/// Per keyspace; flushed to disk when full.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// The smallest that fjall takes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
const PROGRESS_KEY: &[u8] = b"progress";

/// The open index.
pub(crate) struct Index {
    database: Database,
    names: Keyspace,
    streams: Keyspace,
    runs: Keyspace,
    parts: Keyspace,
    segments: Keyspace,
    state: Keyspace,
}

/// Which keyspace a change goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    Names,
    Streams,
    Runs,
    Parts,
    Segments,
    State,
}

/// Changes that become durable together. The last change of a key wins.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>);

impl Index {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(failure::index)?;
        let keyspace = |name: &str| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            database.keyspace(name, options).map_err(failure::index)
        };
        Ok(Self {
            names: keyspace("names")?,
            streams: keyspace("streams")?,
            runs: keyspace("runs")?,
            parts: keyspace("parts")?,
            segments: keyspace("segments")?,
            state: keyspace("state")?,
            database,
        })
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        let Some(value) = self.state.get(PROGRESS_KEY).map_err(failure::index)? else {
            return Ok(Progress::default());
        };
        Progress::decode(&value).ok_or_else(|| failure::damaged("index: the progress does not read"))
    }

    pub(crate) fn stream(&self, id: StreamId) -> Result<Option<StreamEntry>> {
        self.stream_in(&self.database.snapshot(), id)
    }

    fn stream_in(&self, snapshot: &Snapshot, id: StreamId) -> Result<Option<StreamEntry>> {
        let Some(value) = snapshot.get(&self.streams, id.to_be_bytes()).map_err(failure::index)? else {
            return Ok(None);
        };
        let entry = StreamEntry::decode(&value);
        entry.map(Some).ok_or_else(|| failure::damaged(format!("index: stream {id} does not read")))
    }

    pub(crate) fn stream_id(&self, name: &str) -> Result<Option<StreamId>> {
        self.stream_id_in(&self.database.snapshot(), name)
    }

    fn stream_id_in(&self, snapshot: &Snapshot, name: &str) -> Result<Option<StreamId>> {
        snapshot.get(&self.names, name).map_err(failure::index)?.map(|value| number(&value)).transpose()
    }

    pub(crate) fn stream_by_name(&self, name: &str) -> Result<Option<(StreamId, StreamEntry)>> {
        let snapshot = self.database.snapshot();
        let Some(id) = self.stream_id_in(&snapshot, name)? else { return Ok(None) };
        Ok(self.stream_in(&snapshot, id)?.map(|entry| (id, entry)))
    }

    /// The streams whose name starts with `prefix`, with their names.
    pub(crate) fn names_with_prefix(&self, prefix: &str) -> Result<Vec<(String, StreamId)>> {
        let all = self.database.snapshot().prefix(&self.names, prefix).map(|found| {
            let (key, value) = found.into_inner().map_err(failure::index)?;
            Ok((name(&key)?, number(&value)?))
        });
        all.collect()
    }

    /// The name of every stream, sorted.
    pub(crate) fn stream_names(&self) -> Result<Vec<String>> {
        let all = self.database.snapshot().iter(&self.names);
        all.map(|found| name(&found.key().map_err(failure::index)?)).collect()
    }

    /// The run that holds a record, or the first behind it.
    pub(crate) fn runs_from(&self, stream: StreamId, seq_num: SeqNum) -> Result<impl Iterator<Item = Result<Run>>> {
        self.runs_of(&self.database.snapshot(), stream, seq_num)
    }

    fn runs_of(
        &self,
        snapshot: &Snapshot,
        stream: StreamId,
        seq_num: SeqNum,
    ) -> Result<impl Iterator<Item = Result<Run>> + use<>> {
        let start = self.run_key_at(snapshot, stream, seq_num)?.unwrap_or_else(|| run_key(stream, seq_num).to_vec());
        let end = run_key(stream, SeqNum::MAX).to_vec();
        Ok(snapshot.range(&self.runs, start..=end).map(move |found| {
            let (key, value) = found.into_inner().map_err(failure::index)?;
            decode_run(&key, &value)
        }))
    }

    /// Key of the last run that begins at or before a number.
    fn run_key_at(&self, snapshot: &Snapshot, stream: StreamId, seq_num: SeqNum) -> Result<Option<Vec<u8>>> {
        let range = run_key(stream, 0)..=run_key(stream, seq_num);
        let last = snapshot.range(&self.runs, range).next_back();
        last.map(|found| Ok(found.key().map_err(failure::index)?.to_vec())).transpose()
    }

    /// First record of this time or later, among the records `earliest..end` that the index has.
    pub(crate) fn at_or_after(
        &self,
        stream: StreamId,
        (mut low, end): (SeqNum, SeqNum),
        timestamp: Timestamp,
    ) -> Result<Option<SeqNum>> {
        let snapshot = self.database.snapshot();
        // Narrows to the last run that begins before the time; `low` is always in or before the run looked for.
        let mut high = end;
        while low < high {
            let middle = low + (high - low) / 2;
            let range = run_key(stream, 0)..=run_key(stream, middle);
            let Some(found) = snapshot.range(&self.runs, range).next_back() else { break };
            let (key, value) = found.into_inner().map_err(failure::index)?;
            let (_, first_seq) = split_run_key(&key)?;
            let first = Run::decode_first_timestamp(&value)
                .ok_or_else(|| failure::damaged(format!("index: a run of stream {stream} does not read")))?;
            if first < timestamp {
                low = middle + 1;
            } else {
                high = first_seq;
            }
        }
        for run in self.runs_of(&snapshot, stream, low.saturating_sub(1))? {
            if let Some(found) = run?.at_or_after(timestamp) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(crate) fn part(&self, stream: StreamId, part_id: &str) -> Result<Option<SeqNum>> {
        self.parts.get(part_key(stream, part_id)).map_err(failure::index)?.map(|value| number(&value)).transpose()
    }

    /// Keys of all part ids of a stream, for its end.
    pub(crate) fn part_ids(&self, stream: StreamId) -> Result<Vec<String>> {
        let all = self.database.snapshot().prefix(&self.parts, stream.to_be_bytes()).map(|found| {
            let key = found.key().map_err(failure::index)?;
            let part_id = key.get(8..).and_then(|id| std::str::from_utf8(id).ok());
            part_id.map(str::to_owned).ok_or_else(|| failure::damaged("index: a part id does not read"))
        });
        all.collect()
    }

    pub(crate) fn segments(&self) -> Result<Vec<(Generation, SegmentEntry)>> {
        let all = self.database.snapshot().iter(&self.segments).map(|found| {
            let (key, value) = found.into_inner().map_err(failure::index)?;
            let entry = SegmentEntry::decode(&value);
            Ok((number(&key)?, entry.ok_or_else(|| failure::damaged("index: a segment does not read"))?))
        });
        all.collect()
    }

    /// Makes the changes durable, all or none.
    pub(crate) fn commit(&self, changes: Changes) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for ((space, key), value) in changes.0 {
            let keyspace = self.keyspace(space);
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit().map_err(failure::index)
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Names => &self.names,
            Space::Streams => &self.streams,
            Space::Runs => &self.runs,
            Space::Parts => &self.parts,
            Space::Segments => &self.segments,
            Space::State => &self.state,
        }
    }
}

impl Changes {
    pub(crate) fn put_stream(&mut self, id: StreamId, entry: &StreamEntry) {
        self.put(Space::Names, entry.name.as_bytes(), id.to_be_bytes().to_vec());
        self.put(Space::Streams, &id.to_be_bytes(), entry.encode());
    }

    /// Takes the stream out; its name too, unless it was given to another stream meanwhile.
    pub(crate) fn remove_stream(&mut self, id: StreamId, freed_name: Option<&str>) {
        self.0.insert((Space::Streams, id.to_be_bytes().to_vec()), None);
        if let Some(name) = freed_name {
            self.0.insert((Space::Names, name.as_bytes().to_vec()), None);
        }
    }

    pub(crate) fn put_run(&mut self, stream: StreamId, run: &Run) {
        self.put(Space::Runs, &run_key(stream, run.first_seq), run.encode());
    }

    pub(crate) fn remove_run(&mut self, stream: StreamId, first_seq: SeqNum) {
        self.0.insert((Space::Runs, run_key(stream, first_seq).to_vec()), None);
    }

    pub(crate) fn put_part(&mut self, stream: StreamId, part_id: &str, seq_num: SeqNum) {
        self.put(Space::Parts, &part_key(stream, part_id), seq_num.to_be_bytes().to_vec());
    }

    pub(crate) fn remove_part(&mut self, stream: StreamId, part_id: &str) {
        self.0.insert((Space::Parts, part_key(stream, part_id)), None);
    }

    pub(crate) fn put_segment(&mut self, generation: Generation, entry: &SegmentEntry) {
        self.put(Space::Segments, &generation.to_be_bytes(), entry.encode());
    }

    pub(crate) fn remove_segment(&mut self, generation: Generation) {
        self.0.insert((Space::Segments, generation.to_be_bytes().to_vec()), None);
    }

    pub(crate) fn put_progress(&mut self, progress: &Progress) {
        self.put(Space::State, PROGRESS_KEY, progress.encode());
    }

    fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        self.0.insert((space, key.to_vec()), Some(value));
    }
}

fn run_key(stream: StreamId, first_seq: SeqNum) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&stream.to_be_bytes());
    key[8..].copy_from_slice(&first_seq.to_be_bytes());
    key
}

fn split_run_key(key: &[u8]) -> Result<(StreamId, SeqNum)> {
    let (stream, first_seq) = key.split_at_checked(8).ok_or_else(|| failure::damaged("index: a short key"))?;
    Ok((number(stream)?, number(first_seq)?))
}

fn decode_run(key: &[u8], value: &[u8]) -> Result<Run> {
    let (stream, first_seq) = split_run_key(key)?;
    Run::decode(first_seq, value)
        .ok_or_else(|| failure::damaged(format!("index: the run of stream {stream} at {first_seq} does not read")))
}

fn part_key(stream: StreamId, part_id: &str) -> Vec<u8> {
    [&stream.to_be_bytes(), part_id.as_bytes()].concat()
}

fn name(bytes: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(bytes).map(str::to_owned);
    name.map_err(|_| failure::damaged("index: a name does not read"))
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| failure::damaged("index: a number of another length"))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::FrameRef;
    use tempfile::TempDir;

    const STREAM: StreamId = 7;

    fn run(first_seq: SeqNum, end: SeqNum) -> Run {
        let mut run = Run::new(1, first_seq);
        let frame = |seq_num| FrameRef { offset: 40 * seq_num as u32, bytes: 40, timestamp: Timestamp(seq_num as i64) };
        run.frames.extend((first_seq..end).map(frame));
        run
    }

    fn bounds(runs: impl Iterator<Item = Result<Run>>) -> Vec<(SeqNum, SeqNum)> {
        runs.map(|run| run.unwrap()).map(|run| (run.first_seq, run.end_seq())).collect()
    }

    /// A trim takes a run out and puts in what is left of it. Whoever sees the one without the other finds records in no run
    /// and tells of damage where there is none.
    #[test]
    fn a_look_is_of_one_moment_while_a_trim_comes_into_the_index() {
        let dir = TempDir::new().unwrap();
        let index = Index::open(dir.path()).unwrap();
        let mut written = Changes::default();
        written.put_run(STREAM, &run(0, 20));
        written.put_run(STREAM, &run(20, 30));
        index.commit(written).unwrap();
        let (before, runs) = (index.database.snapshot(), index.runs_from(STREAM, 19).unwrap());
        let mut trimmed = Changes::default();
        trimmed.remove_run(STREAM, 0);
        trimmed.put_run(STREAM, &run(19, 20));
        index.commit(trimmed).unwrap();
        assert_eq!(bounds(runs), [(0, 20), (20, 30)], "from its beginning to its end");
        assert_eq!(bounds(index.runs_of(&before, STREAM, 19).unwrap()), [(0, 20), (20, 30)], "in both its steps");
        assert_eq!(bounds(index.runs_from(STREAM, 19).unwrap()), [(19, 20), (20, 30)]);
        assert_eq!(index.at_or_after(STREAM, (19, 30), Timestamp(19)).unwrap(), Some(19));
    }
}
