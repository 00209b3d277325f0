//! Drafts: what a batch under way will do to each stream. Readers see it only once the batch is durable.

use crate::frame::StreamId;
use crate::queue::{AppendJob, Probe, Reply};
use crate::run::FrameRef;
use crate::stream::{Meta, State, Stream};
use continuo_domain::Error;
use continuo_domain::channel::{Command, Record, SeqNum};
use std::collections::HashMap;
use std::sync::Arc;

/// One stream's part of the batch. Kept and used again, so that a batch allocates little.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) stream: Option<Arc<Stream>>,
    pub(crate) id: Option<StreamId>,
    /// The stream as it will be.
    pub(crate) meta: Meta,
    pub(crate) landed: Vec<Landed>,
    pub(crate) parts: HashMap<Box<str>, SeqNum>,
    /// The records themselves, if somebody follows.
    pub(crate) records: Vec<Record>,
    pub(crate) keep_records: bool,
}

/// A record that is in the batch.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) frame: FrameRef,
    pub(crate) part_id: Option<Box<str>>,
    pub(crate) command: Option<Command>,
}

/// The drafts of one batch.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    slots: Vec<Draft>,
    used: usize,
}

impl Drafts {
    /// The slot of the stream's draft; begins one if there is none.
    pub(crate) fn slot(&mut self, stream: &Arc<Stream>, state: &mut State) -> usize {
        if let Some(slot) = state.draft {
            return slot;
        }
        if self.used == self.slots.len() {
            self.slots.push(Draft::default());
        }
        let draft = &mut self.slots[self.used];
        draft.stream = Some(stream.clone());
        draft.id = state.id;
        draft.meta.clone_from(&state.meta);
        draft.keep_records = stream.has_followers();
        state.draft = Some(self.used);
        self.used += 1;
        self.used - 1
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> &mut Draft {
        &mut self.slots[slot]
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.slots[..self.used].iter_mut()
    }

    /// Ends the batch. A batch of very many streams does not leave its memory behind.
    pub(crate) fn clear(&mut self) {
        for draft in &mut self.slots[..self.used] {
            draft.stream = None;
            draft.landed.clear();
            draft.parts.clear();
            draft.records.clear();
        }
        self.slots.truncate(SLOTS_KEPT);
        self.used = 0;
    }
}

/// Drafts kept from batch to batch.
const SLOTS_KEPT: usize = 256;

/// Why an append does not land.
pub(crate) enum Refused {
    Known(SeqNum),
    Again,
    Failed(Error),
}

impl Refused {
    pub(crate) fn reply(self, append: continuo_domain::channel::Append) -> Reply {
        match self {
            Self::Known(seq_num) => Reply::Known { append, seq_num },
            Self::Again => Reply::Again(append),
            Self::Failed(error) => Reply::Failed(error),
        }
    }
}

impl Draft {
    /// The checks that depend on the stream, in the order the port promises.
    pub(crate) fn check(&self, state: &State, job: &AppendJob) -> Result<(), Refused> {
        if let Some(part_id) = &job.append.part_id {
            match self.part(state, part_id.as_str(), job.probe)? {
                // Below the trim point the record is forgotten, and the id with it.
                Some(seq_num) if seq_num >= self.meta.earliest => return Err(Refused::Known(seq_num)),
                _ => {}
            }
        }
        let in_force = &self.meta.fencing_token;
        if job.append.fencing_token.as_ref().is_some_and(|token| token != in_force) {
            return Err(Refused::Failed(Error::Fenced { fencing_token: in_force.as_str().to_owned() }));
        }
        let tail_seq_num = self.meta.next_seq;
        match job.append.match_seq_num {
            Some(seq_num) if seq_num != tail_seq_num => Err(Refused::Failed(Error::SeqNumMismatch { tail_seq_num })),
            _ => Ok(()),
        }
    }

    fn part(&self, state: &State, part_id: &str, probe: Probe) -> Result<Option<SeqNum>, Refused> {
        if let Some(seq_num) = self.parts.get(part_id).copied().or_else(|| state.hot_part(part_id)) {
            return Ok(Some(seq_num));
        }
        match probe {
            _ if !state.indexed_parts => Ok(None),
            Probe::Asked { evictions, found } if evictions == state.evictions => Ok(found),
            Probe::Asked { .. } | Probe::None => Err(Refused::Again),
        }
    }
}
