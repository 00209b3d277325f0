//! Run rows inside a transaction.

use crate::convert;
use crate::entity::{attempt, run, run_payload};
use crate::error::{damaged, failed};
use continuo_domain::run::{AttemptChange, Run, RunChange, RunCommand, RunError};
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, Select};
use std::collections::HashMap;

pub(crate) fn by_id(environment: &EnvironmentId, id: &RunId) -> Select<run::Entity> {
    run::Entity::find_by_id(id.as_str()).filter(run::Column::EnvironmentId.eq(environment.as_str()))
}

/// The runs of a query, in its order, with their payloads. Payloads never change, so they need not be of the same moment.
pub(crate) async fn all<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Vec<Run>> {
    let rows = select.all(connection).await.map_err(failed)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids = rows.iter().map(|row| row.id.as_str());
    let payloads = run_payload::Entity::find().filter(run_payload::Column::RunId.is_in(ids)).all(connection);
    let payloads = payloads.await.map_err(failed)?.into_iter().map(|row| (row.run_id, row.payload));
    let mut payloads: HashMap<_, _> = payloads.collect();
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        let payload = payloads.remove(&row.id).ok_or_else(|| damaged("run", &row.id, "its payload is missing"))?;
        runs.push(convert::run(row, payload)?);
    }
    Ok(runs)
}

pub(crate) async fn one<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Option<Run>> {
    all(connection, select).await.map(|mut runs| runs.pop())
}

/// The row, to be changed in this transaction.
pub(crate) async fn locked<C: ConnectionTrait>(connection: &C, id: &RunId) -> Result<Run> {
    let select = run::Entity::find_by_id(id.as_str()).lock_exclusive();
    one(connection, select).await?.ok_or(Error::RunNotFound)
}

pub(crate) async fn insert<C: ConnectionTrait>(connection: &C, run: &Run, claim: Option<String>) -> Result<()> {
    let row = run::ActiveModel { idempotency_claim: Set(claim), ..convert::run_row(run) };
    run::Entity::insert(row).exec_without_returning(connection).await.map_err(failed)?;
    let payload =
        run_payload::ActiveModel { run_id: Set(run.spec.id.to_string()), payload: Set(run.spec.payload.clone()) };
    run_payload::Entity::insert(payload).exec_without_returning(connection).await.map_err(failed)?;
    Ok(())
}

pub(crate) async fn save<C: ConnectionTrait>(connection: &C, run: &Run) -> Result<()> {
    let row = convert::run_row(run).reset_all();
    run::Entity::update(row).exec_without_returning(connection).await.map(drop).map_err(failed)
}

/// One command on a locked run: the rules, the row, the attempt.
pub(crate) async fn apply<C: ConnectionTrait>(
    connection: &C,
    run: &mut Run,
    command: RunCommand,
    now: Timestamp,
) -> Result<RunChange> {
    let change = run.apply(command, now)?;
    if change.is_noop {
        return Ok(change);
    }
    save(connection, run).await?;
    match &change.attempt {
        None => {}
        Some(AttemptChange::Started { number, worker }) => begin_attempt(connection, run, *number, worker, now).await?,
        Some(AttemptChange::Ended { number, error }) => {
            end_attempt(connection, run, *number, error.as_ref(), now).await?
        }
    }
    Ok(change)
}

async fn begin_attempt<C: ConnectionTrait>(
    connection: &C,
    run: &Run,
    number: u32,
    worker: &str,
    now: Timestamp,
) -> Result<()> {
    let row = attempt::ActiveModel {
        run_id: Set(run.spec.id.to_string()),
        number: Set(attempt_number(number)),
        worker: Set(worker.to_owned()),
        started_at_ms: Set(now.0),
        ended_at_ms: Set(None),
        error_name: Set(None),
        error_message: Set(None),
        error_stack_trace: Set(None),
    };
    attempt::Entity::insert(row).exec_without_returning(connection).await.map(drop).map_err(failed)
}

async fn end_attempt<C: ConnectionTrait>(
    connection: &C,
    run: &Run,
    number: u32,
    error: Option<&RunError>,
    now: Timestamp,
) -> Result<()> {
    let end = attempt::Entity::update_many()
        .col_expr(attempt::Column::EndedAtMs, Expr::val(now.0))
        .col_expr(attempt::Column::ErrorName, Expr::val(error.map(|e| e.name.clone())))
        .col_expr(attempt::Column::ErrorMessage, Expr::val(error.map(|e| e.message.clone())))
        .col_expr(attempt::Column::ErrorStackTrace, Expr::val(error.and_then(|e| e.stack_trace.clone())))
        .filter(attempt::Column::RunId.eq(run.spec.id.as_str()))
        .filter(attempt::Column::Number.eq(attempt_number(number)))
        // An attempt that ended before a later one began is not ended again.
        .filter(attempt::Column::EndedAtMs.is_null());
    end.exec(connection).await.map(drop).map_err(failed)
}

fn attempt_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
