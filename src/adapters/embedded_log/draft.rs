//! Drafts: what a batch will do to each stream. Readers see it only once the batch is durable; the appends that come
//! after it build on it at once.

use crate::acknowledger::{Answer, Outcome};
use crate::batch::BatchBuffer;
use crate::frame::{self, StreamId};
use crate::intake::{AppendJob, Probe, Reply};
use crate::run::FrameRef;
use crate::stream::{Meta, State, Stream};
use continuo_domain::Error;
use continuo_domain::channel::{Append, Command, NewRecord, Position, Record, SeqNum};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Drafts kept from batch to batch. A batch of very many streams does not leave its memory behind.
const DRAFTS_KEPT: usize = 256;

/// A stream as it will be when all batches with its records are durable.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) id: StreamId,
    pub(crate) meta: Meta,
    /// Its part ids that are in these batches.
    pub(crate) parts: HashMap<Box<str>, SeqNum>,
    /// The id was given here, and the log does not have it yet.
    is_new: bool,
    /// Batches with a draft of the stream; the newest, and the draft's place in it.
    batches: usize,
    serial: u64,
    place: usize,
}

/// What goes to disk together, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) serial: u64,
    pub(crate) buffer: BatchBuffer,
    pub(crate) answers: Vec<Answer>,
    drafts: Vec<Draft>,
    used: usize,
}

/// One stream's part of a batch. Kept and used again, so that a batch allocates little.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) stream: Option<Arc<Stream>>,
    pub(crate) landed: Vec<Landed>,
    /// The records themselves, if somebody follows.
    pub(crate) records: Vec<Record>,
    keep_records: bool,
}

/// A record that is in the batch. Its offset counts from the batch's begin.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) frame: FrameRef,
    pub(crate) part_id: Option<Box<str>>,
    pub(crate) command: Option<Command>,
}

/// Why an append does not land.
pub(crate) enum Refused {
    Known(SeqNum),
    Again,
    Failed(Error),
}

impl Refused {
    pub(crate) fn reply(self, append: Append) -> Reply {
        match self {
            Self::Known(seq_num) => Reply::Known { append, seq_num },
            Self::Again => Reply::Again(append),
            Self::Failed(error) => Reply::Failed(error),
        }
    }
}

impl State {
    /// The checks that depend on the stream, in the order the port promises.
    pub(crate) fn check(&self, job: &AppendJob) -> Result<(), Refused> {
        let meta = self.ahead.as_ref().map_or(&self.meta, |ahead| &ahead.meta);
        if let Some(part_id) = &job.append.part_id {
            match self.part(part_id.as_str(), job.probe)? {
                // Below the trim point the record is forgotten, and the id with it.
                Some(seq_num) if seq_num >= meta.earliest => return Err(Refused::Known(seq_num)),
                _ => {}
            }
        }
        let in_force = &meta.fencing_token;
        if job.append.fencing_token.as_ref().is_some_and(|token| token != in_force) {
            return Err(Refused::Failed(Error::Fenced { fencing_token: in_force.as_str().to_owned() }));
        }
        let tail_seq_num = meta.next_seq;
        match job.append.match_seq_num {
            Some(seq_num) if seq_num != tail_seq_num => Err(Refused::Failed(Error::SeqNumMismatch { tail_seq_num })),
            _ => Ok(()),
        }
    }

    fn part(&self, part_id: &str, probe: Probe) -> Result<Option<SeqNum>, Refused> {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.parts.get(part_id).copied());
        if let Some(seq_num) = ahead.or_else(|| self.hot_part(part_id)) {
            return Ok(Some(seq_num));
        }
        match probe {
            _ if !self.indexed_parts => Ok(None),
            Probe::Asked { evictions, found } if evictions == self.evictions => Ok(found),
            Probe::Asked { .. } | Probe::None => Err(Refused::Again),
        }
    }

    /// Takes in the drafted records of a batch that is durable, in order; `offset` is the batch's. True if they are the
    /// stream's first of the interval.
    pub(crate) fn publish(&mut self, draft: &mut Draft, interval: u64, segment: u64, offset: u32) -> bool {
        let Some(mut ahead) = self.ahead.take() else { return false };
        self.id = Some(ahead.id);
        let mut is_first = false;
        for Landed { mut frame, part_id, command } in draft.landed.drain(..) {
            if let Some(part_id) = &part_id
                && ahead.parts.get(part_id) == Some(&self.meta.next_seq)
            {
                ahead.parts.remove(part_id);
            }
            frame.offset += offset;
            is_first |= self.land(interval, segment, frame, part_id, command);
        }
        ahead.batches -= 1;
        self.ahead = Some(ahead).filter(|ahead| ahead.batches > 0);
        is_first
    }

    /// Begins a run ahead of what is durable, if there is none; the stream gets its id here. Returns that.
    pub(crate) fn ahead_or_begin(&mut self, next_stream: &mut StreamId) -> StreamId {
        let Self { id, meta, ahead, .. } = self;
        let ahead = ahead.get_or_insert_with(|| {
            let known = *id;
            let id = known.unwrap_or(*next_stream);
            *next_stream += u64::from(known.is_none());
            let (meta, parts) = (meta.clone(), HashMap::new());
            Box::new(Ahead { id, meta, parts, is_new: known.is_none(), batches: 0, serial: 0, place: 0 })
        });
        ahead.id
    }
}

impl Batch {
    /// Writes the frames of an append that passed all checks. `state` is the stream's, with a run ahead.
    pub(crate) fn land(&mut self, state: &mut State, id: StreamId, job: AppendJob) -> oneshot::Receiver<Reply> {
        let AppendJob { stream, append, now, permit, .. } = job;
        let Some(ahead) = &mut state.ahead else { unreachable!("the run ahead was begun") };
        let place = self.place(ahead, &stream);
        if std::mem::take(&mut ahead.is_new) {
            self.buffer.push(|out| frame::put_open(out, id, &stream.name));
        }
        let mut part_id: Option<Box<str>> = append.part_id.map(|part| part.as_str().into());
        if let Some(part_id) = &part_id {
            ahead.parts.insert(part_id.clone(), ahead.meta.next_seq);
        }
        let timestamp = now.max(ahead.meta.last_timestamp);
        let start = Position { seq_num: ahead.meta.next_seq, timestamp };
        let draft = &mut self.drafts[place];
        for record in append.records {
            let at = (ahead.meta.next_seq, timestamp);
            // The limits were checked before; a command that does not parse does not come here.
            let command = record.command().ok().flatten();
            let NewRecord { headers, body } = record;
            let (offset, bytes) =
                self.buffer.push(|out| frame::put_record(out, id, at, part_id.as_deref(), &headers, &body));
            let frame = FrameRef { offset: offset as u32, bytes: bytes as u32, timestamp };
            ahead.meta.land(timestamp, command.clone());
            draft.landed.push(Landed { frame, part_id: part_id.take(), command });
            if draft.keep_records {
                draft.records.push(Record { seq_num: at.0, timestamp, headers, body });
            }
        }
        let end = ahead.meta.position();
        self.answer(Outcome::Landed { stream, start, end }, permit)
    }

    /// The place of the stream's draft; begins one if there is none.
    fn place(&mut self, ahead: &mut Ahead, stream: &Arc<Stream>) -> usize {
        if ahead.batches > 0 && ahead.serial == self.serial {
            return ahead.place;
        }
        if self.used == self.drafts.len() {
            self.drafts.push(Draft::default());
        }
        let draft = &mut self.drafts[self.used];
        draft.stream = Some(stream.clone());
        draft.keep_records = stream.has_followers();
        (ahead.serial, ahead.place, ahead.batches) = (self.serial, self.used, ahead.batches + 1);
        self.used += 1;
        ahead.place
    }

    /// Notes an answer to be given when the batch is durable.
    pub(crate) fn answer(&mut self, outcome: Outcome, permit: OwnedSemaphorePermit) -> oneshot::Receiver<Reply> {
        let (done, answer) = oneshot::channel();
        self.answers.push(Answer { done, outcome, permit });
        answer
    }

    pub(crate) fn drafts_mut(&mut self) -> &mut [Draft] {
        &mut self.drafts[..self.used]
    }

    /// Ready to be filled again.
    pub(crate) fn clear(&mut self) {
        for draft in self.drafts_mut() {
            draft.stream = None;
            draft.landed.clear();
            draft.records.clear();
        }
        self.drafts.truncate(DRAFTS_KEPT);
        self.used = 0;
        self.buffer.clear();
    }
}
