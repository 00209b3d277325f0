//! `SessionIndex` on ClickHouse, right at once although the table is behind.
//!
//! A list asks three times. First the database for the noted sessions that match: those that the table may not be up with. Then
//! ClickHouse for candidates, every session of which some version matches. Then the database for the truth about the candidates. In
//! this order: what was committed before is noted in the first answer, or its note is gone and the table has it in the second. So
//! nothing is missed; the third question lets nothing through that does not match.
//!
//! Counts and tags take the noted sessions from the database and all others from the newest versions in the table.

use crate::ClickHouse;
use crate::conditions::{Bound, Scope};
use crate::walk::Walk;
use async_trait::async_trait;
use continuo_domain::error::Cause;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{ListFilter, ListPosition, PageFrom};
use continuo_domain::{EnvironmentId, Error, IndexPosition, Result, SessionId, Timestamp};
use continuo_ports::indexed_rows::{IndexedRows, ListOrder};
use continuo_ports::session_index::{Page, SessionIndex, TagCount};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most noted sessions of an environment that a count or the tags can do with. With more, the index is behind by minutes.
pub const NOTED_SESSIONS_MAX: u32 = 10_000;
/// How long a page is looked for, however much of what ClickHouse finds the database refuses.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// Lists of sessions from ClickHouse and what the database knows better.
pub struct ClickHouseIndex {
    pub(crate) clickhouse: ClickHouse,
    pub(crate) rows: Arc<dyn IndexedRows>,
    sql: Arc<dyn SessionIndex>,
    /// One entry for each environment that was asked for.
    tenants: Mutex<HashMap<EnvironmentId, (OrganizationId, ProjectId)>>,
}

impl ClickHouseIndex {
    /// On this table and these rows. `sql` answers until `rows` says that the table is complete. Where ClickHouse does not answer in
    /// time, or the table is too far behind, every question is `Unavailable`.
    pub fn new(clickhouse: ClickHouse, rows: Arc<dyn IndexedRows>, sql: Arc<dyn SessionIndex>) -> Self {
        Self { clickhouse, rows, sql, tenants: Mutex::default() }
    }

    async fn tenant(&self, environment: &EnvironmentId) -> Result<Option<(OrganizationId, ProjectId)>> {
        let known = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(environment).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(tenant) = self.rows.tenant(environment).await? else { return Ok(None) };
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).insert(environment.clone(), tenant.clone());
        Ok(Some(tenant))
    }

    /// A page of a complete table; `None` where it is not.
    async fn page(&self, scope: &Scope<'_>, from: &PageFrom, size: u32) -> Result<Option<Page>> {
        let wanted = size.saturating_add(1);
        let changed = self.rows.changed(scope.environment, scope.filter, from, wanted, scope.now).await?;
        if !changed.state.is_complete {
            return Ok(None);
        }
        let (order, back) = match from {
            PageFrom::Start | PageFrom::After(_) => (ListOrder::NewestFirst, ListOrder::OldestFirst),
            PageFrom::Before(_) => (ListOrder::OldestFirst, ListOrder::NewestFirst),
        };
        let start = |is_inclusive| match from {
            PageFrom::Start => None,
            PageFrom::After(at) | PageFrom::Before(at) => Some(bound(at, is_inclusive)),
        };
        let ahead = Walk { order, start: start(false), noted: changed.sessions, wanted: wanted as usize };
        let beyond = async {
            match start(true) {
                None => Ok(false),
                Some(_) if changed.is_any_beyond => Ok(true),
                start => {
                    let walk = Walk { order: back, start, noted: Vec::new(), wanted: 1 };
                    self.walk(scope, walk).await.map(|found| !found.is_empty())
                }
            }
        };
        let (mut sessions, is_any_beyond) = tokio::try_join!(self.walk(scope, ahead), beyond)?;
        let has_more = sessions.len() > size as usize;
        sessions.truncate(size as usize);
        let (has_older, has_newer) = match order {
            ListOrder::NewestFirst => (has_more, is_any_beyond),
            ListOrder::OldestFirst => (is_any_beyond, has_more),
        };
        if order == ListOrder::OldestFirst {
            sessions.reverse();
        }
        Ok(Some(Page { sessions, has_older, has_newer, as_of: Some(changed.state.as_of) }))
    }

    /// Every noted session of the environment, if the table is complete.
    async fn noted(&self, environment: &EnvironmentId) -> Result<Option<Vec<SessionId>>> {
        let changed = self.rows.changed_ids(environment, NOTED_SESSIONS_MAX + 1).await?;
        if !changed.state.is_complete {
            return Ok(None);
        }
        if changed.ids.len() > NOTED_SESSIONS_MAX as usize {
            let far_behind =
                format!("more than {NOTED_SESSIONS_MAX} changes of {environment} are not in the index yet");
            return Err(Error::Unavailable(Cause::new(far_behind)));
        }
        Ok(Some(changed.ids))
    }
}

#[async_trait]
impl SessionIndex for ClickHouseIndex {
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        size: u32,
        now: Timestamp,
    ) -> Result<Page> {
        let Some(tenant) = self.tenant(environment).await? else {
            return self.sql.list(environment, filter, from, size, now).await;
        };
        let scope = Scope { tenant, environment, filter, now };
        let page = tokio::time::timeout(LIST_TIMEOUT, self.page(&scope, from, size)).await;
        match page.map_err(|late| Error::Unavailable(Cause::new(late)))?? {
            Some(page) => Ok(page),
            None => self.sql.list(environment, filter, from, size, now).await,
        }
    }

    async fn count(&self, environment: &EnvironmentId, filter: &ListFilter, now: Timestamp) -> Result<u64> {
        let Some(tenant) = self.tenant(environment).await? else {
            return self.sql.count(environment, filter, now).await;
        };
        let Some(noted) = self.noted(environment).await? else {
            return self.sql.count(environment, filter, now).await;
        };
        let scope = Scope { tenant, environment, filter, now };
        let (stored, changed) =
            tokio::try_join!(self.clickhouse.count(&scope, &noted), self.rows.count(environment, filter, &noted, now))?;
        Ok(stored + changed)
    }

    async fn tags(&self, environment: &EnvironmentId, prefix: &str, limit: u32) -> Result<Vec<TagCount>> {
        let Some(tenant) = self.tenant(environment).await? else {
            return self.sql.tags(environment, prefix, limit).await;
        };
        let Some(noted) = self.noted(environment).await? else {
            return self.sql.tags(environment, prefix, limit).await;
        };
        // A tag that is not on a noted session has the number that the table says, so only the most used of those can be wanted.
        let changed = self.rows.tags(environment, prefix, &noted).await?;
        let wanted: Vec<_> = changed.iter().map(|count| count.tag.as_str()).collect();
        let limit = limit as usize;
        let stored = self.clickhouse.tags(&tenant, environment, prefix, &noted, &wanted, limit).await?;
        let mut sums: HashMap<String, u64> = HashMap::new();
        for TagCount { tag, sessions } in stored.into_iter().chain(changed) {
            *sums.entry(tag).or_default() += sessions;
        }
        let mut counts: Vec<_> = sums.into_iter().map(|(tag, sessions)| TagCount { tag, sessions }).collect();
        counts.sort_by(|a, b| b.sessions.cmp(&a.sessions).then_with(|| a.tag.cmp(&b.tag)));
        counts.truncate(limit);
        Ok(counts)
    }

    async fn as_of(&self) -> Result<Option<IndexPosition>> {
        let state = self.rows.state().await?;
        Ok(state.is_complete.then_some(state.as_of))
    }

    async fn tip(&self) -> Result<Option<IndexPosition>> {
        let state = self.rows.state().await?;
        if state.is_complete { self.rows.tip().await.map(Some) } else { Ok(None) }
    }
}

fn bound(at: &ListPosition, is_inclusive: bool) -> Bound {
    Bound { created_at: at.created_at, id: at.id.clone(), is_inclusive }
}
