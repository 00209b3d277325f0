//! What lists have in common: newest first by (created_at, id), and any-of filters on a column of tags.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, DbBackend};

/// A place in the order (created_at, id).
pub(crate) struct Position {
    pub(crate) created_at_ms: i64,
    pub(crate) id: String,
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
pub(crate) fn any_tag(backend: DbBackend, column: &'static str, tags: &[String]) -> Expr {
    let marks = |numbered: bool| {
        let mark = |i: usize| if numbered { format!("${}", i + 1) } else { "?".to_owned() };
        (0..tags.len()).map(mark).collect::<Vec<_>>().join(", ")
    };
    let sql = match backend {
        DbBackend::Postgres => format!("jsonb_exists_any({column}, ARRAY[{}])", marks(true)),
        _ => format!("EXISTS (SELECT 1 FROM json_each({column}) WHERE value IN ({}))", marks(false)),
    };
    Expr::cust_with_values(sql, tags.iter().map(String::as_str))
}

fn pair(created_at: impl ColumnTrait, id: impl ColumnTrait) -> Expr {
    Expr::tuple([Expr::col(created_at.as_column_ref()), Expr::col(id.as_column_ref())])
}

fn values(position: &Position) -> Expr {
    Expr::tuple([Expr::val(position.created_at_ms), Expr::val(position.id.as_str())])
}
