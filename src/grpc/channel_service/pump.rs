//! The writing half of Produce and Attach: takes a client's messages as they come, makes its appends in order, hands out
//! the acknowledgements in order. What queues up behind one append goes into the log together.

use crate::status::of_error;
use continuo_domain::channel::{Appended, NewRecord, SeqNum};
use continuo_domain::principal::Principal;
use continuo_domain::{Error, Result};
use continuo_usecases::{Batch, Core, Producer, StreamAppend};
use futures_util::future::{BoxFuture, FusedFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tonic::Status;

/// Metered bytes after which no further message is read until an append is acknowledged.
const IN_FLIGHT_BYTES_MAX: usize = 10 << 20;
/// Messages after which no further one is read.
pub(crate) const IN_FLIGHT_MAX: usize = 1_024;

/// What a client's message asks for.
pub(crate) enum Step {
    /// An append to its side.
    Append(StreamAppend),
    /// It has read the other side below this number.
    Read(SeqNum),
}

/// Runs until the client has said all and all is acknowledged, until the first refusal, until the client is gone, until its
/// credential has ended, or until the node stops. An append under way is brought to its end in any case; what is queued behind it is not begun.
pub(crate) struct Pump {
    pub(crate) core: Core,
    pub(crate) caller: Principal,
    pub(crate) producer: Producer,
    pub(crate) inbound: BoxStream<'static, Result<Step, Status>>,
    /// The end of the client's credential. What is to be said of it is said by whoever has the answer.
    pub(crate) ended: BoxFuture<'static, ()>,
    pub(crate) acks: mpsc::Sender<Appended>,
}

/// How a message under way ended, and what it weighed.
struct Outcome {
    made: Result<Vec<Appended>>,
    weight: Weight,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    bytes: usize,
    messages: usize,
}

impl Pump {
    pub(crate) async fn run(mut self) -> Result<(), Status> {
        let stopping = self.core.stopping().clone();
        let mut queue = VecDeque::new();
        let mut in_flight = Weight::default();
        let mut last_word = None;
        let mut under_way = futures_util::future::Fuse::<BoxFuture<'static, Outcome>>::terminated();
        loop {
            if under_way.is_terminated() {
                if (&mut self.ended).now_or_never().is_some() {
                    return Ok(());
                }
                match (self.begin(&mut queue), last_word.take()) {
                    (Some(begun), last) => (under_way, last_word) = (begun.fuse(), last),
                    (None, Some(last)) => return last,
                    (None, None) => {}
                }
            }
            let has_room = in_flight.bytes < IN_FLIGHT_BYTES_MAX && in_flight.messages < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                outcome = &mut under_way => {
                    in_flight.bytes -= outcome.weight.bytes;
                    in_flight.messages -= outcome.weight.messages;
                    for appended in outcome.made.map_err(of_error)? {
                        if self.acknowledge(appended).await?.is_gone() {
                            return Ok(());
                        }
                    }
                }
                () = stopping.cancelled() => {
                    self.finish(under_way).await?;
                    return Err(of_error(Error::Stopping));
                }
                () = &mut self.ended => return self.finish(under_way).await,
                () = self.acks.closed() => return self.finish(under_way).await,
                message = self.inbound.next(), if has_room && last_word.is_none() => match message {
                    Some(Ok(step)) => {
                        let weight = step.weight();
                        in_flight.bytes += weight.bytes;
                        in_flight.messages += weight.messages;
                        queue.push_back(step);
                    }
                    Some(Err(status)) => last_word = Some(Err(status)),
                    None => last_word = Some(Ok(())),
                },
            }
        }
    }

    /// The next thing to do, together with what can go along.
    fn begin(&self, queue: &mut VecDeque<Step>) -> Option<BoxFuture<'static, Outcome>> {
        let first = queue.pop_front()?;
        let mut weight = first.weight();
        match first {
            Step::Append(first) => {
                let mut batch = Batch::of(first);
                while let Some(next) = queue.pop_front_if(|s| matches!(s, Step::Append(next) if batch.takes(next))) {
                    weight.add(next.weight());
                    if let Step::Append(next) = next {
                        batch.add(next);
                    }
                }
                let producer = self.producer.clone();
                Some(async move { Outcome { made: producer.append(batch).await, weight } }.boxed())
            }
            Step::Read(mut seq_num) => {
                while let Some(next) = queue.pop_front_if(|s| matches!(s, Step::Read(_))) {
                    weight.add(next.weight());
                    if let Step::Read(later) = next {
                        seq_num = seq_num.max(later);
                    }
                }
                let (core, caller) = (self.core.clone(), self.caller.clone());
                let note = async move { core.note_read(&caller, seq_num).await.map(|()| Vec::new()) };
                Some(async move { Outcome { made: note.await, weight } }.boxed())
            }
        }
    }

    /// Hands out an acknowledgement; waits for a client that is slow to read, but not while the node stops and not beyond the
    /// end of its credential.
    async fn acknowledge(&mut self, appended: Appended) -> Result<Listener, Status> {
        tokio::select! {
            biased;
            sent = self.acks.send(appended) => Ok(if sent.is_ok() { Listener::There } else { Listener::Gone }),
            () = self.core.stopping().cancelled() => Err(of_error(Error::Stopping)),
            () = &mut self.ended => Ok(Listener::Gone),
        }
    }

    /// The end of what is under way, acknowledged as far as there is room.
    async fn finish(self, under_way: futures_util::future::Fuse<BoxFuture<'static, Outcome>>) -> Result<(), Status> {
        if under_way.is_terminated() {
            return Ok(());
        }
        for appended in under_way.await.made.map_err(of_error)? {
            if self.acks.try_send(appended).is_err() {
                break;
            }
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum Listener {
    There,
    Gone,
}

impl Listener {
    fn is_gone(&self) -> bool {
        *self == Self::Gone
    }
}

impl Step {
    fn weight(&self) -> Weight {
        let bytes = match self {
            Self::Append(append) => append.append.records.iter().map(NewRecord::metered_bytes).sum(),
            Self::Read(_) => 0,
        };
        Weight { bytes, messages: 1 }
    }
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
    }
}
