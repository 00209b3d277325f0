//! The durable, ordered log behind every channel.

use async_trait::async_trait;
use continuo_domain::channel::{Append, Appended, ChannelKey, ReadFrom, Record, SeqNum, Tail};
use continuo_domain::{Result, SessionId};
use futures_util::stream::BoxStream;
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
    /// Everything below this tail has been delivered. Comes each time the reader has caught up, before it waits.
    CaughtUp(Tail),
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
    /// Appends of one caller that are awaited one after the other keep their order.
    async fn append(&self, channel: &ChannelKey, append: Append) -> Result<Appended>;

    /// Replays from the start, then follows. The stream ends only with an error or by being dropped; it holds at most
    /// one batch, and a slow reader slows nobody: what it missed is read from the store.
    /// `PastTail` for a start beyond the tail without `clamp`.
    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>>;

    /// One batch, at once: the records at `from`, at most [`READ_BATCH_RECORDS_MAX`] and about [`READ_BATCH_BYTES_MAX`],
    /// and the tail they were read under. Empty at the tail. A start that was trimmed away begins at the first record.
    async fn read(&self, channel: &ChannelKey, from: ReadFrom) -> Result<(Vec<Record>, Tail)>;

    /// The end of the channel. A channel that was never written has the default tail.
    async fn tail(&self, channel: &ChannelKey) -> Result<Tail>;

    /// Where the record with this part id stands, if the channel (still) has it.
    async fn part(&self, channel: &ChannelKey, part_id: &continuo_domain::channel::PartId) -> Result<Option<SeqNum>>;

    /// Deletes every channel of the session, durably; their followers end with `SessionNotFound`. Idempotent.
    async fn delete(&self, session: &SessionId) -> Result<()>;
}
