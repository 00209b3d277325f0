//! Claims of part ids.

use super::{int, uint};
use crate::entity::append_claim;
use crate::error::damaged;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction, PartId, Position};
use continuo_domain::claim::{Claim, NewClaim};
use continuo_domain::{Result, SessionId, Timestamp};
use sea_orm::ActiveValue::{NotSet, Set};

/// A channel's name and side in one column.
pub(crate) fn claimed_channel(name: Option<&ChannelName>, direction: Direction) -> String {
    format!("{}/{}", name.map_or("", ChannelName::as_str), direction.as_str())
}

/// Every column but the two that depend on the session: its id, and the lower bound.
pub(crate) fn claim_row(claim: &NewClaim) -> append_claim::ActiveModel {
    append_claim::ActiveModel {
        session_id: NotSet,
        channel: Set(claimed_channel(claim.name.as_ref(), claim.direction)),
        part_id: Set(claim.part_id.as_str().to_owned()),
        is_servers: Set(claim.is_servers),
        digest: Set(claim.digest.to_vec()),
        mark: Set(claim.mark.clone()),
        from_seq_num: NotSet,
        claimed_at_ms: Set(claim.claimed_at.0),
        seq_num: Set(None),
        timestamp_ms: Set(None),
    }
}

/// A claim as another database or log had it.
pub(crate) fn whole_claim_row(claim: &Claim) -> append_claim::ActiveModel {
    append_claim::ActiveModel {
        session_id: Set(claim.channel.session.to_string()),
        channel: Set(claimed_channel(claim.channel.name.as_ref(), claim.channel.direction)),
        part_id: Set(claim.part_id.as_str().to_owned()),
        is_servers: Set(claim.is_servers),
        digest: Set(claim.digest.to_vec()),
        mark: Set(claim.mark.clone()),
        from_seq_num: Set(int(claim.from_seq_num)),
        claimed_at_ms: Set(claim.claimed_at.0),
        seq_num: Set(claim.settled_at.map(|at| int(at.seq_num))),
        timestamp_ms: Set(claim.settled_at.map(|at| at.timestamp.0)),
    }
}

pub(crate) fn claim(row: append_claim::Model) -> Result<Claim> {
    let damage = |what: String| damaged("append_claim", &row.session_id, what);
    let (name, side) = row.channel.split_once('/').ok_or_else(|| damage(format!("channel {}", row.channel)))?;
    let settled_at = row.seq_num.zip(row.timestamp_ms);
    let settled_at = settled_at.map(|(n, ms)| Position { seq_num: uint(n), timestamp: Timestamp(ms) });
    Ok(Claim {
        channel: ChannelKey {
            session: SessionId::parse(&row.session_id).map_err(|e| damage(e.to_string()))?,
            name: match name {
                "" => None,
                name => Some(ChannelName::parse(name).map_err(|e| damage(e.to_string()))?),
            },
            direction: if side == "in" { Direction::In } else { Direction::Out },
        },
        part_id: PartId::parse(&row.part_id).map_err(|e| damage(e.to_string()))?,
        is_servers: row.is_servers,
        digest: row.digest.as_slice().try_into().map_err(|_| damage("digest".to_owned()))?,
        mark: row.mark.clone(),
        from_seq_num: uint(row.from_seq_num),
        claimed_at: Timestamp(row.claimed_at_ms),
        settled_at,
    })
}
