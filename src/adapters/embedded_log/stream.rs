//! A stream in memory. It is there only while something holds it: a follower, an append under way, or frames that the
//! index does not have yet. When the last holder goes it leaves the registry; the index knows the rest.

use crate::draft::Ahead;
use crate::frame::StreamId;
use crate::registry::Registry;
use crate::run::{FrameRef, Run};
use crate::segment::Generation;
use continuo_domain::Timestamp;
use continuo_domain::channel::{Command, FencingToken, Position, Record, SeqNum, Tail};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// Number of a span of the log between two checkpoints; rises.
pub(crate) type Interval = u64;

/// What a stream is, apart from its records.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    pub(crate) next_seq: SeqNum,
    pub(crate) earliest: SeqNum,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) fencing_token: FencingToken,
}

impl Meta {
    pub(crate) fn tail(&self) -> Tail {
        let position = self.position();
        Tail { position, earliest_seq_num: self.earliest, fencing_token: self.fencing_token.clone() }
    }

    pub(crate) fn position(&self) -> Position {
        Position { seq_num: self.next_seq, timestamp: self.last_timestamp }
    }

    /// Takes in the next record.
    pub(crate) fn land(&mut self, timestamp: Timestamp, command: Option<Command>) {
        self.next_seq += 1;
        self.last_timestamp = timestamp;
        match command {
            None => {}
            Some(Command::Trim(before)) => self.earliest = self.earliest.max(before.min(self.next_seq)),
            Some(Command::Fence(token)) => self.fencing_token = token,
        }
    }
}

/// The records of one stream in one interval. Not indexed yet.
#[derive(Debug)]
pub(crate) struct HotRun {
    pub(crate) interval: Interval,
    pub(crate) run: Run,
    pub(crate) parts: HashMap<Box<str>, SeqNum>,
    /// The stream after the last record of the run; set once the run is sealed.
    pub(crate) end: Meta,
}

/// A stream's shared half: name, wake-ups and the state behind a lock.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: Box<str>,
    pub(crate) state: Mutex<State>,
    /// Rung after a batch with records of this stream is readable, after a delete, and when the log stops.
    pub(crate) news: Notify,
    followers: AtomicUsize,
    registry: Weak<Registry>,
}

/// All of it durable and visible, except `ahead`.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// `None` until the first append is durable.
    pub(crate) id: Option<StreamId>,
    pub(crate) meta: Meta,
    /// For good; the name may go to another stream.
    pub(crate) deleted: bool,
    /// Records below this number are found through the index, the others through `sealed` and `open`.
    pub(crate) indexed_to: SeqNum,
    /// The index may have part ids of this stream.
    pub(crate) indexed_parts: bool,
    /// Rises whenever part ids left memory for the index: a look into the index that began before is worth nothing.
    pub(crate) evictions: u64,
    /// Oldest first; shared with the indexer.
    pub(crate) sealed: VecDeque<Arc<HotRun>>,
    pub(crate) open: Option<HotRun>,
    /// The newest records, for followers; up to the tail without gaps, or empty.
    pub(crate) ring: VecDeque<Arc<[Record]>>,
    /// The stream as the batches under way will leave it; `None` if none has records of it.
    pub(crate) ahead: Option<Box<Ahead>>,
}

impl Stream {
    /// A stream nobody has written to.
    pub(crate) fn new(name: &str, registry: Weak<Registry>) -> Arc<Self> {
        Self::with_state(name, registry, State::default())
    }

    /// A stream as the index knows it.
    pub(crate) fn indexed(
        name: &str,
        registry: Weak<Registry>,
        id: StreamId,
        meta: Meta,
        indexed_parts: bool,
    ) -> Arc<Self> {
        let indexed_to = meta.next_seq;
        Self::with_state(name, registry, State { id: Some(id), meta, indexed_to, indexed_parts, ..State::default() })
    }

    fn with_state(name: &str, registry: Weak<Registry>, state: State) -> Arc<Self> {
        let (state, news) = (Mutex::new(state), Notify::new());
        Arc::new(Self { name: name.into(), state, news, followers: AtomicUsize::new(0), registry })
    }

    pub(crate) fn has_followers(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(&self.name);
        }
    }
}

/// Counts one follower for as long as it lives.
#[derive(Debug)]
pub(crate) struct Following(pub(crate) Arc<Stream>);

impl Following {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        stream.followers.fetch_add(1, Ordering::Relaxed);
        Self(stream)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    /// Where a part id stands, as far as memory knows. The newest place: an id may come again after its record was trimmed.
    pub(crate) fn hot_part(&self, part_id: &str) -> Option<SeqNum> {
        let in_open = self.open.as_ref().and_then(|run| run.parts.get(part_id));
        let found = in_open.or_else(|| self.sealed.iter().rev().find_map(|run| run.parts.get(part_id)));
        found.copied()
    }

    /// Takes in a durable record, after those before it. True if it is the stream's first of the interval.
    pub(crate) fn land(
        &mut self,
        interval: Interval,
        segment: Generation,
        frame: FrameRef,
        part_id: Option<Box<str>>,
        command: Option<Command>,
    ) -> bool {
        let is_first = self.open.as_ref().is_none_or(|run| run.interval != interval);
        if is_first {
            self.seal();
        }
        let seq_num = self.meta.next_seq;
        let hot = self.open.get_or_insert_with(|| HotRun {
            interval,
            run: Run::new(segment, seq_num),
            parts: HashMap::new(),
            end: Meta::default(),
        });
        hot.run.frames.push(frame);
        if let Some(part_id) = part_id {
            hot.run.has_parts = true;
            hot.parts.insert(part_id, seq_num);
        }
        self.meta.land(frame.timestamp, command);
        is_first
    }

    fn seal(&mut self) {
        if let Some(mut run) = self.open.take() {
            run.end = self.meta.clone();
            self.sealed.push_back(Arc::new(run));
        }
    }

    /// The run of an interval, complete. Called once the interval is over.
    pub(crate) fn sealed_run(&mut self, interval: Interval) -> Option<Arc<HotRun>> {
        if self.open.as_ref().is_some_and(|run| run.interval <= interval) {
            self.seal();
        }
        self.sealed.iter().find(|run| run.interval == interval).cloned()
    }

    /// Forgets the runs up to `interval`, which the index has now.
    pub(crate) fn indexed(&mut self, interval: Interval) {
        while let Some(run) = self.sealed.pop_front_if(|run| run.interval <= interval) {
            self.indexed_to = run.run.end_seq();
            if !run.parts.is_empty() {
                self.indexed_parts = true;
                self.evictions += 1;
            }
        }
    }
}
