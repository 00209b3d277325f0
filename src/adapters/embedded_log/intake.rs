//! Where appends become frames. Each caller writes its own frames, into the batch that goes to disk next, and takes its
//! numbers while it does so; the committer only has to write what has gathered. That keeps the work off the one thread
//! that everybody waits for, and needs no thread to be woken before the disk is free.
//!
//! Bounded in bytes: an append first takes permits for what it weighs, so that a slow disk is felt by the writers and
//! not by the memory.

use crate::acknowledger::{Answer, Outcome};
use crate::batch::{BATCH_ALIGN_BYTES, BATCH_HEADER_BYTES};
use crate::draft::{Batch, Refused};
use crate::frame::StreamId;
use crate::stream::Stream;
use continuo_domain::channel::{Append, SeqNum};
use continuo_domain::{Error, Result, Timestamp};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Appends that wait or are being written weigh no more than this together.
pub(crate) const INTAKE_BYTES_MAX: usize = 64 << 20;
/// Written batches that are kept to be filled again.
const SPARE_BATCHES_MAX: usize = 2;

/// Work for the committer, in order.
#[derive(Debug)]
pub(crate) enum Work {
    Batch(Batch),
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
    pub(crate) now: Timestamp,
    /// Given back when the append is answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the index said about the part id before the append came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Not asked.
    None,
    /// Asked when the stream had evicted part ids so many times.
    Asked { evictions: u64, found: Option<SeqNum> },
}

/// What becomes of an append.
#[derive(Debug)]
pub(crate) enum Reply {
    Done(continuo_domain::channel::Appended),
    Failed(Error),
    /// The part id stands at this number, which is durable; is the record the same?
    Known {
        append: Append,
        seq_num: SeqNum,
    },
    /// The stream was deleted, or its part ids moved to the index meanwhile: look again.
    Again(Append),
}

/// Where the answer to an append comes from.
pub(crate) enum Taken {
    Later(oneshot::Receiver<Reply>),
    AtOnce(Reply),
    /// A delete is under way; look again when it is over, which closes this.
    AfterDelete(Append, Arc<Semaphore>),
}

/// The intake.
#[derive(Debug)]
pub(crate) struct Intake {
    inner: Mutex<Inner>,
    arrived: Condvar,
    /// A batch takes no more than this with its header and padding.
    batch_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    work: VecDeque<Work>,
    spare: Vec<Batch>,
    /// Number of the newest batch that was begun, which names it to the streams.
    serial: u64,
    next_stream: StreamId,
    deleting: Vec<(String, Arc<Semaphore>)>,
    closed: Option<Error>,
    committer_waits: bool,
}

impl Intake {
    pub(crate) fn new(batch_bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), arrived: Condvar::new(), batch_bytes_max }
    }

    /// The id of the next new stream; once, before the first append.
    pub(crate) fn start_streams_at(&self, id: StreamId) {
        self.inner.lock().next_stream = id;
    }

    /// No id from here on was given.
    pub(crate) fn next_stream(&self) -> StreamId {
        self.inner.lock().next_stream
    }

    /// Checks the append against the stream as all appends before leave it, and writes its frames.
    pub(crate) fn append(&self, job: AppendJob) -> Result<Taken> {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.closed {
            return Err(reason.clone());
        }
        let being_deleted = inner.deleting.iter().find(|(prefix, _)| job.stream.name.starts_with(prefix.as_str()));
        if let Some((_, over)) = being_deleted {
            return Ok(Taken::AfterDelete(job.append, over.clone()));
        }
        if BATCH_HEADER_BYTES + job.frame_bytes_max + BATCH_ALIGN_BYTES > self.batch_bytes_max {
            return Err(Error::internal("an append is larger than a segment"));
        }
        let stream = job.stream.clone();
        let mut state = stream.state.lock();
        if state.deleted {
            return Ok(Taken::AtOnce(Reply::Again(job.append)));
        }
        match state.check(&job) {
            // The answer must not tell of an append that is not durable yet.
            Err(refused) if state.ahead.is_some() => {
                let outcome = Outcome::Refused(Refused::reply(refused, job.append));
                let answer = inner.batch(0, self.batch_bytes_max).answer(outcome, job.permit);
                self.wake_committer(&mut inner);
                Ok(Taken::Later(answer))
            }
            Err(refused) => Ok(Taken::AtOnce(refused.reply(job.append))),
            Ok(()) => {
                let Inner { next_stream, .. } = &mut *inner;
                let id = state.ahead_or_begin(next_stream);
                let batch = inner.batch(job.frame_bytes_max, self.batch_bytes_max);
                let answer = batch.land(&mut state, id, job);
                self.wake_committer(&mut inner);
                Ok(Taken::Later(answer))
            }
        }
    }

    /// Puts other work at the end.
    pub(crate) fn push(&self, work: Work) -> Result<()> {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.closed {
            return Err(reason.clone());
        }
        if let Work::Delete { prefix, .. } = &work {
            // What comes after the delete goes to new streams, which are there only when it is over.
            inner.deleting.push((prefix.clone(), Arc::new(Semaphore::new(0))));
        }
        inner.work.push_back(work);
        self.wake_committer(&mut inner);
        Ok(())
    }

    fn wake_committer(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.committer_waits) {
            self.arrived.notify_one();
        }
    }

    /// The next work; waits until there is some. Takes the written batch back. `None` once closed.
    pub(crate) fn next(&self, written: Option<Batch>) -> Option<Work> {
        let mut inner = self.inner.lock();
        if inner.spare.len() < SPARE_BATCHES_MAX {
            inner.spare.extend(written);
        }
        loop {
            if let Some(work) = inner.work.pop_front() {
                return Some(work);
            }
            if inner.closed.is_some() {
                return None;
            }
            inner.committer_waits = true;
            self.arrived.wait(&mut inner);
        }
    }

    /// The oldest delete is over; the appends that waited for it go on.
    pub(crate) fn delete_is_over(&self, prefix: &str) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.deleting.iter().position(|(deleting, _)| deleting == prefix) {
            inner.deleting.remove(at).1.close();
        }
    }

    /// Refuses all later work with `reason` and returns what waited. The first reason stays.
    pub(crate) fn close(&self, reason: Error) -> Vec<Work> {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert(reason);
        for (_, over) in inner.deleting.drain(..) {
            over.close();
        }
        self.arrived.notify_all();
        inner.work.drain(..).collect()
    }

    /// Why the intake is closed, if it is.
    pub(crate) fn closed(&self) -> Option<Error> {
        self.inner.lock().closed.clone()
    }
}

impl Inner {
    /// The batch that still takes so many bytes.
    fn batch(&mut self, frame_bytes: usize, batch_bytes_max: usize) -> &mut Batch {
        let has_room = matches!(self.work.back(), Some(Work::Batch(batch))
            if batch.buffer.len() + frame_bytes + BATCH_ALIGN_BYTES <= batch_bytes_max);
        if !has_room {
            self.serial += 1;
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.serial = self.serial;
            self.work.push_back(Work::Batch(batch));
        }
        match self.work.back_mut() {
            Some(Work::Batch(batch)) => batch,
            _ => unreachable!("a batch was put there"),
        }
    }
}

impl Work {
    /// Ends work that will not be done.
    pub(crate) fn refuse(self, error: &Error) {
        // A caller that has gone does not need the answer.
        match self {
            Self::Batch(batch) => {
                for Answer { done, .. } in batch.answers {
                    drop(done.send(Reply::Failed(error.clone())));
                }
            }
            Self::Delete { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Checkpoint { .. } | Self::Stop => {}
        }
    }
}
