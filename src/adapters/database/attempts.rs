//! Attempts of a run: what a change of the run does to them.

use crate::entity::attempt::{self, Column};
use crate::error::failed;
use continuo_domain::run::{AttemptChange, Run};
use continuo_domain::{Result, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, InsertStatement, SubQueryStatement, UpdateStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryTrait};

/// A row that begins, or one that ends.
pub(crate) enum Write {
    Begin(InsertStatement),
    End(UpdateStatement),
}

impl Write {
    pub(crate) fn of(run: &Run, change: &AttemptChange, now: Timestamp) -> Self {
        let run_id = run.spec.id.as_str();
        match change {
            AttemptChange::Started { number, worker } => {
                let row = attempt::ActiveModel {
                    run_id: Set(run_id.to_owned()),
                    number: Set(small(*number)),
                    worker: Set(worker.clone()),
                    started_at_ms: Set(now.0),
                    ended_at_ms: Set(None),
                    error_name: Set(None),
                    error_message: Set(None),
                    error_stack_trace: Set(None),
                };
                Self::Begin(attempt::Entity::insert(row).into_query())
            }
            AttemptChange::Ended { number, error } => {
                let error = error.as_ref();
                let end = attempt::Entity::update_many()
                    .col_expr(Column::EndedAtMs, Expr::val(now.0))
                    .col_expr(Column::ErrorName, Expr::val(error.map(|e| e.name.clone())))
                    .col_expr(Column::ErrorMessage, Expr::val(error.map(|e| e.message.clone())))
                    .col_expr(Column::ErrorStackTrace, Expr::val(error.and_then(|e| e.stack_trace.clone())))
                    .filter(Column::RunId.eq(run_id))
                    .filter(Column::Number.eq(small(*number)))
                    // An attempt that ended before a later one began is not ended again.
                    .filter(Column::EndedAtMs.is_null());
                Self::End(end.into_query())
            }
        }
    }

    pub(crate) async fn exec<C: ConnectionTrait>(self, connection: &C) -> Result<()> {
        let done = match self {
            Self::Begin(insert) => connection.execute(&insert).await,
            Self::End(update) => connection.execute(&update).await,
        };
        done.map(drop).map_err(failed)
    }
}

impl From<Write> for SubQueryStatement {
    fn from(write: Write) -> Self {
        match write {
            Write::Begin(insert) => insert.into(),
            Write::End(update) => update.into(),
        }
    }
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
