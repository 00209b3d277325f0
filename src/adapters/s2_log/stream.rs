//! One stream: what can be asked of S2, and what is remembered of the answers.

use crate::known::Known;
use crate::live::Live;
use crate::record;
use crate::refusal::{self, Refusal, Unread};
use continuo_domain::channel::{ChannelKey, FencingToken, NewRecord, Position, Record, SeqNum, Tail};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use parking_lot::Mutex;
use s2_sdk::types::{
    AppendAck, AppendInput, BasinName, FencingToken as S2Token, ReadFrom, ReadInput, ReadLimits, ReadStart, ReadStop,
    SequencedRecord, StreamName,
};
use s2_sdk::{S2, S2Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often an append meets a stream that was deleted just now, before it gives up.
const CREATE_ROUNDS_MAX: u32 = 8;
/// How often a fence races with others before it gives up.
const FENCE_ROUNDS_MAX: u32 = 16;
/// How often a probe is sent whose answer was lost; it does nothing, so it may be.
const PROBES_MAX: u32 = 3;

/// What all streams of a log share.
pub(crate) struct Common {
    pub(crate) s2: S2,
    pub(crate) timeout: Duration,
    pub(crate) outage: Duration,
    /// Metered bytes of appends that are on their way.
    pub(crate) bytes: Semaphore,
    pub(crate) bytes_max: usize,
    /// Counts moments of this process: what was learned before what was claimed.
    ticks: AtomicU64,
    pub(crate) stopping: CancellationToken,
}

impl Common {
    pub(crate) fn new(s2: S2, timeout: Duration, outage: Duration, bytes_max: usize) -> Self {
        let (bytes, ticks) = (Semaphore::new(bytes_max), AtomicU64::new(1));
        Self { s2, timeout, outage, bytes, bytes_max, ticks, stopping: CancellationToken::new() }
    }

    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }
}

/// What became of an append.
pub(crate) enum Sent {
    Acked(AppendAck),
    Fenced(FencingToken),
    Mismatch(SeqNum),
    /// Nothing was written.
    Nothing(Error),
    Unknown(Cause),
}

/// What stands at a place.
pub(crate) enum Page {
    /// At least one record.
    Records(Vec<SequencedRecord>),
    /// Nothing: the place is this tail, or lies past it, or all from it to this tail was trimmed.
    At(Position),
    /// No such stream.
    Missing,
}

pub(crate) struct Stream {
    pub(crate) key: ChannelKey,
    pub(crate) common: Arc<Common>,
    pub(crate) basin: BasinName,
    pub(crate) name: StreamName,
    pub(crate) s2: S2Stream,
    pub(crate) known: Mutex<Known>,
    pub(crate) live: Arc<Live>,
    /// One creator at a time.
    pub(crate) creating: tokio::sync::Mutex<()>,
    /// Cancelled when this process deleted it.
    pub(crate) deleted: CancellationToken,
}

impl Stream {
    pub(crate) fn new(key: ChannelKey, basin: BasinName, common: Arc<Common>) -> Result<Self> {
        let name: StreamName = key.to_string().parse().map_err(Error::internal)?;
        let s2 = common.s2.basin(basin.clone()).stream(name.clone());
        let (known, live, deleted) = (Mutex::default(), Arc::default(), CancellationToken::new());
        Ok(Self { key, common, basin, name, s2, known, live, creating: Default::default(), deleted })
    }

    /// One append as it is; a stream that is not there is made first. Waits while too much is on its way.
    pub(crate) async fn send(
        &self,
        records: &[NewRecord],
        mark: Option<&str>,
        token: Option<&FencingToken>,
        match_seq_num: Option<SeqNum>,
    ) -> Sent {
        for _ in 0..CREATE_ROUNDS_MAX {
            match self.send_once(records, mark, token, match_seq_num).await {
                Ok(sent) => return sent,
                Err(()) => {
                    if let Err(error) = self.create().await {
                        return Sent::Nothing(error);
                    }
                }
            }
        }
        Sent::Nothing(Error::Unavailable(Cause::new("the stream is deleted again and again")))
    }

    /// `Err` if there is no stream.
    async fn send_once(
        &self,
        records: &[NewRecord],
        mark: Option<&str>,
        token: Option<&FencingToken>,
        match_seq_num: Option<SeqNum>,
    ) -> Result<Sent, ()> {
        let mut input = match record::to_s2(records, mark) {
            Ok(batch) => AppendInput::new(batch),
            Err(refused) => return Ok(Sent::Nothing(refused)),
        };
        if let Some(seq_num) = match_seq_num {
            input = input.with_match_seq_num(seq_num);
        }
        if let Some(token) = token {
            match token.as_str().parse::<S2Token>() {
                Ok(token) => input = input.with_fencing_token(token),
                Err(invalid) => return Ok(Sent::Nothing(Error::internal(invalid))),
            }
        }
        let metered: usize = records.iter().map(NewRecord::metered_bytes).sum();
        let permits = u32::try_from(metered.clamp(1, self.common.bytes_max)).unwrap_or(u32::MAX);
        let permit = self.common.bytes.acquire_many(permits).await;
        let answer = self.s2.append(input).await;
        drop(permit);
        let tick = self.common.tick();
        match answer {
            Ok(ack) => {
                let mut known = self.known.lock();
                // What it named was in force.
                token.into_iter().for_each(|token| known.learn(token.clone(), tick));
                known.wrote(records, ack.start.seq_num, tick);
                known.reached(refusal::position(ack.tail));
                Ok(Sent::Acked(ack))
            }
            Err(error) => match refusal::of_append(error) {
                Refusal::Fenced(token) => {
                    self.known.lock().learn(token.clone(), tick);
                    Ok(Sent::Fenced(token))
                }
                Refusal::Mismatch(seq_num) => Ok(Sent::Mismatch(seq_num)),
                Refusal::Missing => {
                    self.forget();
                    Err(())
                }
                Refusal::Nothing(cause) => Ok(Sent::Nothing(Error::Unavailable(cause))),
                Refusal::Unknown(cause) => Ok(Sent::Unknown(cause)),
            },
        }
    }

    /// Asks for the token in force, with an append that can never land: it names a token that nobody uses, and a number that
    /// is never given. `None` if there is no stream.
    async fn probe(&self) -> Result<Option<FencingToken>> {
        let token = S2Token::generate(36).map_err(Error::internal)?;
        let token = FencingToken::parse(&token)?;
        let mut round = 1;
        loop {
            return match self.send_once(&[NewRecord::default()], None, Some(&token), Some(SeqNum::MAX)).await {
                Err(()) => Ok(None),
                Ok(Sent::Fenced(in_force)) => Ok(Some(in_force)),
                Ok(Sent::Nothing(error)) => Err(error),
                Ok(Sent::Unknown(_)) if round < PROBES_MAX => {
                    round += 1;
                    continue;
                }
                Ok(Sent::Unknown(cause)) => Err(Error::Unavailable(cause)),
                Ok(Sent::Acked(_) | Sent::Mismatch(_)) => {
                    Err(Error::internal("a probe of the fencing token met its like"))
                }
            };
        }
    }

    /// The end of what is durable. `None` if there is no stream.
    pub(crate) async fn check_tail(&self) -> Result<Option<Position>> {
        match self.s2.check_tail().await {
            Ok(tail) => {
                let tail = refusal::position(tail);
                self.known.lock().reached(tail);
                Ok(Some(tail))
            }
            Err(error) => match refusal::of_read(error)? {
                Unread::At(tail) => Ok(Some(tail)),
                Unread::Missing => {
                    self.forget();
                    Ok(None)
                }
            },
        }
    }

    /// Learns token and tail.
    pub(crate) async fn learn(&self) -> Result<(FencingToken, Position)> {
        let (token, tail) = tokio::try_join!(self.probe(), self.check_tail())?;
        Ok((token.unwrap_or_default(), tail.unwrap_or_default()))
    }

    /// As S2 has it now; the first number is at most a second old.
    pub(crate) async fn tail(&self) -> Result<Tail> {
        let ((fencing_token, position), earliest) = tokio::try_join!(self.learn(), self.earliest())?;
        let earliest_seq_num = earliest.unwrap_or_default().min(position.seq_num);
        Ok(Tail { position, earliest_seq_num, fencing_token })
    }

    /// The first number that can be read. `None` if there is no stream.
    pub(crate) async fn earliest(&self) -> Result<Option<SeqNum>> {
        let from = {
            let known = self.known.lock();
            if known.is_earliest_fresh() {
                return Ok(Some(known.earliest()));
            }
            known.earliest()
        };
        let first = match self.page(ReadFrom::SeqNum(from), 1).await? {
            Page::Records(records) => records.first().map_or(from, |record| record.seq_num),
            Page::At(tail) => tail.seq_num,
            Page::Missing => return Ok(None),
        };
        let mut known = self.known.lock();
        known.begins_at(first, Instant::now());
        Ok(Some(known.earliest()))
    }

    /// One batch from there, or what is there instead.
    pub(crate) async fn page(&self, from: ReadFrom, count: usize) -> Result<Page> {
        let stop = ReadStop::new().with_limits(ReadLimits::new().with_count(count));
        let input = ReadInput::new().with_start(ReadStart::new().with_from(from)).with_stop(stop);
        let mut tail_before = None;
        loop {
            return match self.s2.read(input.clone()).await {
                // Everything there was is trimmed. A tail that is asked for after the read may be past a record that came in
                // between, which nobody has trimmed: it takes a second read to know what lies below that tail.
                Ok(batch) if batch.records.is_empty() => match tail_before {
                    Some(tail) => Ok(Page::At(tail)),
                    None => match self.check_tail().await? {
                        Some(tail) => {
                            tail_before = Some(tail);
                            continue;
                        }
                        None => Ok(Page::Missing),
                    },
                },
                Ok(batch) if self.is_end(&batch.records).await? => Ok(Page::Missing),
                Ok(batch) => Ok(Page::Records(batch.records)),
                Err(error) => match refusal::of_read(error)? {
                    Unread::Missing => {
                        self.forget();
                        Ok(Page::Missing)
                    }
                    Unread::At(tail) => {
                        self.known.lock().reached(tail);
                        Ok(Page::At(tail))
                    }
                },
            };
        }
    }

    /// Raises the fence to a token that says the same: appends that are on their way under the old one never land. Where its
    /// record stands.
    pub(crate) async fn renew(&self) -> Result<SeqNum> {
        let known = self.known.lock().token().cloned();
        let mut token = match known {
            Some(token) => token,
            None => self.learn().await?.0,
        };
        for _ in 0..FENCE_ROUNDS_MAX {
            let next = token.renewed();
            let next = next.ok_or_else(|| Error::internal("a fencing token that is not ours cannot be renewed"))?;
            match self.send(&[NewRecord::fence(&next)], None, Some(&token), None).await {
                Sent::Acked(ack) => return Ok(ack.start.seq_num),
                Sent::Fenced(in_force) => token = in_force,
                Sent::Nothing(error) => return Err(error),
                // Whether that one landed or not, only a fence that was acknowledged has a known place.
                Sent::Unknown(cause) => return Err(Error::Unavailable(cause)),
                Sent::Mismatch(_) => return Err(Error::internal("a number was refused that was not named")),
            }
        }
        Err(Error::LimitExceeded { what: "the channel's owner keeps changing, which", retry_after_ms: 100 })
    }

    /// Is this the end of a stream that was deleted, and what stands before it gone with it? S2 ends one by trimming
    /// everything there could ever be. A writer may say the same, so the stream is asked for.
    pub(crate) async fn is_end(&self, records: &[SequencedRecord]) -> Result<bool> {
        let is_like = |last: &SequencedRecord| last.is_command_record() && *last.body == SeqNum::MAX.to_be_bytes();
        Ok(records.last().is_some_and(is_like) && self.check_tail().await?.is_none())
    }

    /// Records that were read at its end.
    pub(crate) fn saw(&self, records: &[Record]) {
        let mut known = self.known.lock();
        known.saw(records, self.common.tick());
        if let Some(last) = records.last() {
            known.reached(Position { seq_num: last.seq_num + 1, timestamp: last.timestamp });
        }
    }

    /// There is no stream, so nothing that was known of it counts.
    fn forget(&self) {
        *self.known.lock() = Known::default();
    }
}
