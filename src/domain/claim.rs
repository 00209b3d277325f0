//! Claims: what an append leaves in the database before its record goes into a log that cannot tell repeats by itself.

use crate::channel::{ChannelKey, ChannelName, Direction, PartId, Position, SeqNum};
use crate::{SessionId, Timestamp};

/// A claim to be made, before the session of the channel is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClaim {
    /// `None` is the reserved pair.
    pub name: Option<ChannelName>,
    /// Which side.
    pub direction: Direction,
    /// The part id; the server's own where the client gave none.
    pub part_id: PartId,
    /// The server made the part id: nobody will repeat it, and its claim goes when it is settled.
    pub is_servers: bool,
    /// SHA-256 of the record, to tell a repeat from another record under the same part id.
    pub digest: [u8; 32],
    /// What marks the record in the log; unique.
    pub mark: String,
    /// On the channel of this session the record stands here or later: the writer knows of that one only. A claim that comes
    /// to stand on another session's channel begins at 0, as one without.
    pub from: Option<(SessionId, SeqNum)>,
    /// When.
    pub claimed_at: Timestamp,
}

impl NewClaim {
    /// The claim on a session's channel.
    pub fn of(self, session: &SessionId) -> Claim {
        let from_seq_num = self.from.filter(|(known, _)| known == session).map_or(0, |(_, seq_num)| seq_num);
        Claim {
            channel: ChannelKey { session: session.clone(), name: self.name, direction: self.direction },
            part_id: self.part_id,
            is_servers: self.is_servers,
            digest: self.digest,
            mark: self.mark,
            from_seq_num,
            claimed_at: self.claimed_at,
            settled_at: None,
        }
    }
}

/// A claim as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where.
    pub channel: ChannelKey,
    /// The part id.
    pub part_id: PartId,
    /// Made by the server.
    pub is_servers: bool,
    /// SHA-256 of the record.
    pub digest: [u8; 32],
    /// What marks the record in the log.
    pub mark: String,
    /// The record stands here or later.
    pub from_seq_num: SeqNum,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// Where the record stands, once that is noted.
    pub settled_at: Option<Position>,
}

/// What a claim met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The part id was free, and is claimed now.
    Fresh(Claim),
    /// It was claimed before.
    Known(Claim),
}
