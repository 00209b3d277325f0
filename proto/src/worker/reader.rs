//! Follows a channel.

use std::collections::VecDeque;

use tonic::{Status, Streaming};

use super::context::RunContext;
use super::retry::{Backoff, is_transient, lease_is_over, pause};
use crate::v1::read_response::Event;
use crate::v1::read_start::Start;
use crate::v1::{ChannelRef, ReadRequest, ReadResponse, ReadStart, Record};

/// What following a channel brings.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadEvent {
    /// The next record; commands are left out.
    Record(Record),
    /// Everything there is was delivered. Comes at the tail, and again with every sign of life.
    CaughtUp,
    /// Records between the two numbers were trimmed away.
    Gap {
        /// What was asked for.
        requested_seq_num: u64,
        /// What comes next.
        earliest_seq_num: u64,
    },
}

/// A channel from a position on, then live. A connection that breaks is opened again behind the last record: no gap, no
/// repeat. Reads no further than it is asked to.
pub struct ChannelReader {
    ctx: RunContext,
    channel: ChannelRef,
    start: ReadStart,
    stream: Option<Streaming<ReadResponse>>,
    /// At most one batch.
    buffered: VecDeque<ReadEvent>,
    backoff: Backoff,
}

impl ChannelReader {
    pub(super) fn new(ctx: RunContext, channel: ChannelRef, start: ReadStart) -> Self {
        Self { ctx, channel, start, stream: None, buffered: VecDeque::new(), backoff: Backoff::new() }
    }

    /// What comes next. Fails when the lease is over or the server refuses; nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<ReadEvent, Status> {
        loop {
            if let Some(event) = self.buffered.pop_front() {
                return Ok(event);
            }
            match self.receive().await {
                Ok(response) => self.buffer(response),
                Err(status) if is_transient(&status) => {
                    self.stream = None;
                    pause(&self.ctx.shared.revoked, &mut self.backoff).await?;
                }
                Err(status) => return Err(status),
            }
        }
    }

    async fn receive(&mut self) -> Result<ReadResponse, Status> {
        let revoked = self.ctx.shared.revoked.clone();
        tokio::select! {
            biased;
            () = revoked.cancelled() => Err(lease_is_over()),
            response = self.receive_now() => response,
        }
    }

    async fn receive_now(&mut self) -> Result<ReadResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let request =
                    ReadRequest { channel: Some(self.channel.clone()), start: Some(self.start), ..Default::default() };
                let answer = self.ctx.channels().read(self.ctx.request(request)).await?;
                none.insert(answer.into_inner())
            }
        };
        let ended = || Status::unavailable("the server ended the stream");
        stream.message().await?.ok_or_else(ended)
    }

    fn buffer(&mut self, response: ReadResponse) {
        self.backoff.reset();
        match response.event {
            Some(Event::Batch(batch)) => {
                if let Some(last) = batch.records.last() {
                    self.start = from_seq_num(last.seq_num + 1);
                }
                let records = batch.records.into_iter().filter(|record| !is_command(record));
                self.buffered.extend(records.map(ReadEvent::Record));
            }
            Some(Event::Gap(gap)) => {
                self.start = from_seq_num(gap.earliest_seq_num);
                self.buffered.push_back(ReadEvent::Gap {
                    requested_seq_num: gap.requested_seq_num,
                    earliest_seq_num: gap.earliest_seq_num,
                });
            }
            Some(Event::Heartbeat(_) | Event::Settled(_)) => self.buffered.push_back(ReadEvent::CaughtUp),
            None => {}
        }
    }
}

pub(super) fn from_seq_num(seq_num: u64) -> ReadStart {
    ReadStart { start: Some(Start::SeqNum(seq_num)), ..Default::default() }
}

/// Trim and fence: the one header has no name.
fn is_command(record: &Record) -> bool {
    matches!(record.headers.as_slice(), [header] if header.name.is_empty())
}
