//! `IndexedRows` on Postgres: the notes that a trigger makes in `session_change`, the rows, and how far the slot of the index is.

use crate::entity::{environment, session, session_change};
use crate::error::{damaged, failed};
use crate::list::{Position, newer, not_newer, not_older, older};
use crate::session_index::{TagRow, matching, newest_first, oldest_first, place};
use crate::{Database, SqlStore, convert, sessions};
use async_trait::async_trait;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{ListFilter, PageFrom, Session};
use continuo_domain::{EnvironmentId, IndexPosition, Result, SessionId, Timestamp};
use continuo_ports::indexed_rows::{Changed, ChangedIds, IndexState, IndexedRows, ListOrder};
use continuo_ports::session_index::TagCount;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, JoinType, Order, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, IdenStatic, Iterable, PaginatorTrait,
};
use sea_orm::{QueryFilter, QueryResult, QuerySelect, QueryTrait, Select, Statement};
use std::sync::Arc;

impl SqlStore {
    /// What an index needs that the slot of this name feeds. On Postgres only: SQLite has no log to follow, and no notes.
    pub fn indexed_rows(&self, slot_name: impl Into<String>) -> Arc<dyn IndexedRows> {
        Arc::new(SqlIndexedRows { database: self.database.clone(), slot_name: slot_name.into() })
    }
}

struct SqlIndexedRows {
    database: Database,
    slot_name: String,
}

#[async_trait]
impl IndexedRows for SqlIndexedRows {
    async fn tenant(&self, environment: &EnvironmentId) -> Result<Option<(OrganizationId, ProjectId)>> {
        let select = environment::Entity::find_by_id(environment.as_str());
        let Some(row) = select.one(self.database.readers()).await.map_err(failed)? else { return Ok(None) };
        let unreadable = |error| damaged("environment", environment.as_str(), error);
        let organization = OrganizationId::parse(&row.organization_id).map_err(unreadable)?;
        Ok(Some((organization, ProjectId::parse(&row.project_id).map_err(unreadable)?)))
    }

    async fn state(&self) -> Result<IndexState> {
        let rows = self.rows(&self.with_state(None)).await?;
        rows.first().map_or(Ok(IndexState::default()), state)
    }

    async fn tip(&self) -> Result<IndexPosition> {
        let mut select = self.with_state(None);
        select.expr_as(Expr::cust(TIP), "tip");
        let rows = self.rows(&select).await?;
        let row = rows.first().ok_or_else(|| damaged("the primary", "log", "it has no position"))?;
        Ok(IndexPosition { epoch: state(row)?.as_of.epoch, lsn: unsigned(row, "tip")?.unwrap_or(0) })
    }

    async fn changed(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        limit: u32,
        now: Timestamp,
    ) -> Result<Changed> {
        let matching = matching(DbBackend::Postgres, environment, filter, now);
        let order = if let PageFrom::Before(_) = from { Order::Asc } else { Order::Desc };
        let mut page = noted(matching.clone(), environment, ahead(from), order.clone());
        page.limit(limit.into());
        let mut select = self.with_state(Some(page));
        select.columns(session::Column::iter().map(|column| (Alias::new(ROW), column)));
        select.expr_as(is_any_beyond(matching, environment, from), "is_any_beyond");
        select.order_by((ROW, session::Column::CreatedAtMs), order.clone()).order_by((ROW, session::Column::Id), order);
        let rows = self.rows(&select).await?;
        let Some(first) = rows.first() else {
            return Err(damaged("session_change", environment.as_str(), "no answer"));
        };
        let is_any_beyond = first.try_get("", "is_any_beyond").map_err(failed)?;
        let sessions = rows.iter().filter_map(|row| session_of(row).transpose()).collect::<Result<_>>()?;
        Ok(Changed { state: state(first)?, sessions, is_any_beyond })
    }

    async fn matching(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        order: ListOrder,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>> {
        if ids.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let among = among(matching(DbBackend::Postgres, environment, filter, now), ids);
        let ordered = match order {
            ListOrder::NewestFirst => newest_first(among),
            ListOrder::OldestFirst => oldest_first(among),
        };
        sessions::all(self.database.readers(), ordered.limit(u64::from(limit))).await
    }

    async fn changed_ids(&self, environment: &EnvironmentId, limit: u32) -> Result<ChangedIds> {
        let mut ids = Query::select();
        ids.distinct().column(session_change::Column::SessionId).from(session_change::Entity);
        ids.and_where(session_change::Column::EnvironmentId.eq(environment.as_str())).limit(limit.into());
        let mut select = self.with_state(Some(ids));
        select.column((ROW, session_change::Column::SessionId));
        let rows = self.rows(&select).await?;
        let id = |row: &QueryResult| row.try_get::<Option<String>>("", "session_id").map_err(failed);
        let parse = |text: String| SessionId::parse(&text).map_err(|e| damaged("session_change", &text, e));
        let ids = rows.iter().filter_map(|row| id(row).transpose()).map(|text| parse(text?)).collect::<Result<_>>()?;
        Ok(ChangedIds { state: rows.first().map_or(Ok(IndexState::default()), state)?, ids })
    }

    async fn count(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        now: Timestamp,
    ) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let among = among(matching(DbBackend::Postgres, environment, filter, now), ids);
        among.count(self.database.readers()).await.map_err(failed)
    }

    async fn tags(&self, environment: &EnvironmentId, prefix: &str, ids: &[SessionId]) -> Result<Vec<TagCount>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let values = [joined(ids).into(), environment.as_str().into(), prefix.into()];
        let tags = TagRow::find_by_statement(Statement::from_sql_and_values(DbBackend::Postgres, TAGS, values));
        let rows = tags.all(self.database.readers()).await.map_err(failed)?;
        Ok(rows.into_iter().map(TagRow::count).collect())
    }
}

/// The rows beside the state, which is there even where they are not.
const ROW: &str = "noted_row";

/// What `state` reads. Each is one value, whichever rows stand beside it.
const STATE: [(&str, &str); 4] = [
    ("index_is_complete", "(SELECT is_complete FROM session_replication WHERE slot_name = $1)"),
    ("index_epoch", "(SELECT epoch FROM session_replication WHERE slot_name = $1)"),
    (
        "index_confirmed",
        "(SELECT CAST(confirmed_flush_lsn - '0/0' AS bigint) FROM pg_replication_slots \
         WHERE slot_name = $1 AND database = current_database())",
    ),
    ("index_parked", "(SELECT MIN(version) FROM session_parked WHERE slot_name = $1)"),
];

const TIP: &str = "CAST(pg_current_wal_flush_lsn() - '0/0' AS bigint)";

const TAGS: &str = "SELECT t.value AS tag, COUNT(DISTINCT session.id) AS sessions \
                    FROM session, jsonb_array_elements_text(session.tags) AS t(value) \
                    WHERE session.id = ANY(string_to_array($1, ',')) AND session.environment_id = $2 \
                    AND substr(t.value, 1, length($3)) = $3 GROUP BY t.value";

impl SqlIndexedRows {
    async fn rows(&self, select: &SelectStatement) -> Result<Vec<QueryResult>> {
        let statement = DbBackend::Postgres.build(select);
        self.database.readers().query_all_raw(statement).await.map_err(failed)
    }

    /// The state of the index in every row, beside the rows of a query; one row where there are none.
    fn with_state(&self, rows: Option<SelectStatement>) -> SelectStatement {
        let mut select = Query::select();
        for (name, value) in STATE {
            select.expr_as(Expr::cust_with_values(value, [self.slot_name.as_str()]), name);
        }
        if let Some(rows) = rows {
            let one = Query::select().expr(Expr::val(1)).to_owned();
            select.from_subquery(one, "one").join_subquery(JoinType::LeftJoin, rows, ROW, Expr::cust("TRUE"));
        }
        select
    }
}

fn state(row: &QueryResult) -> Result<IndexState> {
    let is_complete: Option<bool> = row.try_get("", "index_is_complete").map_err(failed)?;
    let epoch = unsigned(row, "index_epoch")?.and_then(|epoch| u8::try_from(epoch).ok()).unwrap_or(0);
    // A slot that is gone has confirmed nothing.
    let confirmed = IndexPosition { epoch, lsn: unsigned(row, "index_confirmed")?.unwrap_or(0) };
    let parked = unsigned(row, "index_parked")?.map(|version| IndexPosition::of_version(version.saturating_sub(1)));
    let as_of = parked.map_or(confirmed, |below| below.min(confirmed));
    Ok(IndexState { is_complete: is_complete.unwrap_or(false), as_of })
}

/// Versions take all 64 bits of a BIGINT.
fn unsigned(row: &QueryResult, column: &str) -> Result<Option<u64>> {
    let value: Option<i64> = row.try_get("", column).map_err(failed)?;
    Ok(value.map(i64::cast_unsigned))
}

fn session_of(row: &QueryResult) -> Result<Option<Session>> {
    if row.try_get::<Option<String>>("", session::Column::Id.as_str()).map_err(failed)?.is_none() {
        return Ok(None);
    }
    let row = session::Model::from_query_result(row, "").map_err(failed)?;
    convert::session(row).map(Some)
}

/// The noted ones of these sessions, in order. The notes are walked in the order of their index and lead to the rows, so that a page
/// costs a page however many notes there are.
fn noted(
    matching: Select<session::Entity>,
    environment: &EnvironmentId,
    range: Option<Expr>,
    order: Order,
) -> SelectStatement {
    use session_change::Column::{CreatedAtMs, EnvironmentId, SessionId};
    let mut notes = Query::select();
    notes.distinct().columns([CreatedAtMs, SessionId]).from(session_change::Entity);
    notes.and_where(EnvironmentId.eq(environment.as_str())).and_where_option(range);
    notes.order_by(CreatedAtMs, order.clone()).order_by(SessionId, order.clone());
    let mut select = matching.into_query();
    let is_its_note = Expr::col(("note", SessionId)).equals((session::Entity, session::Column::Id));
    select.join_subquery(JoinType::InnerJoin, notes, "note", is_its_note);
    select.order_by(("note", CreatedAtMs), order.clone()).order_by(("note", SessionId), order);
    select
}

/// Where a page lies.
fn ahead(from: &PageFrom) -> Option<Expr> {
    let (created_at, id) = (session_change::Column::CreatedAtMs, session_change::Column::SessionId);
    match from {
        PageFrom::Start => None,
        PageFrom::After(position) => Some(older(created_at, id, &place(position))),
        PageFrom::Before(position) => Some(newer(created_at, id, &place(position))),
    }
}

/// The session at the position is the first one to look at: as a rule it is there, as a page ended or began with it.
fn is_any_beyond(matching: Select<session::Entity>, environment: &EnvironmentId, from: &PageFrom) -> Expr {
    let (created_at, id) = (session_change::Column::CreatedAtMs, session_change::Column::SessionId);
    let (position, range): (Position, fn(_, _, &Position) -> Expr) = match from {
        PageFrom::Start => return Expr::cust("FALSE"),
        PageFrom::After(position) => (place(position), not_older),
        PageFrom::Before(position) => (place(position), not_newer),
    };
    let first = |mut select: SelectStatement| {
        Expr::exists(select.clear_selects().expr(Expr::val(1)).clear_order_by().to_owned())
    };
    let at = matching.clone().filter(session::Column::Id.eq(position.id.as_str()));
    let at = first(at.filter(session::Column::CreatedAtMs.eq(position.created_at_ms)).into_query());
    let noted = noted(matching, environment, Some(range(created_at, id, &position)), Order::Asc);
    at.or(first(noted))
}

fn among(matching: Select<session::Entity>, ids: &[SessionId]) -> Select<session::Entity> {
    // One value however many there are: one statement to prepare.
    matching.filter(Expr::cust_with_values("session.id = ANY(string_to_array($1, ','))", [joined(ids)]))
}

/// Ids hold letters, digits and `_`.
fn joined(ids: &[SessionId]) -> String {
    ids.iter().map(SessionId::as_str).collect::<Vec<_>>().join(",")
}
