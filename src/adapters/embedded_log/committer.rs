//! The committer: one thread that writes the batch that has gathered, syncs, and only then shows it to readers and has it
//! acknowledged. While it waits for the disk the next batch gathers.

use crate::acknowledger::{Answer, Finished, Outcome};
use crate::batch::{BATCH_ALIGN_BYTES, BatchBuffer};
use crate::checkpoint::Checkpoint;
use crate::draft::Batch;
use crate::failure;
use crate::frame::{self, StreamId};
use crate::index_value::Progress;
use crate::intake::{Reply, Work};
use crate::ring::Rings;
use crate::segment::{Generation, SEGMENT_HEADER_BYTES, Segment};
use crate::shared::Shared;
use crate::stream::{Interval, Stream};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// A batch takes no more than this, so that one sync does not make the others wait for long.
pub(crate) const BATCH_BYTES_MAX: usize = 4 << 20;
/// A checkpoint is made at the latest after so many streams, to bound the memory for streams that are not indexed yet.
pub(crate) const CHECKPOINT_STREAMS_MAX: usize = 16_384;

/// Where the log stands, for the committer and for recovery that hands over to it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) segment: Arc<Segment>,
    /// Where the next batch goes.
    pub(crate) offset: u64,
    /// Number of the last batch.
    pub(crate) batch: u64,
    pub(crate) interval: Interval,
    /// Of the interval so far.
    pub(crate) touched: Vec<Arc<Stream>>,
    pub(crate) deleted: Vec<StreamId>,
    pub(crate) log_bytes: u64,
}

impl Head {
    /// Ends the interval.
    pub(crate) fn checkpoint(
        &mut self,
        sealed: bool,
        next_stream: StreamId,
        last_generation: Generation,
    ) -> Checkpoint {
        self.interval += 1;
        Checkpoint {
            interval: self.interval - 1,
            touched: std::mem::take(&mut self.touched),
            deleted: std::mem::take(&mut self.deleted),
            progress: Progress {
                generation: self.segment.generation,
                sealed,
                offset: self.offset,
                batch: self.batch,
                next_stream,
                last_generation,
            },
            log_bytes: std::mem::take(&mut self.log_bytes),
        }
    }
}

/// The thread's own.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    head: Head,
    finished: mpsc::Sender<Finished>,
    rings: Rings,
}

/// May the work go on?
enum Next {
    Work(Option<Batch>),
    End,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, head: Head, finished: mpsc::Sender<Finished>) -> Self {
        Self { shared, head, finished, rings: Rings::default() }
    }

    /// The thread. Ends when the log stops, or for good with the first write that fails: what the kernel holds of a
    /// failed write cannot be trusted, so it is not tried again.
    pub(crate) fn run(mut self) {
        let mut written = None;
        while let Some(work) = self.shared.intake.next(written.take()) {
            match self.work(work) {
                Ok(Next::Work(batch)) => written = batch,
                Ok(Next::End) => return self.refuse_the_rest(&Error::Stopping),
                Err(error) => {
                    tracing::error!(error = ?error, "the log could not be written; it takes no more appends");
                    return self.refuse_the_rest(&error);
                }
            }
        }
    }

    fn refuse_the_rest(&self, reason: &Error) {
        for work in self.shared.intake.close(reason.clone()) {
            work.refuse(reason);
        }
    }

    fn work(&mut self, work: Work) -> Result<Next> {
        match work {
            Work::Batch(batch) => return self.commit(batch).map(|batch| Next::Work(Some(batch))),
            Work::Delete { prefix, done } => self.delete(&prefix, done)?,
            Work::Checkpoint { done } => {
                self.checkpoint()?;
                // Who does not wait for it has dropped the other end.
                done.send(()).ok();
            }
            Work::Stop => return self.checkpoint().map(|()| Next::End),
        }
        Ok(Next::Work(None))
    }

    /// Makes the batch durable, then visible, then acknowledged; in this order.
    fn commit(&mut self, mut batch: Batch) -> Result<Batch> {
        if !batch.buffer.is_empty() {
            let written = self.write(&mut batch.buffer);
            let offset = written.inspect_err(|error| fail(&mut batch, error))?;
            self.publish(&mut batch, offset);
        }
        self.acknowledge(&mut batch);
        batch.clear();
        let is_due = self.head.touched.len() >= CHECKPOINT_STREAMS_MAX || self.shared.tuning.checkpoint_every_batch;
        if is_due {
            self.checkpoint()?;
        }
        Ok(batch)
    }

    /// Writes and syncs; returns where the batch begins.
    fn write(&mut self, buffer: &mut BatchBuffer) -> Result<u64> {
        let bytes = buffer.len().next_multiple_of(BATCH_ALIGN_BYTES) as u64;
        if self.head.offset + bytes > self.shared.segments.segment_bytes() {
            self.roll()?;
        }
        let Head { segment, offset, batch, .. } = &self.head;
        let (offset, number) = (*offset, batch + 1);
        let failed = |e| failure::file("write", &segment.path)(e);
        let file = segment.file()?;
        let (bytes, written) = buffer.finish(segment.seed, offset, number);
        file.write_all_at(bytes, offset).map_err(failed)?;
        if self.shared.tuning.fail_sync_of_batch == Some(number) {
            return Err(failed(std::io::Error::other("a test wants this sync to fail")));
        }
        file.sync_data().map_err(failed)?;
        self.head.offset += written;
        self.head.batch = number;
        self.head.log_bytes += written;
        let counters = &self.shared.counters;
        counters.unindexed_bytes.fetch_add(written, Ordering::Relaxed);
        counters.bytes.fetch_add(written, Ordering::Relaxed);
        counters.position.store(number, Ordering::Release);
        if self.head.offset > self.shared.segments.segment_bytes() / 4 {
            self.shared.segments.expect_more();
        }
        Ok(offset)
    }

    fn publish(&mut self, batch: &mut Batch, offset: u64) {
        let (interval, generation) = (self.head.interval, self.head.segment.generation);
        let mut records = 0;
        for draft in batch.drafts_mut() {
            let Some(stream) = draft.stream.clone() else { continue };
            records += draft.landed.len() as u64;
            let mut state = stream.state.lock();
            let is_first = state.publish(draft, interval, generation, offset as u32);
            self.rings.publish(&stream, &mut state, &mut draft.records);
            drop(state);
            if is_first {
                self.head.touched.push(stream);
            }
        }
        self.shared.counters.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Hands the answers on; the next batch need not wait until everybody is awake.
    fn acknowledge(&mut self, batch: &mut Batch) {
        let drafts = batch.drafts_mut().iter_mut();
        let followed = drafts.filter_map(|draft| draft.stream.take_if(|stream| stream.has_followers())).collect();
        let next = Vec::with_capacity(batch.answers.len());
        let answers = std::mem::replace(&mut batch.answers, next);
        // If the other thread has panicked, the answers are dropped: their outcome is unknown to the callers.
        self.finished.send(Finished { answers, followed }).ok();
    }

    /// Deletes streams. No append to them is under way: they wait until this is over.
    fn delete(&mut self, prefix: &str, done: oneshot::Sender<Result<()>>) -> Result<()> {
        let outcome = self.delete_streams(prefix);
        self.shared.intake.delete_is_over(prefix);
        match outcome {
            Ok(answer) => {
                // A caller that has gone does not need the answer.
                drop(done.send(answer));
                Ok(())
            }
            Err(error) => {
                drop(done.send(Err(unknown(&error))));
                Err(error)
            }
        }
    }

    /// The outer error ends the log, the inner is the caller's.
    fn delete_streams(&mut self, prefix: &str) -> Result<Result<()>> {
        let ids = match self.ids_to_delete(prefix) {
            Ok(ids) => ids,
            Err(error) => return Ok(Err(error)),
        };
        let mut buffer = BatchBuffer::default();
        for &id in &ids {
            buffer.push(|out| frame::put_delete(out, id));
        }
        if buffer.len() + BATCH_ALIGN_BYTES > BATCH_BYTES_MAX {
            return Ok(Err(Error::internal("a session has more channels than one batch can delete")));
        }
        if !buffer.is_empty() {
            self.write(&mut buffer)?;
        }
        for stream in self.shared.registry.delete(prefix, &ids) {
            stream.state.lock().deleted = true;
            stream.news.notify_waiters();
        }
        self.head.deleted.extend(ids);
        Ok(Ok(()))
    }

    /// Memory first, then the index: a stream may move from the first to the second meanwhile, never back.
    fn ids_to_delete(&self, prefix: &str) -> Result<Vec<StreamId>> {
        let hot = self.shared.registry.with_prefix(prefix);
        let mut ids: Vec<_> = hot.iter().filter_map(|stream| stream.state.lock().id).collect();
        ids.extend(self.shared.index.names_with_prefix(prefix)?.into_iter().map(|(_, id)| id));
        ids.sort_unstable();
        ids.dedup();
        self.shared.registry.retain_present(&mut ids, |id| *id);
        Ok(ids)
    }

    /// Goes on in the next segment.
    fn roll(&mut self) -> Result<()> {
        self.checkpoint_as(true)?;
        let next = self.shared.segments.take_ready()?;
        self.shared.segments.remember_open(std::mem::replace(&mut self.head.segment, next));
        self.head.offset = SEGMENT_HEADER_BYTES;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        if self.head.log_bytes == 0 {
            return Ok(());
        }
        self.checkpoint_as(false)
    }

    fn checkpoint_as(&mut self, sealed: bool) -> Result<()> {
        let (next_stream, last_generation) = (self.shared.intake.next_stream(), self.shared.segments.last_generation());
        self.shared.checkpoints.send(self.head.checkpoint(sealed, next_stream, last_generation))
    }
}

/// The batch may or may not be on disk: its appends are told so, the others that nothing was done.
fn fail(batch: &mut Batch, error: &Error) {
    for Answer { done, outcome, .. } in batch.answers.drain(..) {
        let error = match outcome {
            Outcome::Landed { .. } => unknown(error),
            Outcome::Refused(_) => error.clone(),
        };
        drop(done.send(Reply::Failed(error)));
    }
}

fn unknown(error: &Error) -> Error {
    Error::OutcomeUnknown(error.cause().cloned().unwrap_or_else(|| Cause::new(error.to_string())))
}

impl Drop for Committer {
    /// Also if the thread panics: nobody may wait for an answer that does not come.
    fn drop(&mut self) {
        self.refuse_the_rest(&failure::unavailable("the committer has ended"));
    }
}
