//! The committer: one thread that takes everything that has arrived, writes it as one batch, syncs, and only then shows
//! it to readers and acknowledges it. While it waits for the disk the next batch gathers.

use crate::acknowledger::{Answer, Finished, Outcome};
use crate::batch::{BATCH_ALIGN_BYTES, BATCH_HEADER_BYTES, BatchBuffer};
use crate::checkpoint::Checkpoint;
use crate::draft::{Drafts, Landed};
use crate::failure;
use crate::frame::{self, StreamId};
use crate::index_value::Progress;
use crate::queue::{AppendJob, Job, Reply};
use crate::ring::Rings;
use crate::run::FrameRef;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::shared::Shared;
use crate::stream::{Interval, Stream};
use continuo_domain::channel::{NewRecord, Position, Record};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Timestamp};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

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
    /// Id of the next new stream.
    pub(crate) next_stream: StreamId,
    pub(crate) interval: Interval,
    /// Of the interval so far.
    pub(crate) touched: Vec<Arc<Stream>>,
    pub(crate) deleted: Vec<StreamId>,
    pub(crate) log_bytes: u64,
}

impl Head {
    /// Ends the interval.
    pub(crate) fn checkpoint(&mut self, sealed: bool, last_generation: u64) -> Checkpoint {
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
                next_stream: self.next_stream,
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
    buffer: BatchBuffer,
    drafts: Drafts,
    /// Answers that wait for the sync.
    pending: Vec<Answer>,
    finished: mpsc::Sender<Finished>,
    rings: Rings,
    /// When the jobs at hand were taken.
    now: Timestamp,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, head: Head, finished: mpsc::Sender<Finished>) -> Self {
        let (buffer, drafts, rings) = (BatchBuffer::new(), Drafts::default(), Rings::default());
        Self { shared, head, buffer, drafts, pending: Vec::new(), finished, rings, now: Timestamp::default() }
    }

    /// The thread. Ends when the log stops, or for good with the first write that fails: what the kernel holds of a
    /// failed write cannot be trusted, so it is not tried again.
    pub(crate) fn run(mut self) {
        let mut jobs = Vec::new();
        let ended = loop {
            if !self.shared.queue.take(&mut jobs) {
                return;
            }
            self.now = (self.shared.clock)();
            let mut rest = jobs.drain(..);
            match self.work_off(&mut rest) {
                Ok(true) => {}
                Ok(false) => break (Error::Stopping, rest.collect::<Vec<_>>()),
                Err(error) => break (error, rest.collect()),
            }
        };
        let (reason, rest) = ended;
        for job in rest.into_iter().chain(self.shared.queue.close(reason.clone())) {
            job.refuse(&reason);
        }
    }

    /// False at the end.
    fn work_off(&mut self, jobs: &mut impl Iterator<Item = Job>) -> Result<bool> {
        for job in jobs {
            match job {
                Job::Append(job) => self.append(job)?,
                Job::Delete { prefix, done } => self.delete(&prefix, done)?,
                Job::Checkpoint { done } => {
                    self.checkpoint()?;
                    // Who does not wait for it has dropped the other end.
                    done.send(()).ok();
                }
                Job::Stop => return self.checkpoint().map(|()| false),
            }
        }
        self.commit()?;
        let is_due = self.head.touched.len() >= CHECKPOINT_STREAMS_MAX || self.shared.tuning.checkpoint_every_batch;
        if is_due {
            self.checkpoint()?;
        }
        Ok(true)
    }

    fn append(&mut self, job: AppendJob) -> Result<()> {
        if !self.fits(job.frame_bytes_max) {
            self.commit()?;
        }
        if !self.fits(job.frame_bytes_max)
            && let Err(error) = self.roll()
        {
            Job::Append(job).refuse(&error);
            return Err(error);
        }
        if !self.fits(job.frame_bytes_max) {
            let error = Error::internal("an append is larger than a segment");
            self.answer(job.done, job.permit, Outcome::Refused(Reply::Failed(error)));
            return Ok(());
        }
        self.draft(job);
        Ok(())
    }

    /// Room for frames of so many bytes in this batch?
    fn fits(&self, frame_bytes: usize) -> bool {
        let left = self.shared.segments.segment_bytes().saturating_sub(self.head.offset);
        let room = BATCH_BYTES_MAX.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.buffer.len() + frame_bytes + BATCH_ALIGN_BYTES <= room
    }

    /// Checks the append against the stream as the batch so far leaves it, and writes its frames into the batch.
    fn draft(&mut self, job: AppendJob) {
        let stream = &job.stream;
        let mut state = stream.state.lock();
        if state.deleted {
            drop(state);
            return self.answer(job.done, job.permit, Outcome::Refused(Reply::Again(job.append)));
        }
        let draft_slot = self.drafts.slot(stream, &mut state);
        let draft = self.drafts.get_mut(draft_slot);
        if let Err(refused) = draft.check(&state, &job) {
            drop(state);
            return self.answer(job.done, job.permit, Outcome::Refused(refused.reply(job.append)));
        }
        drop(state);

        let seed = self.head.segment.seed;
        let id = *draft.id.get_or_insert_with(|| {
            let id = self.head.next_stream;
            self.head.next_stream += 1;
            self.buffer.push(|out| frame::put_open(out, seed, id, &stream.name));
            id
        });
        let mut part_id: Option<Box<str>> = job.append.part_id.map(|part| part.as_str().into());
        if let Some(part_id) = &part_id {
            draft.parts.insert(part_id.clone(), draft.meta.next_seq);
        }
        let now = self.now.max(draft.meta.last_timestamp);
        let start = Position { seq_num: draft.meta.next_seq, timestamp: now };
        let mut records = job.append.records;
        for record in &mut records {
            let at = (draft.meta.next_seq, now);
            // The limits were checked before; a command that does not parse does not come here.
            let command = record.command().ok().flatten();
            let (headers, body) = (&record.headers, &record.body);
            let (place, bytes) =
                self.buffer.push(|out| frame::put_record(out, seed, id, at, part_id.as_deref(), headers, body));
            let offset = self.head.offset as u32 + place as u32;
            let frame = FrameRef { offset, bytes: bytes as u32, timestamp: now };
            draft.meta.land(now, command.clone());
            draft.landed.push(Landed { frame, part_id: part_id.take(), command });
            if draft.keep_records {
                let NewRecord { headers, body } = std::mem::take(record);
                draft.records.push(Record { seq_num: at.0, timestamp: now, headers, body });
            }
        }
        let end = draft.meta.position();
        self.answer(job.done, job.permit, Outcome::Landed { stream: job.stream, start, end, records });
    }

    fn answer(&mut self, done: oneshot::Sender<Reply>, permit: OwnedSemaphorePermit, outcome: Outcome) {
        self.pending.push(Answer { done, outcome, permit });
    }

    /// Makes the batch durable, then visible, then acknowledged; in this order.
    fn commit(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            self.release_drafts();
            self.acknowledge();
            return Ok(());
        }
        if let Err(error) = self.write_batch() {
            self.fail_pending(&error);
            return Err(error);
        }
        self.publish();
        self.acknowledge();
        Ok(())
    }

    fn write_batch(&mut self) -> Result<()> {
        let Head { segment, offset, batch, .. } = &self.head;
        let failed = |e| failure::file("write", &segment.path)(e);
        let file = segment.file()?;
        let (bytes, written) = self.buffer.finish(segment.seed, *offset, batch + 1);
        file.write_all_at(bytes, *offset).map_err(failed)?;
        if self.shared.tuning.fail_sync_of_batch == Some(batch + 1) {
            return Err(failed(std::io::Error::other("a test wants this sync to fail")));
        }
        file.sync_data().map_err(failed)?;
        self.buffer.clear();
        self.head.offset += written;
        self.head.batch += 1;
        self.head.log_bytes += written;
        let counters = &self.shared.counters;
        counters.unindexed_bytes.fetch_add(written, Ordering::Relaxed);
        counters.bytes.fetch_add(written, Ordering::Relaxed);
        counters.position.store(self.head.batch, Ordering::Release);
        if self.head.offset > self.shared.segments.segment_bytes() / 4 {
            self.shared.segments.expect_more();
        }
        Ok(())
    }

    fn publish(&mut self) {
        let (interval, generation) = (self.head.interval, self.head.segment.generation);
        for draft in self.drafts.iter_mut() {
            let Some(stream) = &draft.stream else { continue };
            let mut state = stream.state.lock();
            state.draft = None;
            if draft.landed.is_empty() {
                continue;
            }
            state.id = draft.id;
            self.shared.counters.records.fetch_add(draft.landed.len() as u64, Ordering::Relaxed);
            let mut is_first = false;
            for landed in draft.landed.drain(..) {
                is_first |= state.land(interval, generation, landed.frame, landed.part_id, landed.command);
            }
            self.rings.publish(stream, &mut state, &mut draft.records);
            drop(state);
            if is_first {
                self.head.touched.push(stream.clone());
            }
        }
    }

    /// Hands the answers on; the next batch need not wait until everybody is awake.
    fn acknowledge(&mut self) {
        if self.pending.is_empty() {
            return self.drafts.clear();
        }
        let drafts = self.drafts.iter_mut();
        let followed = drafts.filter_map(|draft| draft.stream.take_if(|stream| stream.has_followers())).collect();
        self.drafts.clear();
        let next = Vec::with_capacity(self.pending.len());
        let answers = std::mem::replace(&mut self.pending, next);
        // If the other thread has panicked, the answers are dropped: their outcome is unknown to the callers.
        self.finished.send(Finished { answers, followed }).ok();
    }

    fn release_drafts(&mut self) {
        for draft in self.drafts.iter_mut() {
            if let Some(stream) = &draft.stream {
                stream.state.lock().draft = None;
            }
        }
    }

    /// The batch may or may not be on disk: its appends are told so, the others that nothing was done.
    fn fail_pending(&mut self, error: &Error) {
        tracing::error!(error = ?error, "the log could not be written; it takes no more appends");
        let cause = error.cause().cloned().unwrap_or_else(|| Cause::new(error.to_string()));
        for Answer { done, outcome, .. } in self.pending.drain(..) {
            let error = match outcome {
                Outcome::Landed { .. } => Error::OutcomeUnknown(cause.clone()),
                Outcome::Refused(_) => Error::Unavailable(cause.clone()),
            };
            drop(done.send(Reply::Failed(error)));
        }
    }

    /// Deletes streams, alone in its batch, so that no append of the same batch has to know.
    fn delete(&mut self, prefix: &str, done: oneshot::Sender<Result<()>>) -> Result<()> {
        self.commit()?;
        let ids = match self.ids_to_delete(prefix) {
            Ok(ids) => ids,
            Err(error) => {
                drop(done.send(Err(error)));
                return Ok(());
            }
        };
        let bytes = ids.len() * frame::DELETE_BYTES;
        if !self.fits(bytes)
            && let Err(error) = self.roll()
        {
            drop(done.send(Err(error.clone())));
            return Err(error);
        }
        if !self.fits(bytes) {
            drop(done.send(Err(Error::internal("a session has more channels than one batch can delete"))));
            return Ok(());
        }
        let seed = self.head.segment.seed;
        for &id in &ids {
            self.buffer.push(|out| frame::put_delete(out, seed, id));
        }
        if !self.buffer.is_empty()
            && let Err(error) = self.write_batch()
        {
            self.fail_pending(&error);
            let cause = error.cause().cloned().unwrap_or_else(|| Cause::new(error.to_string()));
            drop(done.send(Err(Error::OutcomeUnknown(cause))));
            return Err(error);
        }
        for stream in self.shared.registry.delete(prefix, &ids) {
            stream.state.lock().deleted = true;
            stream.news.notify_waiters();
        }
        self.head.deleted.extend(ids);
        drop(done.send(Ok(())));
        Ok(())
    }

    /// Memory first, then the index: a stream may move from the first to the second meanwhile, never back.
    fn ids_to_delete(&self, prefix: &str) -> Result<Vec<StreamId>> {
        let hot = self.shared.registry.with_prefix(prefix);
        let mut ids: Vec<_> = hot.iter().filter_map(|stream| stream.state.lock().id).collect();
        ids.extend(self.shared.index.ids_with_prefix(prefix)?);
        ids.sort_unstable();
        ids.dedup();
        self.shared.registry.retain_present(&mut ids);
        Ok(ids)
    }

    /// Goes on in the next segment.
    fn roll(&mut self) -> Result<()> {
        self.checkpoint_as(true)?;
        self.head.segment = self.shared.segments.take_ready()?;
        self.head.offset = SEGMENT_HEADER_BYTES;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.commit()?;
        if self.head.log_bytes == 0 {
            return Ok(());
        }
        self.checkpoint_as(false)
    }

    fn checkpoint_as(&mut self, sealed: bool) -> Result<()> {
        debug_assert_eq!(self.buffer.len(), BATCH_HEADER_BYTES, "a batch is open");
        let last_generation = self.shared.segments.last_generation();
        self.shared.checkpoints.send(self.head.checkpoint(sealed, last_generation))
    }
}

impl Drop for Committer {
    /// Also if the thread panics: nobody may wait for an answer that does not come.
    fn drop(&mut self) {
        let reason = failure::unavailable("the committer has ended");
        for job in self.shared.queue.close(reason.clone()) {
            job.refuse(&reason);
        }
    }
}
