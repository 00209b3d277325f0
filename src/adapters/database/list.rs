//! What lists have in common: newest first by (created_at, id), and any-of filters on a column of tags.

use crate::error::failed;
use continuo_domain::Result;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select};

/// A place in the order (created_at, id).
pub(crate) struct Position {
    pub(crate) created_at_ms: i64,
    pub(crate) id: String,
}

/// Where a page begins, and which way it goes.
pub(crate) enum From {
    /// At the newest row.
    Start,
    /// Below the position.
    After(Position),
    /// Above the position.
    Before(Position),
}

/// A page of rows, newest first.
pub(crate) struct Rows<M> {
    pub(crate) rows: Vec<M>,
    pub(crate) has_older: bool,
    pub(crate) has_newer: bool,
}

/// Reads a page of the rows that match: a range of an index by (created_at, id), and a look to the other side.
pub(crate) async fn page<C: ConnectionTrait, E: EntityTrait>(
    connection: &C,
    matching: Select<E>,
    (created_at, id): (E::Column, E::Column),
    from: From,
    size: u32,
) -> Result<Rows<E::Model>> {
    let newest_first = |select: Select<E>| select.order_by_desc(created_at).order_by_desc(id);
    let oldest_first = |select: Select<E>| select.order_by_asc(created_at).order_by_asc(id);
    match from {
        From::Start => {
            let (rows, has_older) = take(connection, newest_first(matching), size).await?;
            Ok(Rows { rows, has_older, has_newer: false })
        }
        From::After(position) => {
            let above = matching.clone().filter(not_older(created_at, id, &position));
            let below = newest_first(matching.filter(older(created_at, id, &position)));
            let (rows, has_older) = take(connection, below, size).await?;
            Ok(Rows { rows, has_older, has_newer: is_any(connection, oldest_first(above), id).await? })
        }
        From::Before(position) => {
            let below = matching.clone().filter(not_newer(created_at, id, &position));
            let above = oldest_first(matching.filter(newer(created_at, id, &position)));
            let (mut rows, has_newer) = take(connection, above, size).await?;
            rows.reverse();
            Ok(Rows { rows, has_newer, has_older: is_any(connection, newest_first(below), id).await? })
        }
    }
}

/// At most `size` rows, and whether there are more: one row beyond the page tells, and is dropped.
async fn take<C: ConnectionTrait, E: EntityTrait>(
    connection: &C,
    select: Select<E>,
    size: u32,
) -> Result<(Vec<E::Model>, bool)> {
    let mut rows = select.limit(u64::from(size) + 1).all(connection).await.map_err(failed)?;
    let has_more = rows.len() > size as usize;
    rows.truncate(size as usize);
    Ok((rows, has_more))
}

async fn is_any<C: ConnectionTrait, E: EntityTrait>(connection: &C, select: Select<E>, id: E::Column) -> Result<bool> {
    let first = select.select_only().column(id).limit(1).into_tuple::<String>();
    first.one(connection).await.map(|id| id.is_some()).map_err(failed)
}

/// Rows strictly older than the position. One comparison of pairs, so that both databases walk the index.
pub(crate) fn older(created_at: impl ColumnTrait, id: impl ColumnTrait, position: &Position) -> Expr {
    pair(created_at, id).lt(values(position))
}

/// Rows strictly newer than the position.
pub(crate) fn newer(created_at: impl ColumnTrait, id: impl ColumnTrait, position: &Position) -> Expr {
    pair(created_at, id).gt(values(position))
}

/// The row at the position and newer ones.
pub(crate) fn not_older(created_at: impl ColumnTrait, id: impl ColumnTrait, position: &Position) -> Expr {
    pair(created_at, id).gte(values(position))
}

/// The row at the position and older ones.
pub(crate) fn not_newer(created_at: impl ColumnTrait, id: impl ColumnTrait, position: &Position) -> Expr {
    pair(created_at, id).lte(values(position))
}

/// Rows with any of the tags. `column` is a JSON list, spelled with its table.
pub(crate) fn any_tag(backend: DbBackend, column: &'static str, tags: &[String]) -> Condition {
    if backend == DbBackend::Postgres {
        let has = |tag: &String| Expr::cust_with_values(format!("{column} @> $1"), [serde_json::json!([tag])]);
        return tags.iter().fold(Condition::any(), |any, tag| any.add(has(tag)));
    }
    let marks = vec!["?"; tags.len()].join(", ");
    let sql = format!("EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN ({marks}))");
    Condition::all().add(Expr::cust_with_values(sql, tags.iter().map(String::as_str)))
}

fn pair(created_at: impl ColumnTrait, id: impl ColumnTrait) -> Expr {
    Expr::tuple([Expr::col(created_at.as_column_ref()), Expr::col(id.as_column_ref())])
}

fn values(position: &Position) -> Expr {
    Expr::tuple([Expr::val(position.created_at_ms), Expr::val(position.id.as_str())])
}
