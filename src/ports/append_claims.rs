//! Claims of part ids, for a channel log that does not know them itself.
//!
//! A claim is made before its record goes into the log and settled after the record was followed up. In between it is a
//! debt: whoever finds it old finds out what became of the record and pays. Reads and writes here see every write that was
//! acknowledged before; each method is one atomic step.

use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, PartId, Position};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::{Result, SessionId, Timestamp};

/// What became of a claimed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which claim: its channel,
    pub channel: ChannelKey,
    /// its part id,
    pub part_id: PartId,
    /// and its mark: a claim that was taken over meanwhile is left alone.
    pub mark: String,
    /// Where the record stands.
    pub at: Position,
}

/// Claim rows.
#[async_trait]
pub trait AppendClaims: Send + Sync + 'static {
    /// Claims the part id, or says who has it. One round trip where it is free. (`SessionStore::probe` does the same
    /// together with its own look.) `SessionNotFound` if there is no such session.
    /// A claim that is there unsettled with the same mark is this one, whose answer was lost: it is fresh once more.
    async fn claim(&self, session: &SessionId, claim: NewClaim) -> Result<Claimed>;

    /// The claim of a part id, if there is one.
    async fn claim_of(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<Claim>>;

    /// Puts a new claim in the place of `old`, if that is still there as it was read. False if it is not.
    async fn take_over(&self, old: &Claim, new: NewClaim) -> Result<bool>;

    /// Notes outcomes, all in one round trip. A claim with a part id of a client keeps its outcome; one that the server made
    /// goes. What is repeated, gone or was taken over changes nothing.
    async fn settle(&self, settled: Vec<Settled>) -> Result<()>;

    /// Gives up a claim whose record was not written and never will be. Nothing if the mark is another, or it is settled.
    async fn release(&self, channel: &ChannelKey, part_id: &PartId, mark: &str) -> Result<()>;

    /// Claims that were made before `before` and are not settled, oldest first, at most `limit`.
    async fn unsettled(&self, before: Timestamp, limit: u32) -> Result<Vec<Claim>>;

    /// Forgets the claims of a session's channels. (They go with the session, too.)
    async fn forget(&self, session: &SessionId) -> Result<()>;

    /// The basin that the session's streams are in, as it was pinned when the session was made; `None` if there is no such
    /// session, or it has none.
    async fn basin(&self, session: &SessionId) -> Result<Option<String>>;
}
