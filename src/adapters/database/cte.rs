//! Statements that do several things at once: common table expressions that write.
//!
//! All parts of one statement see the database as it was when the statement began, and none sees what another wrote; what
//! a part returns is what the next one goes by.

use continuo_domain::{Error, Result};
use sea_orm::sea_query::{CommonTableExpression, Expr, InsertStatement, Query, SelectStatement, SubQueryStatement};
use sea_orm::{ActiveModelTrait, ActiveValue, ColumnTrait, EntityTrait, Iterable};

/// A part that writes, or that is evaluated once.
pub(crate) fn part(name: &'static str, query: impl Into<SubQueryStatement>) -> CommonTableExpression {
    CommonTableExpression::new().table_name(name).query(query).to_owned()
}

/// `INSERT INTO … SELECT …`: a row for each that `source`, a query without columns, finds. Every column that the row sets is
/// written, so that a new one cannot be forgotten; `given` says what the others come from.
pub(crate) fn insert_from<A: ActiveModelTrait>(
    row: &A,
    mut source: SelectStatement,
    given: impl Fn(<A::Entity as EntityTrait>::Column) -> Option<Expr>,
) -> Result<InsertStatement> {
    let mut columns = Vec::new();
    for column in <A::Entity as EntityTrait>::Column::iter() {
        let value = match row.get(column) {
            ActiveValue::Set(value) => Some(column.save_as(Expr::val(value))),
            _ => given(column),
        };
        if let Some(value) = value {
            columns.push(column);
            source.expr(value);
        }
    }
    let mut insert = Query::insert();
    insert.into_table(A::Entity::default()).columns(columns);
    insert.select_from(source).map_err(Error::internal)?;
    Ok(insert)
}
