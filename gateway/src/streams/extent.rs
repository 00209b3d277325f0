//! Where a read begins and where it ends: the query, and a read that keeps to it.

use std::time::Duration;

use continuo_proto::v1::{
    ErrorReason, Heartbeat, Position, ReadResponse, ReadStart, Record, RecordBatch, read_response::Event,
    read_start::Start,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::refusal::Refusal;
use crate::{error, query::Query, record_json::metered_bytes};

/// Most records of an answer in one piece, and of one batch of a flowing answer.
const BATCH_RECORDS_MAX: u64 = 1_000;
/// As [`BATCH_RECORDS_MAX`], in metered bytes.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Longest an answer in one piece is waited for.
const UNARY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Where a read begins; without a word at the tail.
pub(super) fn start(query: &Query) -> Result<ReadStart, Refusal> {
    let clamp = match query.one("clamp") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::bad("bad_query", "clamp may be true or false")),
    };
    let given = [number(query, "seq_num")?, number(query, "timestamp")?, number(query, "tail_offset")?];
    let start = match given {
        [Some(seq_num), None, None] => Start::SeqNum(seq_num),
        [None, Some(ms), None] => Start::TimestampMs(i64::try_from(ms).unwrap_or(i64::MAX)),
        [None, None, offset] => Start::TailOffset(offset.unwrap_or(0)),
        _ => return Err(Refusal::invalid("only one of seq_num, timestamp and tail_offset can be given")),
    };
    Ok(ReadStart { start: Some(start), clamp, skip_commands: false })
}

fn number(query: &Query, name: &'static str) -> Result<Option<u64>, Refusal> {
    let number = query.one(name).map(str::parse).transpose();
    number.map_err(|_| Refusal::bad("bad_query", &format!("{name} must be a whole number, not negative")))
}

/// How far a read may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    count: Option<u64>,
    bytes: Option<u64>,
    until_ms: Option<u64>,
    wait: Option<Duration>,
}

impl Extent {
    pub(super) fn parse(query: &Query, start: &ReadStart) -> Result<Self, Refusal> {
        let until_ms = number(query, "until")?;
        if let (Some(until), Some(Start::TimestampMs(from))) = (until_ms, start.start)
            && u64::try_from(from).is_ok_and(|from| from >= until)
        {
            return Err(Refusal::invalid("timestamp must be before until"));
        }
        Ok(Self {
            count: number(query, "count")?,
            bytes: number(query, "bytes")?,
            until_ms,
            wait: number(query, "wait")?.map(Duration::from_secs),
        })
    }

    /// What an answer in one piece may hold.
    pub(super) fn in_one_piece(self) -> Self {
        Self {
            count: Some(self.count.unwrap_or(u64::MAX).min(BATCH_RECORDS_MAX)),
            bytes: Some(self.bytes.unwrap_or(u64::MAX).min(BATCH_BYTES_MAX)),
            wait: self.wait.map(|wait| wait.min(UNARY_WAIT_MAX)),
            ..self
        }
    }

    /// What is left for a reader who has had so much already.
    pub(super) fn after(self, count: u64, bytes: u64) -> Self {
        let less = |limit: Option<u64>, had| limit.map(|limit| limit.saturating_sub(had));
        Self { count: less(self.count, count), bytes: less(self.bytes, bytes), ..self }
    }

    /// Does the read go on at the tail?
    fn may_follow(&self) -> bool {
        let is_bounded = self.count.is_some() || self.bytes.is_some() || self.until_ms.is_some();
        self.wait.map_or(!is_bounded, |wait| !is_bounded || !wait.is_zero())
    }

    fn allows(&self, count: u64, bytes: u64, record: &Record) -> bool {
        self.count.is_none_or(|limit| count <= limit)
            && self.bytes.is_none_or(|limit| bytes <= limit)
            && self.until_ms.is_none_or(|until| u64::try_from(record.timestamp_ms).unwrap_or(0) < until)
    }

    fn is_used_up(&self) -> bool {
        self.count == Some(0) || self.bytes == Some(0)
    }
}

/// What happens within the extent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// The next records, as many as go into one batch. The tail is told once it was reached.
    Batch(RecordBatch),
    /// Nothing more for now.
    CaughtUp(Heartbeat),
    /// Nothing is there from the start on, and the read may not wait for it.
    Unwritten(Position),
}

/// A read that ends where it should.
pub(super) fn bounded<S>(events: S, extent: Extent) -> impl Stream<Item = Result<Output, Refusal>> + Send
where
    S: Stream<Item = Result<ReadResponse, Status>> + Send + Unpin,
{
    let reading = Reading {
        events,
        extent,
        pending: Vec::new().into_iter(),
        tail: None,
        is_following: false,
        has_met: false,
        ends_at: None,
        is_over: false,
    };
    stream::unfold(reading, |mut reading| async move {
        let output = reading.next().await?;
        reading.is_over |= output.is_err();
        Some((output, reading))
    })
}

struct Reading<S> {
    events: S,
    extent: Extent,
    pending: std::vec::IntoIter<Record>,
    tail: Option<Position>,
    is_following: bool,
    /// Was there anything from the start on, be it trimmed away by now?
    has_met: bool,
    ends_at: Option<Instant>,
    is_over: bool,
}

impl<S> Reading<S>
where
    S: Stream<Item = Result<ReadResponse, Status>> + Unpin,
{
    async fn next(&mut self) -> Option<Result<Output, Refusal>> {
        loop {
            if self.is_over {
                return None;
            }
            if !self.pending.as_slice().is_empty() {
                return self.batch().map(Ok);
            }
            let next = self.events.next();
            let event = match self.ends_at.filter(|_| self.is_following) {
                Some(at) => timeout_at(at, next).await.ok()?,
                None => next.await,
            };
            match event {
                // It goes on for ever by itself.
                None => return Some(Err(Refusal::stopping(true))),
                Some(Err(status)) => return Some(Err(refusal(&status))),
                Some(Ok(ReadResponse { event: Some(Event::Batch(batch)) })) => {
                    self.tail = batch.tail.filter(|_| self.is_following);
                    self.pending = batch.records.into_iter();
                    self.has_met = true;
                    self.restart_clock();
                }
                Some(Ok(ReadResponse { event: Some(Event::Heartbeat(heartbeat)) })) => {
                    return self.caught_up(heartbeat);
                }
                Some(Ok(ReadResponse { event: Some(Event::Gap(_)) })) => self.has_met = true,
                Some(Ok(ReadResponse { event: Some(Event::Settled(_)) | None })) => {}
            }
        }
    }

    fn caught_up(&mut self, heartbeat: Heartbeat) -> Option<Result<Output, Refusal>> {
        if !self.extent.may_follow() {
            self.is_over = true;
            let unwritten = Output::Unwritten(heartbeat.tail.unwrap_or_default());
            return (!self.has_met).then_some(Ok(unwritten));
        }
        if !std::mem::replace(&mut self.is_following, true) {
            self.restart_clock();
        }
        if self.extent.wait.is_some_and(|wait| wait.is_zero()) {
            self.is_over = true;
            return None;
        }
        Some(Ok(Output::CaughtUp(heartbeat)))
    }

    fn restart_clock(&mut self) {
        self.ends_at = self.extent.wait.and_then(|wait| Instant::now().checked_add(wait));
    }

    /// The next records that the extent allows; none if it allows no more.
    fn batch(&mut self) -> Option<Output> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.pending.as_slice().first() {
            let size = metered_bytes(next) as u64;
            if !self.extent.allows(records.len() as u64 + 1, bytes + size, next) {
                self.is_over = true;
                break;
            }
            let is_full = records.len() as u64 == BATCH_RECORDS_MAX || bytes + size > BATCH_BYTES_MAX;
            if is_full && !records.is_empty() {
                break;
            }
            bytes += size;
            records.extend(self.pending.next());
        }
        self.extent = self.extent.after(records.len() as u64, bytes);
        self.is_over |= self.extent.is_used_up();
        (!records.is_empty()).then(|| Output::Batch(RecordBatch { records, tail: self.tail }))
    }
}

fn refusal(status: &Status) -> Refusal {
    match error::reason(status) {
        ErrorReason::ServerStopping => Refusal::stopping(true),
        _ => Refusal::of(status),
    }
}
