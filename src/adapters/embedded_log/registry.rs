//! Which streams are in memory. It holds them weakly: a stream nobody needs leaves by itself. A few recent ones are
//! held a little longer, so that polling a cold stream does not ask the index each time.

use crate::frame::StreamId;
use crate::index::Index;
use crate::stream::Stream;
use continuo_domain::Result;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Weak};

/// Streams that are kept although nobody holds them.
const RECENT_STREAMS_MAX: usize = 1_024;

/// Name to stream.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    streams: BTreeMap<Box<str>, Weak<Stream>>,
    recent: VecDeque<Arc<Stream>>,
    /// Deleted, but the index still has them.
    deleted: HashSet<StreamId>,
    /// Rises when the index has changed: what was read from it before may be stale.
    epoch: u64,
}

impl Registry {
    /// The stream, if it is in memory.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.names.lock().streams.get(name).and_then(Weak::upgrade)
    }

    /// The stream; loaded from the index if need be, fresh if nobody wrote to it. May wait for the disk.
    pub(crate) fn load(self: &Arc<Self>, name: &str, index: &Index) -> Result<Arc<Stream>> {
        loop {
            if let Some(stream) = self.get(name) {
                return Ok(stream);
            }
            let epoch = self.names.lock().epoch;
            let indexed = index.stream_by_name(name)?;
            let mut names = self.names.lock();
            if names.epoch != epoch {
                continue;
            }
            if let Some(stream) = names.streams.get(name).and_then(Weak::upgrade) {
                return Ok(stream);
            }
            let registry = Arc::downgrade(self);
            let stream = match indexed.filter(|(id, _)| !names.deleted.contains(id)) {
                Some((id, entry)) => Stream::indexed(name, registry, id, entry.meta, entry.has_parts),
                None => Stream::new(name, registry),
            };
            let pushed_out = names.insert(&stream);
            // Dropped without the lock: a stream that goes takes it.
            drop(names);
            drop(pushed_out);
            return Ok(stream);
        }
    }

    /// Puts in a stream that recovery found in the log.
    pub(crate) fn insert(&self, stream: &Arc<Stream>) {
        self.names.lock().streams.insert(stream.name.clone(), Arc::downgrade(stream));
    }

    /// Called by a stream that goes.
    pub(crate) fn forget(&self, name: &str) {
        let mut names = self.names.lock();
        if names.streams.get(name).is_some_and(|stream| stream.strong_count() == 0) {
            names.streams.remove(name);
        }
    }

    /// The streams in memory whose name starts with `prefix`.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<Arc<Stream>> {
        self.names.lock().with_prefix(prefix)
    }

    /// Leaves only what is about streams that are not deleted yet.
    pub(crate) fn retain_present<T>(&self, found: &mut Vec<T>, id: impl Fn(&T) -> StreamId) {
        let names = self.names.lock();
        found.retain(|each| !names.deleted.contains(&id(each)));
    }

    /// From now on `ids` are gone, and the names with this prefix are free. Returns the streams that had them.
    pub(crate) fn delete(&self, prefix: &str, ids: &[StreamId]) -> Vec<Arc<Stream>> {
        let mut names = self.names.lock();
        names.deleted.extend(ids);
        let streams = names.with_prefix(prefix);
        for stream in &streams {
            names.streams.remove(&stream.name);
        }
        streams
    }

    /// The index has changed, and no longer has `deleted`.
    pub(crate) fn index_changed(&self, deleted: &[StreamId]) {
        let mut names = self.names.lock();
        names.epoch += 1;
        for id in deleted {
            names.deleted.remove(id);
        }
    }

    /// All streams in memory, and no longer any that nobody else holds.
    pub(crate) fn let_go(&self) -> Vec<Arc<Stream>> {
        let mut names = self.names.lock();
        let recent = std::mem::take(&mut names.recent);
        let mut all = names.with_prefix("");
        all.extend(recent);
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.names.lock().streams.len()
    }
}

impl Names {
    fn insert(&mut self, stream: &Arc<Stream>) -> Option<Arc<Stream>> {
        self.streams.insert(stream.name.clone(), Arc::downgrade(stream));
        self.recent.push_back(stream.clone());
        if self.recent.len() > RECENT_STREAMS_MAX { self.recent.pop_front() } else { None }
    }

    fn with_prefix(&self, prefix: &str) -> Vec<Arc<Stream>> {
        let from = self.streams.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(|(name, _)| name.starts_with(prefix)).filter_map(|(_, stream)| stream.upgrade()).collect()
    }
}
