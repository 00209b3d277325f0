//! Checkpoints: spans of the log on their way from the committer to the indexer, in order.

use crate::frame::StreamId;
use crate::index_value::Progress;
use crate::stream::{Interval, Stream};
use continuo_domain::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many checkpoints may wait before the committer does: the bound on what recovery has to replay.
pub(crate) const CHECKPOINTS_PENDING_MAX: usize = 4;

/// A span of the log that is durable and complete.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) interval: Interval,
    /// Streams with records in it, each once.
    pub(crate) touched: Vec<Arc<Stream>>,
    /// Streams deleted in it.
    pub(crate) deleted: Vec<StreamId>,
    /// Where the log stands after it.
    pub(crate) progress: Progress,
    /// How much of the log it is.
    pub(crate) log_bytes: u64,
}

/// The way from the one to the other.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Checkpoint>,
    /// The one being worked on. It stays here if the work fails: it holds the streams that only memory knows.
    current: Option<Arc<Checkpoint>>,
    end: Option<End>,
    failed: Option<Error>,
}

/// How the indexer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After the last checkpoint.
    WhenDone,
    /// At once; recovery reads the log again.
    Now,
}

impl Checkpoints {
    /// Hands one over; waits while too many are on their way. Fails once the indexer has.
    pub(crate) fn send(&self, checkpoint: Checkpoint) -> Result<()> {
        let mut inner = self.inner.lock();
        while inner.failed.is_none() && inner.end.is_none() && inner.on_the_way() >= CHECKPOINTS_PENDING_MAX {
            self.changed.wait(&mut inner);
        }
        if let Some(failed) = &inner.failed {
            return Err(failed.clone());
        }
        inner.waiting.push_back(checkpoint);
        self.changed.notify_all();
        Ok(())
    }

    /// The next one to work on; `None` at the end.
    pub(crate) fn next(&self) -> Option<Arc<Checkpoint>> {
        let mut inner = self.inner.lock();
        let done = inner.current.take();
        // Without the lock: streams that go with it are many.
        MutexGuard::unlocked(&mut inner, || drop(done));
        loop {
            self.changed.notify_all();
            if inner.end == Some(End::Now) {
                return None;
            }
            if let Some(checkpoint) = inner.waiting.pop_front() {
                let checkpoint = Arc::new(checkpoint);
                inner.current = Some(checkpoint.clone());
                return Some(checkpoint);
            }
            if inner.end == Some(End::WhenDone) {
                return None;
            }
            self.changed.wait(&mut inner);
        }
    }

    /// The indexer cannot go on.
    pub(crate) fn fail(&self, error: Error) {
        self.inner.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits until nothing is on its way.
    pub(crate) fn wait_idle(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        while inner.on_the_way() > 0 && inner.failed.is_none() && inner.end != Some(End::Now) {
            self.changed.wait(&mut inner);
        }
        inner.failed.clone().map_or(Ok(()), Err)
    }

    /// Ends the indexer after the last checkpoint.
    pub(crate) fn finish(&self) {
        self.inner.lock().end.get_or_insert(End::WhenDone);
        self.changed.notify_all();
    }

    /// Ends the indexer as soon as possible.
    pub(crate) fn abandon(&self) {
        self.inner.lock().end = Some(End::Now);
        self.changed.notify_all();
    }
}

impl Inner {
    fn on_the_way(&self) -> usize {
        self.waiting.len() + usize::from(self.current.is_some())
    }
}
