//! The durable, ordered log behind every channel.

use async_trait::async_trait;
use continuo_domain::channel::{
    Append, Appended, ChannelKey, ChannelName, Debt, Direction, FencingToken, Position, ReadFrom, Record, SeqNum, Tail,
};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::id::OrganizationId;
use continuo_domain::{Result, SessionId, Timestamp};
use futures_util::stream::BoxStream;
use std::fmt;
use std::sync::Arc;

/// A batch ends at so many records, or at [`READ_BATCH_BYTES_MAX`], whichever comes first.
pub const READ_BATCH_RECORDS_MAX: usize = 1_000;
/// Metered bytes after which a batch ends. One record may exceed it alone.
pub const READ_BATCH_BYTES_MAX: usize = 1_048_576;

/// What a follower meets, in order.
#[derive(Clone, Debug)]
pub enum ReadEvent {
    /// The number asked for, or the one a slow reader had come to, was trimmed away; reading goes on at `earliest`.
    Gap {
        /// The number that would have come next.
        requested: SeqNum,
        /// The first number there is.
        earliest: SeqNum,
    },
    /// The next records, without gaps between them. Shared between the readers of a stream.
    Records(Arc<[Record]>),
    /// Everything below this tail has been delivered. Comes each time the reader has caught up, before it waits. Its fencing
    /// token is the one last known.
    CaughtUp(Tail),
}

/// A record that is durable and that nobody is known to have followed up: its writer's process may have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedAppend {
    /// Where it is.
    pub channel: ChannelKey,
    /// The record.
    pub at: Position,
    /// For `followed_up`.
    pub debt: Debt,
}

/// A channel that was written, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenChannel {
    /// Which.
    pub channel: ChannelKey,
    /// The number that the next record gets, at least 1, and the newest one's time.
    pub tail: Position,
    /// The first record there is; the tail's number where all were trimmed.
    pub earliest_seq_num: SeqNum,
}

/// Which of the channels that were written a list is to have.
#[derive(Clone, Copy)]
pub struct WrittenPage<'a> {
    /// Those behind this one; all of them without.
    pub after: Option<&'a ChannelKey>,
    /// At most so many.
    pub limit: usize,
    /// Those that this picks. Asked of names before anything else is asked about them.
    pub wanted: &'a (dyn Fn(&ChannelKey) -> bool + Send + Sync),
}

impl WrittenPage<'_> {
    /// Is this one of them, if it was written?
    pub fn has(&self, channel: &ChannelKey) -> bool {
        self.after.is_none_or(|after| channel > after) && (self.wanted)(channel)
    }
}

impl fmt::Debug for WrittenPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenPage").field("after", &self.after).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A log per channel. Channels come into being with their first append; a channel that was never written reads as empty.
///
/// Ordering: the records of one channel are totally ordered by `seq_num`, from 0 and without gaps; commands take numbers
/// too; numbers are never used again, also not after a trim. Timestamps never fall, also across restarts.
/// Durability: what `append` acknowledged survives power loss, and no reader sees a record before it is durable.
#[async_trait]
pub trait ChannelStore: Send + Sync + 'static {
    /// Returns once all records are durable and readable; their numbers are then final.
    ///
    /// Checked in this order, each without side effect: limits (`Append::check`); a known part id, which gives the first
    /// outcome if the record is the same (waiting for it if it is still under way) and `PartIdReused` if not;
    /// `fencing_token` (`Fenced`); `match_seq_num`, compared with the number the first record would really get
    /// (`SeqNumMismatch`). `OutcomeUnknown` is returned where durability is not known; such an append may appear later.
    /// Commands take effect with their append: a fence counts for every append ordered after it.
    /// The claim that comes along (`Append::claimed`) is the store's from here on: an append that is refused gives it up.
    /// Appends of one caller that are awaited one after the other keep their order.
    async fn append(&self, channel: &ChannelKey, append: Append) -> Result<Appended>;

    /// Replays from the start, then follows. The stream ends only with an error or by being dropped; it holds at most
    /// one batch, and a slow reader slows nobody: what it missed is read from the store.
    /// `PastTail` for a start beyond the tail without `clamp`.
    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>>;

    /// One batch, at once: the records at `from`, at most [`READ_BATCH_RECORDS_MAX`] and about [`READ_BATCH_BYTES_MAX`],
    /// and the tail they were read under. Empty at the tail. A start that was trimmed away begins at the first record.
    /// The tail's fencing token is the one last known; `tail` tells the one in force.
    async fn read(&self, channel: &ChannelKey, from: ReadFrom) -> Result<(Vec<Record>, Tail)>;

    /// The end of the channel. A channel that was never written has the default tail.
    async fn tail(&self, channel: &ChannelKey) -> Result<Tail>;

    /// The channels of a session that were written, a command being enough, also where everything was trimmed since. Ordered
    /// by `ChannelKey`: the reserved pair, then the named ones by name and side. Fewer than the page's limit only at the end
    /// of the list; none for a session that has none. What was acknowledged before the call is there; each channel's numbers
    /// are those that `tail` would have told at some moment during it.
    async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>>;

    /// A fencing token that was in force lately, of a channel that has records, if the store has it at hand. Good for the
    /// condition of an append and for nothing else: another process may have raised the fence, and `append` tells.
    fn fencing_token_hint(&self, _channel: &ChannelKey) -> Option<FencingToken> {
        None
    }

    /// Where the record with this part id stands, if the channel (still) has it.
    async fn part(&self, channel: &ChannelKey, part_id: &continuo_domain::channel::PartId) -> Result<Option<SeqNum>>;

    /// The claim this append wants to be made before it, by a store that cannot tell repeats by itself; `None` from one that
    /// can. Made by the caller together with its look at the session (`SessionStore::probe`), it saves a round trip; an
    /// append that comes without gets one of its own. `session` is a guess at whose channel it will be: the claim's
    /// lower bound (`NewClaim::from`) names it, and counts for no other.
    fn claim(
        &self,
        _session: Option<&SessionId>,
        _name: Option<&ChannelName>,
        _direction: Direction,
        _append: &Append,
        _now: Timestamp,
    ) -> Option<NewClaim> {
        None
    }

    /// Gives up a claim that no append will follow. Nothing is waited for; what is lost here ends as a debt that nobody owes.
    fn abandon(&self, _claimed: Claimed) {}

    /// Whoever waits for the record has been woken, and a run made sure of: the debt is paid. Nothing is waited for; one that
    /// is lost is paid again.
    fn followed_up(&self, _debt: Debt) {}

    /// Appends whose debts are older than `before`, by any process: finds out what became of each, and names those whose
    /// record is in the log. None from a store that is of one process: that one looks at everything when it starts.
    async fn owed(&self, _before: Timestamp, _limit: u32) -> Result<Vec<OwedAppend>> {
        Ok(Vec::new())
    }

    /// Where the streams of a new session of this organization will be; pinned on its row.
    fn basin(&self, _organization: &OrganizationId) -> Option<String> {
        None
    }

    /// Do appends of other processes go on when this one ends? Then the debts tell what is left to do, and nobody has to
    /// look at every session.
    fn is_shared(&self) -> bool {
        false
    }

    /// Deletes every channel of the session, durably; their followers end with `SessionNotFound`. Idempotent.
    async fn delete(&self, session: &SessionId) -> Result<()>;
}
