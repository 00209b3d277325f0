//! Pipelined output.

use std::collections::VecDeque;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::context::RunContext;
use super::retry::{Backoff, is_transient, lease_is_over, pause};
use crate::v1::produce_request::Message;
use crate::v1::{ChannelAppend, ChannelRef, NewRecord, Position, ProduceOpen, ProduceRequest, ProduceResponse};

/// Records sent and not yet acknowledged.
const IN_FLIGHT_RECORDS_MAX: usize = 64;
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Writes records to the session's `.out` without waiting for each acknowledgement. What was not acknowledged when a
/// connection broke is sent again under the same part ids, so that every record is there once and in order.
///
/// A writer that is dropped without [`finish`](Self::finish) may leave its last records unwritten.
pub struct OutWriter {
    ctx: RunContext,
    channel: ChannelRef,
    link: Option<Link>,
    unacknowledged: VecDeque<ChannelAppend>,
    unacknowledged_bytes: usize,
    end: Option<Position>,
    backoff: Backoff,
}

struct Link {
    appends: mpsc::Sender<ProduceRequest>,
    acks: Streaming<ProduceResponse>,
}

impl OutWriter {
    pub(super) fn new(ctx: RunContext, channel: ChannelRef) -> Self {
        Self {
            ctx,
            channel,
            link: None,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            end: None,
            backoff: Backoff::new(),
        }
    }

    /// Sends a record; waits only while too much is unacknowledged. An error is about this record or an earlier one.
    pub async fn send(&mut self, record: NewRecord) -> Result<(), Status> {
        while self.is_full() {
            self.acknowledge().await?;
        }
        let part_id = Some(self.ctx.next_part_id());
        let append = ChannelAppend { records: vec![record], part_id, ..Default::default() };
        self.unacknowledged_bytes += append_bytes(&append);
        self.unacknowledged.push_back(append.clone());
        if let Some(link) = &self.link {
            // Never full: the queue has room for all that may be unacknowledged. A closed one is opened again below.
            let _ = link.appends.try_send(append_message(append));
        } else if let Err(status) = self.open().await {
            self.on_error(status).await?;
        }
        self.take_ready_acks().await
    }

    /// Waits until everything sent is durable and readable.
    pub async fn flush(&mut self) -> Result<(), Status> {
        while !self.unacknowledged.is_empty() {
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Waits until everything sent is durable, and closes. Answers with the position after the last record, if any was sent.
    pub async fn finish(mut self) -> Result<Option<Position>, Status> {
        self.flush().await?;
        Ok(self.end)
    }

    fn is_full(&self) -> bool {
        self.unacknowledged.len() >= IN_FLIGHT_RECORDS_MAX || self.unacknowledged_bytes >= IN_FLIGHT_BYTES_MAX
    }

    /// Errors show early if acknowledgements are looked at on the way.
    async fn take_ready_acks(&mut self) -> Result<(), Status> {
        while let Some(link) = &mut self.link {
            match link.acks.message().now_or_never() {
                None => return Ok(()),
                Some(ack) => self.on_ack(ack).await?,
            }
        }
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), Status> {
        let revoked = self.ctx.shared.revoked.clone();
        let Some(link) = &mut self.link else {
            return match self.open().await {
                Ok(()) => Ok(()),
                Err(status) => self.on_error(status).await,
            };
        };
        let ack = tokio::select! {
            biased;
            () = revoked.cancelled() => return Err(lease_is_over()),
            ack = link.acks.message() => ack,
        };
        self.on_ack(ack).await
    }

    async fn on_ack(&mut self, ack: Result<Option<ProduceResponse>, Status>) -> Result<(), Status> {
        match ack {
            Ok(Some(response)) => {
                self.backoff.reset();
                self.end = response.ack.and_then(|ack| ack.end).or(self.end);
                let append = self.unacknowledged.pop_front();
                self.unacknowledged_bytes -= append.as_ref().map_or(0, append_bytes);
                Ok(())
            }
            Ok(None) => self.on_error(Status::unavailable("the server ended the stream")).await,
            Err(status) => self.on_error(status).await,
        }
    }

    /// A broken connection costs a pause, a refusal ends the writer.
    async fn on_error(&mut self, status: Status) -> Result<(), Status> {
        self.link = None;
        if !is_transient(&status) {
            return Err(status);
        }
        pause(&self.ctx.shared.revoked, &mut self.backoff).await
    }

    /// Opens the stream and sends everything unacknowledged first. Called with something to send only: a server may hold
    /// its answer back until then.
    async fn open(&mut self) -> Result<(), Status> {
        let (appends, queue) = mpsc::channel(IN_FLIGHT_RECORDS_MAX + 1);
        let open = Message::Open(ProduceOpen { channel: Some(self.channel.clone()) });
        let first = std::iter::once(ProduceRequest { message: Some(open) });
        for message in first.chain(self.unacknowledged.iter().cloned().map(append_message)) {
            let _ = appends.try_send(message);
        }
        let request = self.ctx.request(ReceiverStream::new(queue));
        let acks = self.ctx.channels().produce(request).await?.into_inner();
        self.link = Some(Link { appends, acks });
        Ok(())
    }
}

fn append_message(append: ChannelAppend) -> ProduceRequest {
    ProduceRequest { message: Some(Message::Append(append)) }
}

fn append_bytes(append: &ChannelAppend) -> usize {
    append.records.iter().map(|record| record.body.len()).sum()
}
