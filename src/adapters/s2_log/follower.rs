//! Reading: one batch, or a stream of them that first replays and then follows.

use crate::live::{Buffered, Subscription};
use crate::record;
use crate::stream::{Page, Stream};
use continuo_domain::channel::{Position, ReadFrom, ReadStart, Record, SeqNum, Tail};
use continuo_domain::{Error, Result};
use continuo_ports::ReadEvent;
use continuo_ports::channel_store::READ_BATCH_RECORDS_MAX;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use s2_sdk::types as s2;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a read at a start meets.
enum Start {
    /// The records there; the first may lie later than it was asked for.
    Records(Vec<Record>),
    /// The tail.
    Tail(Position),
}

impl Stream {
    /// One batch and the tail it was read under. The token in that tail is the one last known.
    pub(crate) async fn read(&self, from: ReadFrom) -> Result<(Vec<Record>, Tail)> {
        let (records, position) = match self.begin(from).await? {
            Start::Tail(position) => (Vec::new(), position),
            Start::Records(records) => {
                let position = self.check_tail().await?.unwrap_or_default();
                // Deleted in between: what was read is gone.
                let records = if position.seq_num == 0 { Vec::new() } else { records };
                (records, position)
            }
        };
        let earliest = if position.seq_num == 0 { None } else { self.earliest().await? };
        let tail = self.known.lock().as_tail(position);
        Ok((records, Tail { earliest_seq_num: earliest.unwrap_or_default().min(position.seq_num), ..tail }))
    }

    async fn begin(&self, from: ReadFrom) -> Result<Start> {
        let earliest = self.known.lock().earliest();
        let at = match from.start {
            ReadStart::SeqNum(seq_num) => s2::ReadFrom::SeqNum(seq_num.max(earliest)),
            ReadStart::Timestamp(at) => s2::ReadFrom::Timestamp(u64::try_from(at.0).unwrap_or(0)),
            ReadStart::TailOffset(records) => s2::ReadFrom::TailOffset(records),
        };
        let tail = match self.page(at, READ_BATCH_RECORDS_MAX).await? {
            Page::Records(records) => match self.kept(records).await? {
                Page::Records(records) => return Ok(Start::Records(to_ours(records))),
                Page::At(tail) => return Ok(Start::Tail(tail)),
                Page::Missing => Position::default(),
            },
            Page::At(tail) => tail,
            Page::Missing => Position::default(),
        };
        let is_past = match from.start {
            ReadStart::SeqNum(seq_num) => seq_num > tail.seq_num,
            ReadStart::Timestamp(at) => at > tail.timestamp,
            ReadStart::TailOffset(_) => false,
        };
        if is_past && !from.clamp {
            return Err(Error::PastTail { tail_seq_num: tail.seq_num });
        }
        Ok(Start::Tail(tail))
    }

    /// Without what a trim hides already, though S2 still has it.
    async fn kept(&self, mut records: Vec<s2::SequencedRecord>) -> Result<Page> {
        let earliest = self.known.lock().earliest();
        records.retain(|record| record.seq_num >= earliest);
        if records.is_empty() {
            return self.page(s2::ReadFrom::SeqNum(earliest), READ_BATCH_RECORDS_MAX).await;
        }
        Ok(Page::Records(records))
    }
}

fn to_ours(records: Vec<s2::SequencedRecord>) -> Vec<Record> {
    records.into_iter().map(record::from_s2).collect()
}

/// Replays from the start, then follows.
pub(crate) async fn follow(stream: Arc<Stream>, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>> {
    let asked = match from.start {
        ReadStart::SeqNum(seq_num) => Some(seq_num),
        ReadStart::Timestamp(_) | ReadStart::TailOffset(_) => None,
    };
    // Whoever follows waits for the first record in a stream that is there.
    if stream.known.lock().tail().is_none() {
        stream.create().await?;
    }
    let mut follower = Follower {
        stream: stream.clone(),
        ready: VecDeque::new(),
        next: 0,
        last: Position::default(),
        told: None,
        live: None,
        is_over: false,
    };
    match stream.begin(from).await? {
        Start::Records(records) => {
            follower.next = asked.unwrap_or_else(|| records.first().map_or(0, |first| first.seq_num));
            follower.deliver(records.into());
        }
        Start::Tail(tail) => {
            // The first number is asked for now, so that the first event is there at the first look.
            if tail.seq_num > 0 {
                stream.earliest().await?;
            }
            if let Some(requested) = asked.filter(|&requested| requested < tail.seq_num) {
                follower.ready.push_back(ReadEvent::Gap { requested, earliest: tail.seq_num });
            }
            follower.next = tail.seq_num;
            follower.reach(tail);
        }
    }
    let events = stream::unfold(follower, |mut follower| async move {
        if follower.is_over {
            return None;
        }
        let event = follower.event().await;
        follower.is_over = event.is_err();
        Some((event, follower))
    });
    Ok(events.boxed())
}

struct Follower {
    stream: Arc<Stream>,
    ready: VecDeque<ReadEvent>,
    next: SeqNum,
    /// The newest end seen.
    last: Position,
    /// The tail that was told last.
    told: Option<SeqNum>,
    /// From the first time that the tail is reached.
    live: Option<Subscription>,
    is_over: bool,
}

impl Follower {
    async fn event(&mut self) -> Result<ReadEvent> {
        let (deleted, stopping) = (self.stream.deleted.clone(), self.stream.common.stopping.clone());
        tokio::select! {
            biased;
            () = deleted.cancelled() => Err(Error::SessionNotFound),
            () = stopping.cancelled() => Err(Error::Stopping),
            event = self.next_event() => event,
        }
    }

    async fn next_event(&mut self) -> Result<ReadEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.skip_trimmed();
            let buffered = match &self.live {
                Some(live) => live.get(self.next)?,
                None => Buffered::Older,
            };
            match buffered {
                Buffered::Batch(batch) => self.deliver(batch),
                Buffered::Older => self.replay().await?,
                Buffered::Nothing if self.told != Some(self.next) => self.tell(),
                Buffered::Nothing => {
                    if let Some(live) = &mut self.live {
                        live.changed().await;
                    }
                }
            }
        }
    }

    /// A trim that this process knows of counts at once, whatever S2 or the buffer still has.
    fn skip_trimmed(&mut self) {
        let earliest = self.stream.known.lock().earliest();
        if self.next < earliest && self.ready.is_empty() {
            self.ready.push_back(ReadEvent::Gap { requested: self.next, earliest });
            self.next = earliest;
        }
    }

    async fn replay(&mut self) -> Result<()> {
        if !self.ready.is_empty() {
            return Ok(());
        }
        match self.page().await? {
            Page::Records(records) => self.deliver(to_ours(records).into()),
            Page::At(tail) => {
                if tail.seq_num > self.next {
                    self.ready.push_back(ReadEvent::Gap { requested: self.next, earliest: tail.seq_num });
                    self.next = tail.seq_num;
                }
                self.reach(tail);
            }
            Page::Missing => return Err(Error::SessionNotFound),
        }
        Ok(())
    }

    /// What comes next; an S2 that does not answer is asked again, as long as an outage is bridged.
    async fn page(&self) -> Result<Page> {
        let until = Instant::now() + self.stream.common.outage;
        loop {
            match self.stream.page(s2::ReadFrom::SeqNum(self.next), READ_BATCH_RECORDS_MAX).await {
                Err(Error::Unavailable(_)) if Instant::now() < until => sleep(RETRY_PAUSE).await,
                page => return page,
            }
        }
    }

    /// Hands out what of a batch comes next.
    fn deliver(&mut self, batch: Arc<[Record]>) {
        let skipped = batch.partition_point(|record| record.seq_num < self.next);
        let batch: Arc<[Record]> = if skipped == 0 { batch } else { batch[skipped..].into() };
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
        if first.seq_num > self.next {
            self.ready.push_back(ReadEvent::Gap { requested: self.next, earliest: first.seq_num });
        }
        self.next = last.seq_num + 1;
        self.last = Position { seq_num: self.next, timestamp: last.timestamp };
        self.ready.push_back(ReadEvent::Records(batch));
    }

    /// This was the tail a moment ago: what comes after it is read live.
    fn reach(&mut self, tail: Position) {
        self.last = tail;
        if self.live.is_none() {
            self.live = Some(Subscription::new(&self.stream, self.next));
        }
        self.tell();
    }

    fn tell(&mut self) {
        self.told = Some(self.next);
        let position = Position { seq_num: self.next, ..self.last };
        self.ready.push_back(ReadEvent::CaughtUp(self.stream.known.lock().as_tail(position)));
    }
}
