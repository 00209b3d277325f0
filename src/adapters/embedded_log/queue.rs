//! What waits for the committer. Bounded in bytes: an append first takes permits for what it weighs, so that a slow disk
//! is felt by the writers and not by the memory.

use crate::stream::Stream;
use continuo_domain::channel::{Append, Appended, SeqNum};
use continuo_domain::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, mpsc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Appends that wait or are being written weigh no more than this together.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Work for the committer, in the order of arrival.
#[derive(Debug)]
pub(crate) enum Job {
    Append(AppendJob),
    /// Delete all streams whose name starts with this.
    Delete {
        prefix: String,
        done: oneshot::Sender<Result<()>>,
    },
    /// Hand what was written so far to the indexer, then say so.
    Checkpoint {
        done: mpsc::Sender<()>,
    },
    /// End after what came before; hand everything to the indexer first.
    Stop,
}

/// An append that passed its limits.
#[derive(Debug)]
pub(crate) struct AppendJob {
    pub(crate) stream: Arc<Stream>,
    pub(crate) append: Append,
    /// Its frames take no more than this.
    pub(crate) frame_bytes_max: usize,
    pub(crate) probe: Probe,
    pub(crate) done: oneshot::Sender<Reply>,
    /// Given back when the job is over.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the index said about the part id before the append was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Not asked.
    None,
    /// Asked when the stream had evicted part ids so many times.
    Asked { evictions: u64, found: Option<SeqNum> },
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Reply {
    Done(Appended),
    Failed(Error),
    /// The part id stands at this number, which is durable; is the record the same?
    Known {
        append: Append,
        seq_num: SeqNum,
    },
    /// The stream was deleted, or its part ids moved to the index meanwhile: look again.
    Again(Append),
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: Vec<Job>,
    closed: Option<Error>,
    committer_waits: bool,
}

impl Queue {
    /// Puts a job at the end; refused with the reason once the queue is closed.
    pub(crate) fn push(&self, job: Job) -> Result<()> {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.closed {
            return Err(reason.clone());
        }
        inner.jobs.push(job);
        if inner.committer_waits {
            inner.committer_waits = false;
            drop(inner);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Swaps all waiting jobs into `jobs`, which is empty; waits until there is one. False once closed.
    pub(crate) fn take(&self, jobs: &mut Vec<Job>) -> bool {
        let mut inner = self.inner.lock();
        while inner.jobs.is_empty() {
            if inner.closed.is_some() {
                return false;
            }
            inner.committer_waits = true;
            self.arrived.wait(&mut inner);
        }
        std::mem::swap(&mut inner.jobs, jobs);
        true
    }

    /// Refuses all later jobs with `reason` and returns those that waited. The first reason stays.
    pub(crate) fn close(&self, reason: Error) -> Vec<Job> {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert(reason);
        self.arrived.notify_all();
        std::mem::take(&mut inner.jobs)
    }

    /// Why the queue is closed, if it is.
    pub(crate) fn closed(&self) -> Option<Error> {
        self.inner.lock().closed.clone()
    }
}

impl Job {
    /// Ends a job that will not be done.
    pub(crate) fn refuse(self, error: &Error) {
        // A caller that has gone does not need the answer.
        match self {
            Self::Append(job) => drop(job.done.send(Reply::Failed(error.clone()))),
            Self::Delete { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Checkpoint { .. } | Self::Stop => {}
        }
    }
}
