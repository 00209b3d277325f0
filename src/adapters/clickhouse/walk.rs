//! A walk along the list: candidates from ClickHouse, the truth about them from the database, and the sessions that are noted.
//!
//! What it costs: one question to each for a page, whatever its depth. Candidates that the truth refuses (overtaken by a change,
//! deleted) cost further rounds of eight times as many, and from the fourth round on ClickHouse is asked for newest versions only;
//! what is refused then is only what the index is behind by, [`ROUND_MAX`] in a round.

use crate::conditions::{Bound, Scope};
use crate::index::ClickHouseIndex;
use crate::questions::Versions;
use continuo_domain::session::Session;
use continuo_domain::{Result, SessionId, Timestamp};
use continuo_ports::indexed_rows::ListOrder;
use std::cmp::Ordering;
use std::collections::HashSet;

/// Rows beyond two for each session that is wanted: older versions, and a few that are refused, cost no second round.
const SPARE: usize = 14;
/// How many times as many rows the next round asks for.
const GROWTH: usize = 8;
/// Rows of one round.
const ROUND_MAX: usize = 5_000;
/// Rounds that take candidates by any version of them.
const ROUNDS_BY_ANY_VERSION: u32 = 3;

/// From where, which way, and how far.
pub(crate) struct Walk {
    pub(crate) order: ListOrder,
    pub(crate) start: Option<Bound>,
    /// Noted sessions ahead that match, nearest first: all of them, or `wanted`.
    pub(crate) noted: Vec<Session>,
    pub(crate) wanted: usize,
}

impl ClickHouseIndex {
    /// The first `wanted` sessions, nearest first; fewer only where there are no more.
    pub(crate) async fn walk(&self, scope: &Scope<'_>, walk: Walk) -> Result<Vec<Session>> {
        let Walk { order, start: mut bound, noted, wanted } = walk;
        let known: HashSet<SessionId> = noted.iter().map(|session| session.id.clone()).collect();
        let mut found: Vec<Session> = Vec::new();
        let mut size = 2 * wanted + SPARE;
        for round in 0_u32.. {
            let versions = if round < ROUNDS_BY_ANY_VERSION { Versions::Any } else { Versions::Newest };
            let candidates = self.clickhouse.candidates(scope, order, bound.as_ref(), versions, size).await?;
            found.extend(self.truth(scope, order, candidates.ids, &known, wanted - found.len()).await?);
            let Some((created_at, id)) = candidates.end else { break };
            // Up to here everything is known, of both kinds.
            let is_reached = |session: &&Session| compare(order, at(session), (created_at, &id)) != Ordering::Greater;
            if found.len() + noted.iter().filter(is_reached).count() >= wanted {
                break;
            }
            bound = Some(Bound { created_at, id, is_inclusive: false });
            size = (size * GROWTH).min(ROUND_MAX);
        }
        let mut sessions = noted;
        sessions.append(&mut found);
        sessions.sort_by(|a, b| compare(order, at(a), at(b)));
        sessions.truncate(wanted);
        Ok(sessions)
    }

    /// Those of the candidates that match in truth, but for those that are known to.
    async fn truth(
        &self,
        scope: &Scope<'_>,
        order: ListOrder,
        mut ids: Vec<SessionId>,
        known: &HashSet<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>> {
        ids.retain(|id| !known.contains(id));
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.rows.matching(scope.environment, scope.filter, &ids, order, limit, scope.now).await
    }
}

fn at(session: &Session) -> (Timestamp, &SessionId) {
    (session.created_at, &session.id)
}

/// By the pair, in the order of the walk.
fn compare(order: ListOrder, a: (Timestamp, &SessionId), b: (Timestamp, &SessionId)) -> Ordering {
    match order {
        ListOrder::OldestFirst => a.cmp(&b),
        ListOrder::NewestFirst => b.cmp(&a),
    }
}
