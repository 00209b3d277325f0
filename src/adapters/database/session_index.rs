//! `SessionIndex` on SQL: never behind. A page is a range of the index (environment, created_at, id).

use crate::entity::session::{self, Column};
use crate::error::failed;
use crate::list::{Position, any_tag, newer, not_newer, not_older, older};
use crate::{SqlStore, sessions};
use async_trait::async_trait;
use continuo_domain::session::{ListFilter, ListPosition, PageFrom, Session, SessionStatus};
use continuo_domain::{EnvironmentId, IndexPosition, Result, Timestamp};
use continuo_ports::session_index::{Page, SessionIndex, TagCount};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, PaginatorTrait};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select, Statement};

#[async_trait]
impl SessionIndex for SqlStore {
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        size: u32,
        now: Timestamp,
    ) -> Result<Page> {
        let snapshot = self.database.list_snapshot().await?;
        let matching = matching(snapshot.get_database_backend(), environment, filter, now);
        let (created_at, id) = (Column::CreatedAtMs, Column::Id);
        match from {
            PageFrom::Start => {
                let (sessions, has_older) = take(&snapshot, newest_first(matching), size).await?;
                Ok(Page { sessions, has_older, has_newer: false, as_of: None })
            }
            PageFrom::After(position) => {
                let position = place(position);
                let above = matching.clone().filter(not_older(created_at, id, &position));
                let below = newest_first(matching.filter(older(created_at, id, &position)));
                let (sessions, has_older) = take(&snapshot, below, size).await?;
                Ok(Page { sessions, has_older, has_newer: is_any(&snapshot, oldest_first(above)).await?, as_of: None })
            }
            PageFrom::Before(position) => {
                let position = place(position);
                let below = matching.clone().filter(not_newer(created_at, id, &position));
                let above = oldest_first(matching.filter(newer(created_at, id, &position)));
                let (mut sessions, has_newer) = take(&snapshot, above, size).await?;
                sessions.reverse();
                Ok(Page { sessions, has_newer, has_older: is_any(&snapshot, newest_first(below)).await?, as_of: None })
            }
        }
    }

    async fn count(&self, environment: &EnvironmentId, filter: &ListFilter, now: Timestamp) -> Result<u64> {
        let matching = matching(self.database.backend(), environment, filter, now);
        let counted = match self.database.fresh_replica().await? {
            Some(replica) => matching.count(&replica).await,
            None => matching.count(self.database.readers()).await,
        };
        counted.map_err(failed)
    }

    async fn tags(&self, environment: &EnvironmentId, prefix: &str, limit: u32) -> Result<Vec<TagCount>> {
        let tags = tags(self.database.backend(), environment, prefix, limit);
        Ok(self.database.list_rows(tags).await?.into_iter().map(TagRow::count).collect())
    }

    async fn as_of(&self) -> Result<Option<IndexPosition>> {
        Ok(None)
    }

    async fn tip(&self) -> Result<Option<IndexPosition>> {
        Ok(None)
    }
}

pub(crate) fn place(position: &ListPosition) -> Position {
    Position { created_at_ms: position.created_at.0, id: position.id.to_string() }
}

pub(crate) fn newest_first(select: Select<session::Entity>) -> Select<session::Entity> {
    select.order_by_desc(Column::CreatedAtMs).order_by_desc(Column::Id)
}

pub(crate) fn oldest_first(select: Select<session::Entity>) -> Select<session::Entity> {
    select.order_by_asc(Column::CreatedAtMs).order_by_asc(Column::Id)
}

/// At most `size` rows, and whether there are more: one row beyond the page tells, and is dropped.
async fn take<C: ConnectionTrait>(
    connection: &C,
    select: Select<session::Entity>,
    size: u32,
) -> Result<(Vec<Session>, bool)> {
    let mut sessions = sessions::all(connection, select.limit(u64::from(size) + 1)).await?;
    let has_more = sessions.len() > size as usize;
    sessions.truncate(size as usize);
    Ok((sessions, has_more))
}

async fn is_any<C: ConnectionTrait>(connection: &C, select: Select<session::Entity>) -> Result<bool> {
    let first = select.select_only().column(Column::Id).limit(1).into_tuple::<String>();
    first.one(connection).await.map(|id| id.is_some()).map_err(failed)
}

/// Every filter narrows; within one filter any value will do.
pub(crate) fn matching(
    backend: DbBackend,
    environment: &EnvironmentId,
    filter: &ListFilter,
    now: Timestamp,
) -> Select<session::Entity> {
    let mut all = Condition::all().add(Column::EnvironmentId.eq(environment.as_str()));
    if !filter.types.is_empty() {
        all = all.add(Column::SessionType.is_in(&filter.types));
    }
    if !filter.task_identifiers.is_empty() {
        all = all.add(Column::TaskIdentifier.is_in(&filter.task_identifiers));
    }
    if !filter.tags.is_empty() {
        all = all.add(any_tag(backend, "session.tags", &filter.tags));
    }
    if let Some(name) = &filter.external_id {
        all = all.add(Column::ExternalId.eq(name));
    }
    if !filter.statuses.is_empty() {
        let any = filter.statuses.iter().fold(Condition::any(), |any, status| any.add(has_status(*status, now)));
        all = all.add(any);
    }
    if let Some(from) = filter.created_from {
        all = all.add(Column::CreatedAtMs.gte(from.0));
    }
    if let Some(to) = filter.created_to {
        all = all.add(Column::CreatedAtMs.lte(to.0));
    }
    session::Entity::find().filter(all)
}

/// `Session::status` as a condition.
fn has_status(status: SessionStatus, now: Timestamp) -> Condition {
    let (closed, expires) = (Column::ClosedAtMs, Column::ExpiresAtMs);
    match status {
        SessionStatus::Closed => Condition::all().add(closed.is_not_null()),
        SessionStatus::Expired => Condition::all().add(closed.is_null()).add(expires.lte(now.0)),
        SessionStatus::Active => {
            Condition::all().add(closed.is_null()).add(Condition::any().add(expires.is_null()).add(expires.gt(now.0)))
        }
    }
}

#[derive(FromQueryResult)]
pub(crate) struct TagRow {
    tag: String,
    sessions: i64,
}

impl TagRow {
    pub(crate) fn count(self) -> TagCount {
        TagCount { tag: self.tag, sessions: u64::try_from(self.sessions).unwrap_or(0) }
    }
}

/// Walks the tags of the environment: a question for dashboards, not for every request. The prefix is compared exactly,
/// which LIKE does not do on SQLite.
fn tags(backend: DbBackend, environment: &EnvironmentId, prefix: &str, limit: u32) -> Statement {
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT t.value AS tag, COUNT(DISTINCT session.id) AS sessions \
             FROM session, jsonb_array_elements_text(session.tags) AS t(value) \
             WHERE session.environment_id = $1 AND substr(t.value, 1, length($2)) = $2 \
             GROUP BY t.value ORDER BY sessions DESC, t.value COLLATE \"C\" ASC LIMIT $3"
        }
        _ => {
            "SELECT t.value AS tag, COUNT(DISTINCT session.id) AS sessions \
             FROM session, json_each(session.tags) AS t \
             WHERE session.environment_id = ?1 AND substr(t.value, 1, length(?2)) = ?2 \
             GROUP BY t.value ORDER BY sessions DESC, tag ASC LIMIT ?3"
        }
    };
    let values = [environment.as_str().into(), prefix.into(), i64::from(limit).into()];
    Statement::from_sql_and_values(backend, sql, values)
}
