//! What the table is asked. Each question has an end: the server gives up first, and if it cannot even say so, so do we.

use crate::ClickHouse;
use crate::conditions::{Bound, Conditions, Scope};
use crate::error::failed;
use clickhouse::query::Query;
use clickhouse::{Row, RowOwned, RowRead};
use continuo_domain::error::Cause;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::indexed_rows::ListOrder;
use continuo_ports::session_index::TagCount;
use serde::Deserialize;
use std::time::Duration;

/// What the server may take for an answer, in seconds.
const EXECUTION_SECONDS_MAX: &str = "10";
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(12);
/// Room for the ids and tags that a question names.
const QUERY_BYTES_MAX: &str = "33554432";

/// Sessions that may match: some version of each does.
pub(crate) struct Candidates {
    /// Nearest first, each once.
    pub(crate) ids: Vec<SessionId>,
    /// Up to where this is all; `None` where there are no more.
    pub(crate) end: Option<(Timestamp, SessionId)>,
}

/// Which versions of a session are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Every one that is there: read in order, up to the limit and no further.
    Any,
    /// The newest one: nothing that was overtaken is found, and the whole environment is read for it.
    Newest,
}

#[derive(Row, Deserialize)]
struct CandidateRow {
    created_at: i64,
    session_id: String,
}

#[derive(Row, Deserialize)]
struct TagRow {
    tag: String,
    sessions: u64,
}

impl ClickHouse {
    /// The sessions of the first `limit` rows that match. A session that matches in its newest version is among them: an older
    /// version that does is one more reason, and merges leave the newest.
    pub(crate) async fn candidates(
        &self,
        scope: &Scope<'_>,
        order: ListOrder,
        bound: Option<&Bound>,
        versions: Versions,
        limit: usize,
    ) -> Result<Candidates> {
        let rows: Vec<CandidateRow> = self.answer(self.candidates_query(scope, order, bound, versions, limit)).await?;
        let is_all = rows.len() < limit;
        let last = rows.last().map(|row| Timestamp(row.created_at));
        let parsed = rows.into_iter().map(|row| SessionId::parse(&row.session_id));
        let mut ids: Vec<_> = parsed.collect::<Result<_>>().map_err(|e| Error::Damaged(Cause::new(e)))?;
        // Versions of a session stand side by side.
        ids.dedup();
        let end = last.zip(ids.last().cloned()).filter(|_| !is_all);
        Ok(Candidates { ids, end })
    }

    /// Without DISTINCT or LIMIT BY: the server reads far beyond the limit for them.
    pub(crate) fn candidates_query(
        &self,
        scope: &Scope<'_>,
        order: ListOrder,
        bound: Option<&Bound>,
        versions: Versions,
        limit: usize,
    ) -> Query {
        let mut conditions = Conditions::matching(scope);
        if let Some(bound) = bound {
            conditions.and_beyond(bound, order);
        }
        let direction = match order {
            ListOrder::NewestFirst => "DESC",
            ListOrder::OldestFirst => "ASC",
        };
        let sql = format!(
            "SELECT created_at, session_id FROM {} WHERE {} \
             ORDER BY created_at {direction}, session_id {direction} LIMIT {limit}",
            self.sessions(versions),
            conditions.sql()
        );
        conditions.bind(self.question(&sql))
    }

    /// How many sessions match, without those.
    pub(crate) async fn count(&self, scope: &Scope<'_>, without: &[SessionId]) -> Result<u64> {
        let mut conditions = Conditions::matching(scope);
        conditions.and_not(without);
        let sql = format!("SELECT count() FROM {} WHERE {}", self.sessions(Versions::Newest), conditions.sql());
        let counts: Vec<u64> = self.answer(conditions.bind(self.question(&sql))).await?;
        counts.first().copied().ok_or_else(|| Error::internal("a count without a row"))
    }

    /// The tags that start with `prefix`, of every session without those: all of `wanted` that are there, and the `limit` most
    /// used ones.
    pub(crate) async fn tags(
        &self,
        tenant: &(OrganizationId, ProjectId),
        environment: &EnvironmentId,
        prefix: &str,
        without: &[SessionId],
        wanted: &[&str],
        limit: usize,
    ) -> Result<Vec<TagCount>> {
        let mut conditions = Conditions::of_tenant(tenant, environment);
        conditions.and_not(without);
        let sql = format!(
            "SELECT arrayJoin(arrayDistinct(tags)) AS tag, count() AS sessions FROM {} WHERE {} \
             GROUP BY tag HAVING startsWith(tag, ?) \
             ORDER BY has(?, tag) DESC, sessions DESC, tag ASC LIMIT {}",
            self.sessions(Versions::Newest),
            conditions.sql(),
            wanted.len() + limit
        );
        let question = conditions.bind(self.question(&sql)).bind(prefix).bind(wanted);
        let rows: Vec<TagRow> = self.answer(question).await?;
        Ok(rows.into_iter().map(|row| TagCount { tag: row.tag, sessions: row.sessions }).collect())
    }

    fn sessions(&self, versions: Versions) -> String {
        let table = self.table("sessions_v1");
        if versions == Versions::Newest { format!("{table} FINAL") } else { table }
    }

    fn question(&self, sql: &str) -> Query {
        let query = self.client.query(sql).with_setting("max_execution_time", EXECUTION_SECONDS_MAX);
        // All versions of a session have one created_at, so they are in one partition.
        query
            .with_setting("do_not_merge_across_partitions_select_final", "1")
            .with_setting("max_query_size", QUERY_BYTES_MAX)
    }

    async fn answer<T: RowOwned + RowRead>(&self, question: Query) -> Result<Vec<T>> {
        let answer = tokio::time::timeout(PATIENCE, question.fetch_all::<T>()).await;
        answer.map_err(|late| Error::Unavailable(Cause::new(late)))?.map_err(failed)
    }
}
