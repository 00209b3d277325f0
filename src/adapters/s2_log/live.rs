//! The end of a stream, read once for all followers in this process: a task reads it as it grows and keeps what is new in a
//! bounded buffer. Whoever falls out of that reads from S2 until it has caught up.

use crate::record;
use crate::refusal;
use crate::stream::Stream;
use continuo_domain::channel::{Record, SeqNum};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use futures_util::StreamExt;
use parking_lot::Mutex;
use s2_sdk::types::{ReadFrom, ReadInput, ReadSessionConfig, ReadStart};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// Metered bytes that are kept for followers who are a little late. The newest batch is kept whatever it weighs.
const BUFFER_BYTES_MAX: usize = 4 << 20;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Live {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    followers: usize,
    reader: Option<AbortHandle>,
    batches: VecDeque<Arc<[Record]>>,
    bytes: usize,
    /// What the batches cover.
    start: SeqNum,
    end: SeqNum,
    failure: Option<Error>,
    /// Which reader this is of. One that was told to end may still be about to push.
    reading: u64,
}

/// What the buffer has for a place.
pub(crate) enum Buffered {
    /// The batch that holds it.
    Batch(Arc<[Record]>),
    /// It is the end, or comes later.
    Nothing,
    /// It was let go, or never there.
    Older,
}

impl Default for Live {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

/// One who follows. The reading ends with the last of them.
pub(crate) struct Subscription {
    live: Arc<Live>,
    changed: watch::Receiver<u64>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.live.state.lock();
        state.followers -= 1;
        if state.followers == 0 {
            if let Some(reader) = state.reader.take() {
                reader.abort();
            }
            *state = State { reading: state.reading, ..State::default() };
        }
    }
}

impl Subscription {
    /// Everything from `at` on will come; `at` is not past the tail.
    pub(crate) fn new(stream: &Arc<Stream>, at: SeqNum) -> Self {
        let live = stream.live.clone();
        let changed = live.changed.subscribe();
        let mut state = live.state.lock();
        state.followers += 1;
        if state.reader.is_none() || state.failure.is_some() {
            // Those who followed the failed one and are still there read from S2 until they are here.
            *state = State { followers: state.followers, reading: state.reading + 1, ..State::default() };
            (state.start, state.end) = (at, at);
            let reader = Reader { live: live.clone(), stream: Arc::downgrade(stream), reading: state.reading };
            state.reader = Some(tokio::spawn(reader.run()).abort_handle());
        }
        drop(state);
        Self { live, changed }
    }

    pub(crate) fn get(&self, at: SeqNum) -> Result<Buffered> {
        let state = self.live.state.lock();
        if at < state.start {
            return Ok(Buffered::Older);
        }
        let index = state.batches.partition_point(|batch| batch.last().is_some_and(|last| last.seq_num < at));
        match (state.batches.get(index), &state.failure) {
            (Some(batch), _) => Ok(Buffered::Batch(batch.clone())),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Ok(Buffered::Nothing),
        }
    }

    /// Returns after something came since the last call, or at once.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.changed.changed().await;
    }
}

fn weight(records: &[Record]) -> usize {
    records.iter().map(Record::metered_bytes).sum()
}

struct Reader {
    live: Arc<Live>,
    stream: Weak<Stream>,
    reading: u64,
}

/// Why a session of reading ended.
enum Ended {
    /// The stream is no more.
    Gone,
    /// S2 did not answer, or no longer.
    Cut { cause: Cause, was_open: bool },
}

impl Reader {
    /// Reads until nobody follows. An S2 that does not answer is asked again from where it stopped, for as long as an outage is
    /// bridged; the followers notice nothing but silence.
    async fn run(self) {
        let mut away_since: Option<Instant> = None;
        let mut pause = RECONNECT_PAUSE;
        loop {
            let Some(stream) = self.stream.upgrade() else { return };
            let began = Instant::now();
            let (cause, was_open) = match self.read_session(&stream).await {
                Ended::Gone => return self.fail(Error::SessionNotFound),
                Ended::Cut { cause, was_open } => (cause, was_open),
            };
            // One that opens and breaks at once is no better than one that does not open.
            if was_open && began.elapsed() > RECONNECT_PAUSE_MAX {
                (away_since, pause) = (None, RECONNECT_PAUSE);
            }
            let since = *away_since.get_or_insert_with(Instant::now);
            if since.elapsed() > stream.common.outage {
                warn!(channel = %stream.key, cause = ?cause, "followers end, S2 has been away for too long");
                return self.fail(Error::Unavailable(cause));
            }
            debug!(channel = %stream.key, cause = ?cause, "reads on");
            drop(stream);
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    async fn read_session(&self, stream: &Stream) -> Ended {
        let start = ReadStart::new().with_from(ReadFrom::SeqNum(self.live.state.lock().end));
        let input = ReadInput::new().with_start(start);
        let ended = |error, was_open| match refusal::of_session(error) {
            Ok(()) => Ended::Gone,
            Err(cause) => Ended::Cut { cause, was_open },
        };
        let mut session = match stream.s2.read_session(input, ReadSessionConfig::new()).await {
            Ok(session) => session,
            Err(error) => return ended(error, false),
        };
        while let Some(batch) = session.next().await {
            match batch {
                Ok(batch) => {
                    match stream.is_end(&batch.records).await {
                        Ok(false) => {}
                        Ok(true) => return Ended::Gone,
                        Err(error) => return Ended::Cut { cause: Cause::new(error), was_open: true },
                    }
                    let records: Vec<_> = batch.records.into_iter().map(record::from_s2).collect();
                    stream.saw(&records);
                    self.push(records);
                }
                Err(error) => return ended(error, true),
            }
        }
        Ended::Cut { cause: Cause::new("S2 ended the session of reading"), was_open: true }
    }

    fn push(&self, records: Vec<Record>) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let mut state = self.live.state.lock();
        if state.reading != self.reading {
            return;
        }
        if first.seq_num != state.end {
            // Trimmed before it was read: who stands before the hole asks S2 and is told of it.
            state.batches.clear();
            (state.start, state.bytes) = (first.seq_num, 0);
        }
        state.end = last.seq_num + 1;
        state.bytes += weight(&records);
        state.batches.push_back(records.into());
        while state.bytes > BUFFER_BYTES_MAX && state.batches.len() > 1 {
            let gone = state.batches.pop_front().expect("there are two");
            state.bytes -= weight(&gone);
            state.start = gone.last().map_or(state.start, |last| last.seq_num + 1);
        }
        drop(state);
        self.live.changed.send_modify(|version| *version += 1);
    }

    fn fail(&self, failure: Error) {
        let mut state = self.live.state.lock();
        if state.reading == self.reading {
            state.failure = Some(failure);
        }
        drop(state);
        self.live.changed.send_modify(|version| *version += 1);
    }
}
