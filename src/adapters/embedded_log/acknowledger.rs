//! The acknowledger: one thread that answers appends and wakes followers once their batch is durable and visible. Apart
//! from the committer, because waking takes time that grows with the number of those who wait: meanwhile the next batch
//! is being written.

use crate::intake::Reply;
use crate::stream::Stream;
use continuo_domain::channel::{Appended, Position};
use std::sync::{Arc, mpsc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What a batch did. How many wait is bounded by the permits they hold.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) answers: Vec<Answer>,
    /// Streams with news for their followers.
    pub(crate) followed: Vec<Arc<Stream>>,
}

/// An answer that is due.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) done: oneshot::Sender<Reply>,
    pub(crate) outcome: Outcome,
    /// Given back with the answer.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Outcome {
    Landed { stream: Arc<Stream>, start: Position, end: Position },
    Refused(Reply),
}

/// The thread. Ends when the committer has.
pub(crate) fn run(finished: &mpsc::Receiver<Finished>) {
    for Finished { answers, followed } in finished {
        for Answer { done, outcome, permit } in answers {
            // A caller that has gone does not need the answer.
            drop(done.send(reply(outcome)));
            drop(permit);
        }
        // After the answers: what wakes up now competes with the writers for the processor.
        for stream in followed {
            stream.news.notify_waiters();
        }
    }
}

fn reply(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Refused(reply) => reply,
        Outcome::Landed { stream, start, end } => {
            let tail = stream.state.lock().meta.position();
            Reply::Done(Appended { start, end, tail, repeated: false, debt: None })
        }
    }
}
