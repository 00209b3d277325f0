//! What this process remembers of a stream. All of it may be old, and all of it is used so that being old does no harm.

use continuo_domain::channel::{Command, FencingToken, NewRecord, Position, Record, SeqNum, Tail};
use std::time::Duration;
use tokio::time::Instant;

/// For so long the first number that S2 told is taken for the first.
const EARLIEST_FOR: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Known {
    /// The token, and when it was learned.
    token: Option<(FencingToken, u64)>,
    /// The highest end seen.
    tail: Option<Position>,
    /// The highest first number seen,
    earliest: SeqNum,
    /// when S2 told it,
    earliest_at: Option<Instant>,
    /// and the highest trim point of a trim command seen, which S2 may not have carried out yet.
    trim: SeqNum,
}

impl Known {
    pub(crate) fn learn(&mut self, token: FencingToken, tick: u64) {
        if self.token.as_ref().is_none_or(|(known, _)| *known != token) {
            self.token = Some((token, tick));
        }
    }

    pub(crate) fn token(&self) -> Option<&FencingToken> {
        self.token.as_ref().map(|(token, _)| token)
    }

    /// Was this token learned before that moment? The empty one counts as known from the beginning: it is in force until the
    /// first fence and never again.
    pub(crate) fn learned_before(&self, token: &FencingToken, tick: u64) -> bool {
        *token == FencingToken::default()
            || self.token.as_ref().is_some_and(|(known, learned)| known == token && *learned < tick)
    }

    pub(crate) fn tail(&self) -> Option<Position> {
        self.tail
    }

    pub(crate) fn reached(&mut self, tail: Position) {
        if self.tail.is_none_or(|known| known.seq_num <= tail.seq_num) {
            self.tail = Some(tail);
        }
    }

    pub(crate) fn begins_at(&mut self, earliest: SeqNum, now: Instant) {
        self.earliest = self.earliest.max(earliest);
        self.earliest_at = Some(now);
    }

    /// The first number that can be read, as far as it is known.
    pub(crate) fn earliest(&self) -> SeqNum {
        self.earliest.max(self.trim)
    }

    pub(crate) fn is_earliest_fresh(&self) -> bool {
        self.earliest_at.is_some_and(|at| at.elapsed() < EARLIEST_FOR)
    }

    /// Records of ours that were acknowledged.
    pub(crate) fn wrote(&mut self, records: &[NewRecord], start: SeqNum, tick: u64) {
        for (seq_num, record) in (start..).zip(records) {
            self.observe(seq_num, record.command().ok().flatten(), tick);
        }
    }

    pub(crate) fn saw(&mut self, records: &[Record], tick: u64) {
        for record in records {
            self.observe(record.seq_num, record.command(), tick);
        }
    }

    /// A trim may go up to and with its own record.
    fn observe(&mut self, seq_num: SeqNum, command: Option<Command>, tick: u64) {
        match command {
            Some(Command::Fence(token)) => self.learn(token, tick),
            Some(Command::Trim(before)) => self.trim = self.trim.max(before.min(seq_num + 1)),
            None => {}
        }
    }

    pub(crate) fn as_tail(&self, position: Position) -> Tail {
        Tail {
            position,
            earliest_seq_num: self.earliest().min(position.seq_num),
            fencing_token: self.token().cloned().unwrap_or_default(),
        }
    }
}
