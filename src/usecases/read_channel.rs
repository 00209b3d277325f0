//! Read a channel: replay, then follow, with signs of life, an end when the turn is over, and a typed gap.

use crate::{ChannelTarget, Core};
use continuo_domain::channel::{ChannelKey, Direction, Position, ReadFrom, ReadStart, Record, SeqNum};
use continuo_domain::principal::Principal;
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{Error, Result, Timestamp, Violation};
use continuo_ports::ReadEvent;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest a read may ask to be held without a record.
pub const IDLE_TIMEOUT_MS_MAX: u32 = 600_000;
/// Time between heartbeats of a read that does not say.
pub const HEARTBEAT_MS_DEFAULT: u32 = 10_000;

/// A read as a caller asks for it.
#[derive(Clone, Debug)]
pub struct ReadChannel {
    /// Which channel.
    pub channel: ChannelTarget,
    /// Where to begin.
    pub from: ReadFrom,
    /// A tail offset counts records that are not commands.
    pub skip_commands: bool,
    /// End cleanly after so long without a record, counted from when everything that was there is delivered; 0 never.
    pub idle_timeout_ms: u32,
    /// Time between heartbeats; 0 is the default.
    pub heartbeat_ms: u32,
    /// End when the turn is over.
    pub peek_settled: bool,
}

/// A read under way.
pub struct ChannelRead {
    /// It was decided at the start that the turn is over: what comes is what is there, and then the end.
    pub is_settled: bool,
    /// What happens. Ends by itself as asked, or with `Stopping`.
    pub events: BoxStream<'static, Result<ReadMessage>>,
}

/// What a reader meets.
#[derive(Clone, Debug)]
pub enum ReadMessage {
    /// The position asked for was trimmed away.
    Gap {
        /// Asked for.
        requested: SeqNum,
        /// Comes next.
        earliest: SeqNum,
    },
    /// The next records.
    Records {
        /// At least one.
        records: Arc<[Record]>,
        /// The tail as far as it is known.
        tail: Position,
    },
    /// Nothing new.
    Heartbeat {
        /// The server's time.
        now: Timestamp,
        /// The tail.
        tail: Position,
    },
    /// The end of a settled read.
    Settled {
        /// The tail.
        tail: Position,
    },
}

impl Core {
    /// Opens a read. By external id the session need not exist yet: the read then waits for it, and the caller is checked
    /// again when it is there.
    pub async fn read_channel(&self, caller: &Principal, request: ReadChannel) -> Result<ChannelRead> {
        check(&request)?;
        let row = self.find_session(caller, &request.channel.session).await?;
        Self::check_read(caller, &request.channel, row.as_ref())?;
        match (row, &request.channel.session) {
            (Some(session), _) => self.read_session(&session, &request).await,
            (None, SessionRef::Id(_)) => Err(Error::SessionNotFound),
            (None, SessionRef::External(_)) => self.read_when_it_arrives(caller, request),
        }
    }

    async fn read_session(&self, session: &Session, request: &ReadChannel) -> Result<ChannelRead> {
        let channel = request.channel.key(session);
        let from = self.start_of(&channel, request).await?;
        let may_settle = request.peek_settled && channel.is_reserved() && channel.direction == Direction::Out;
        if may_settle && let Some(tail) = self.settled(session, &channel).await? {
            return Ok(ChannelRead { is_settled: true, events: self.read_to_end(channel, from, tail.position).await? });
        }
        let events = self.ports.channels.follow(&channel, from).await?;
        Ok(ChannelRead { is_settled: false, events: self.with_life_signs(events, Pace::of(request)) })
    }

    async fn start_of(&self, channel: &ChannelKey, request: &ReadChannel) -> Result<ReadFrom> {
        match (request.skip_commands, request.from.start) {
            (true, ReadStart::TailOffset(count)) => Ok(ReadFrom::seq_num(self.nth_newest(channel, count).await?)),
            _ => Ok(request.from),
        }
    }

    /// What is below `end`, then the end. The turn was found to be over under the very tail that is delivered.
    async fn read_to_end(
        &self,
        channel: ChannelKey,
        from: ReadFrom,
        end: Position,
    ) -> Result<BoxStream<'static, Result<ReadMessage>>> {
        let first = self.ports.channels.read(&channel, from).await?.0;
        let gap = match (from.start, first.first()) {
            (ReadStart::SeqNum(requested), Some(r)) if r.seq_num > requested => {
                Some(ReadMessage::Gap { requested, earliest: r.seq_num })
            }
            _ => None,
        };
        let core = self.clone();
        let batches = stream::try_unfold(Some(first), move |batch| {
            let (core, channel) = (core.clone(), channel.clone());
            async move {
                let Some(mut records) = batch else { return Ok(None) };
                records.retain(|r| r.seq_num < end.seq_num);
                let Some(next) = records.last().map(|r| r.seq_num + 1) else {
                    return Ok(Some((ReadMessage::Settled { tail: end }, None)));
                };
                let following = core.ports.channels.read(&channel, ReadFrom::seq_num(next)).await?.0;
                Ok(Some((ReadMessage::Records { records: records.into(), tail: end }, Some(following))))
            }
        });
        Ok(stream::iter(gap.map(Ok)).chain(batches).boxed())
    }

    fn read_when_it_arrives(&self, caller: &Principal, request: ReadChannel) -> Result<ChannelRead> {
        let place = self.signals.arrival_place(&caller.environment)?;
        let (core, caller) = (self.clone(), caller.clone());
        let pace = Pace::of(&request);
        let arriving = async move {
            let session = core.session_arrives(&caller, &request.channel.session).await?;
            drop(place);
            Self::check_read(&caller, &request.channel, Some(&session))?;
            let channel = request.channel.key(&session);
            let from = core.start_of(&channel, &request).await?;
            core.ports.channels.follow(&channel, from).await
        };
        let events = stream::once(arriving).map(|opened| match opened {
            Ok(events) => events,
            Err(error) => stream::once(async { Err(error) }).boxed(),
        });
        let empty = stream::once(async { Ok(ReadEvent::CaughtUp(Default::default())) });
        let events = empty.chain(events.flatten()).boxed();
        Ok(ChannelRead { is_settled: false, events: self.with_life_signs(events, pace) })
    }

    /// Heartbeats on reaching the tail and on the clock while nothing comes, an end after the idle timeout, and a last word
    /// when the node stops.
    pub(crate) fn with_life_signs(
        &self,
        events: BoxStream<'static, Result<ReadEvent>>,
        pace: Pace,
    ) -> BoxStream<'static, Result<ReadMessage>> {
        let life = Life {
            core: self.clone(),
            events,
            pace,
            idle_since: None,
            tail: Position::default(),
            greeted: false,
            over: false,
        };
        stream::unfold(life, |mut life| async move {
            let message = life.next().await?;
            life.over = message.is_err();
            Some((message, life))
        })
        .boxed()
    }
}

/// How often to give a sign of life, and when to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    heartbeat: Duration,
    idle_timeout: Option<Duration>,
}

impl Pace {
    fn of(request: &ReadChannel) -> Self {
        Self::new(request.heartbeat_ms, request.idle_timeout_ms)
    }

    pub(crate) fn new(heartbeat_ms: u32, idle_timeout_ms: u32) -> Self {
        let heartbeat_ms = if heartbeat_ms == 0 { HEARTBEAT_MS_DEFAULT } else { heartbeat_ms.clamp(1_000, 60_000) };
        Self {
            heartbeat: Duration::from_millis(heartbeat_ms.into()),
            idle_timeout: (idle_timeout_ms > 0).then(|| Duration::from_millis(idle_timeout_ms.into())),
        }
    }
}

struct Life {
    core: Core,
    events: BoxStream<'static, Result<ReadEvent>>,
    pace: Pace,
    /// When it had delivered everything there was; nothing while there is more to deliver.
    idle_since: Option<Instant>,
    tail: Position,
    greeted: bool,
    over: bool,
}

impl Life {
    async fn next(&mut self) -> Option<Result<ReadMessage>> {
        if self.over {
            return None;
        }
        let mut quiet_since = Instant::now();
        loop {
            let ends_at = self.idle_since.zip(self.pace.idle_timeout).map(|(since, timeout)| since + timeout);
            let wakes_at = ends_at.unwrap_or(quiet_since + self.pace.heartbeat).min(quiet_since + self.pace.heartbeat);
            let event = tokio::select! {
                biased;
                () = self.core.stopping.cancelled() => return Some(Err(Error::Stopping)),
                event = self.events.next() => event?,
                () = tokio::time::sleep_until(wakes_at) => {
                    if ends_at.is_some_and(|at| at <= Instant::now()) {
                        return None;
                    }
                    return Some(Ok(self.heartbeat()));
                }
            };
            match event {
                Err(error) => return Some(Err(error)),
                Ok(ReadEvent::Gap { requested, earliest }) => {
                    self.idle_since = None;
                    return Some(Ok(ReadMessage::Gap { requested, earliest }));
                }
                Ok(ReadEvent::Records(records)) => return Some(Ok(self.records(records))),
                Ok(ReadEvent::CaughtUp(tail)) => {
                    self.tail = tail.position;
                    self.idle_since.get_or_insert_with(Instant::now);
                    if !std::mem::replace(&mut self.greeted, true) {
                        return Some(Ok(self.heartbeat()));
                    }
                    quiet_since = Instant::now();
                }
            }
        }
    }

    fn records(&mut self, records: Arc<[Record]>) -> ReadMessage {
        self.idle_since = None;
        if let Some(last) = records.last().filter(|r| r.seq_num >= self.tail.seq_num) {
            self.tail = Position { seq_num: last.seq_num + 1, timestamp: last.timestamp };
        }
        ReadMessage::Records { records, tail: self.tail }
    }

    fn heartbeat(&self) -> ReadMessage {
        ReadMessage::Heartbeat { now: self.core.now(), tail: self.tail }
    }
}

fn check(request: &ReadChannel) -> Result<()> {
    if request.idle_timeout_ms > IDLE_TIMEOUT_MS_MAX {
        return Err(Violation::new("idle_timeout_ms", "must be at most 600000").into());
    }
    Ok(())
}
