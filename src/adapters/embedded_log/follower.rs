//! Following a stream. A follower is a future and a place in the stream, no task and no buffer: it takes what the ring
//! has, reads from the log what the ring no longer has, and sleeps at the tail.

use crate::reader::{self, Found};
use crate::ring;
use crate::shared::{Shared, blocking};
use crate::stream::{Following, Stream};
use continuo_domain::channel::{Record, SeqNum};
use continuo_domain::{Error, Result};
use continuo_ports::ReadEvent;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;

struct Follower {
    shared: Arc<Shared>,
    following: Following,
    next: SeqNum,
    /// The reader has been told that it is at the tail.
    caught_up: bool,
    ended: bool,
}

/// What to do next.
enum Step {
    Tell(ReadEvent),
    ReadLog,
    Sleep,
}

/// The events from `next` on.
pub(crate) fn follow(shared: Arc<Shared>, stream: Arc<Stream>, next: SeqNum) -> BoxStream<'static, Result<ReadEvent>> {
    let following = Following::new(stream);
    let follower = Follower { shared, following, next, caught_up: false, ended: false };
    stream::unfold(follower, |mut follower| async move {
        if follower.ended {
            return None;
        }
        let event = follower.next_event().await;
        follower.ended = event.is_err();
        Some((event, follower))
    })
    .boxed()
}

impl Follower {
    async fn next_event(&mut self) -> Result<ReadEvent> {
        loop {
            let stream = self.following.0.clone();
            // Made before the look, so that news between look and sleep is not slept through.
            let news = stream.news.notified();
            match self.look()? {
                Step::Tell(event) => return Ok(event),
                Step::Sleep => news.await,
                Step::ReadLog => {
                    if let Some(records) = self.read_log().await? {
                        return Ok(self.tell(records));
                    }
                }
            }
        }
    }

    fn look(&mut self) -> Result<Step> {
        if self.shared.is_stopped() {
            return Err(Error::Stopping);
        }
        let state = self.following.0.state.lock();
        if state.deleted {
            return Err(Error::SessionNotFound);
        }
        let earliest = state.meta.earliest;
        if self.next < earliest {
            let requested = std::mem::replace(&mut self.next, earliest);
            self.caught_up = false;
            return Ok(Step::Tell(ReadEvent::Gap { requested, earliest }));
        }
        if self.next < state.meta.next_seq {
            let Some(records) = ring::read(&state, self.next) else { return Ok(Step::ReadLog) };
            drop(state);
            return Ok(Step::Tell(self.tell(records)));
        }
        if self.caught_up {
            return Ok(Step::Sleep);
        }
        self.caught_up = true;
        Ok(Step::Tell(ReadEvent::CaughtUp(state.meta.tail())))
    }

    fn tell(&mut self, records: Arc<[Record]>) -> ReadEvent {
        self.next += records.len() as u64;
        self.caught_up = false;
        ReadEvent::Records(records)
    }

    /// `None` if there is something to look at first.
    async fn read_log(&self) -> Result<Option<Arc<[Record]>>> {
        let (shared, stream, next) = (self.shared.clone(), self.following.0.clone(), self.next);
        let found = blocking(move || reader::read(&shared, &stream, next)).await?;
        Ok(match found {
            Found::Records(records) => Some(records.into()),
            Found::Trimmed(_) | Found::Tail => None,
        })
    }
}
