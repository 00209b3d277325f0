//! Run rows inside a transaction.

use crate::convert;
use crate::entity::{run, run_payload};
use crate::error::{damaged, failed};
use crate::{attempts, cte, waitpoints};
use continuo_domain::run::{Run, RunChange, RunCommand, RunStatus};
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp};
use continuo_ports::run_store::Applied;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, LockType, OnConflict, Query, SubQueryStatement};
use sea_orm::sea_query::{UpdateStatement, WithClause};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait};
use sea_orm::{FromQueryResult, IdenStatic, Iterable, Statement};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};
use std::collections::HashMap;

pub(crate) fn by_id(environment: &EnvironmentId, id: &RunId) -> Select<run::Entity> {
    run::Entity::find_by_id(id.as_str()).filter(run::Column::EnvironmentId.eq(environment.as_str()))
}

const PAYLOAD: &str = "payload";

#[derive(FromQueryResult)]
struct WithPayload {
    #[sea_orm(nested)]
    run: run::Model,
    payload: Option<String>,
}

/// The runs of a query, in its order, with their payloads.
pub(crate) async fn all<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Vec<Run>> {
    let payload = Query::select()
        .column(run_payload::Column::Payload)
        .from(run_payload::Entity)
        .and_where(run_payload::Column::RunId.into_expr().equals((run::Entity, run::Column::Id)))
        .to_owned();
    let select = select.expr_as(SubQueryStatement::from(payload), PAYLOAD);
    let rows = select.into_model::<WithPayload>().all(connection).await.map_err(failed)?;
    rows.into_iter().map(WithPayload::run).collect()
}

impl WithPayload {
    fn run(self) -> Result<Run> {
        let payload = self.payload.ok_or_else(|| damaged("run", &self.run.id, "its payload is missing"))?;
        convert::run(self.run, payload)
    }
}

/// The same of a query that locks. A row is as it was when its lock was given, but the payload beside it as it was when the
/// statement began: one that may have changed in between, as only a debounced run's does, is read again.
pub(crate) async fn all_locked<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Vec<Run>> {
    let mut runs = all(connection, select).await?;
    let debounced = runs.iter().filter(|run| run.spec.debounce.is_some()).map(|run| run.spec.id.as_str());
    let debounced: Vec<_> = debounced.collect();
    if debounced.is_empty() || connection.get_database_backend() == DbBackend::Sqlite {
        return Ok(runs);
    }
    let payloads = run_payload::Entity::find().filter(run_payload::Column::RunId.is_in(debounced));
    let payloads = payloads.all(connection).await.map_err(failed)?.into_iter().map(|row| (row.run_id, row.payload));
    let mut payloads: HashMap<_, _> = payloads.collect();
    for run in &mut runs {
        if let Some(payload) = payloads.remove(run.spec.id.as_str()) {
            run.spec.payload = payload;
        }
    }
    Ok(runs)
}

/// A query that leaves out texts that may be long; they are read as not there.
pub(crate) fn without(select: Select<run::Entity>, texts: &[run::Column]) -> Select<run::Entity> {
    let is_left_out = |column: &run::Column| texts.iter().any(|text| text.as_str() == column.as_str());
    let select = select.select_only().columns(run::Column::iter().filter(|column| !is_left_out(column)));
    texts.iter().fold(select, |select, text| select.expr_as(Expr::val(None::<String>), text.as_str()))
}

pub(crate) async fn one<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Option<Run>> {
    all(connection, select).await.map(|mut runs| runs.pop())
}

pub(crate) async fn one_locked<C: ConnectionTrait>(connection: &C, select: Select<run::Entity>) -> Result<Option<Run>> {
    all_locked(connection, select).await.map(|mut runs| runs.pop())
}

/// The row, to be changed in this transaction. Who locks several locks a child before its parent: ends go that way, from a
/// run to those that wait for it.
pub(crate) async fn locked<C: ConnectionTrait>(connection: &C, id: &RunId) -> Result<Run> {
    let select = run::Entity::find_by_id(id.as_str()).lock(LockType::NoKeyUpdate);
    one_locked(connection, select).await?.ok_or(Error::RunNotFound)
}

/// Locks the runs that a cancel of this one takes along, before it locks the run itself. One that comes between is locked
/// after it: the transaction may then lose against that one's end, and is run again.
pub(crate) async fn lock_below(tx: &DatabaseTransaction, id: &RunId) -> Result<()> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let over: Vec<_> = over().map(|status| format!("'{status}'")).collect();
    let over = over.join(", ");
    let sql = format!(
        "WITH RECURSIVE below AS ( \
         SELECT id FROM run WHERE parent_run_id = $1 AND status NOT IN ({over}) \
         UNION SELECT run.id FROM run JOIN below ON run.parent_run_id = below.id WHERE run.status NOT IN ({over})) \
         SELECT id FROM run WHERE id IN (SELECT id FROM below) ORDER BY depth DESC, id FOR NO KEY UPDATE"
    );
    let lock = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.as_str().into()]);
    tx.query_all_raw(lock).await.map(drop).map_err(failed)
}

fn over() -> impl Iterator<Item = &'static str> {
    RunStatus::ALL.into_iter().filter(|status| status.is_terminal()).map(RunStatus::as_str)
}

/// The keys that a run holds among the runs of its task.
pub(crate) struct Claims {
    pub(crate) idempotency: Option<String>,
    pub(crate) debounce: Option<String>,
}

/// A run that holds no keys.
pub(crate) async fn insert<C: ConnectionTrait>(connection: &C, run: &Run) -> Result<()> {
    run::Entity::insert(convert::run_row(run)).exec_without_returning(connection).await.map_err(failed)?;
    insert_payload(connection, run).await
}

/// False, and nothing written, if another run holds one of the keys.
pub(crate) async fn insert_unless_claimed<C: ConnectionTrait>(
    connection: &C,
    run: &Run,
    claims: Claims,
) -> Result<bool> {
    let row = run::ActiveModel {
        idempotency_claim: Set(claims.idempotency),
        debounce_claim: Set(claims.debounce),
        ..convert::run_row(run)
    };
    let insert = run::Entity::insert(row).on_conflict(OnConflict::new().do_nothing().to_owned());
    if insert.exec_without_returning(connection).await.map_err(failed)? == 0 {
        return Ok(false);
    }
    insert_payload(connection, run).await?;
    Ok(true)
}

async fn insert_payload<C: ConnectionTrait>(connection: &C, run: &Run) -> Result<()> {
    run_payload::Entity::insert(payload_row(run)).exec_without_returning(connection).await.map(drop).map_err(failed)
}

pub(crate) fn payload_row(run: &Run) -> run_payload::ActiveModel {
    run_payload::ActiveModel { run_id: Set(run.spec.id.to_string()), payload: Set(run.spec.payload.clone()) }
}

/// Writes the columns that differ from the row before, and no other.
pub(crate) async fn save<C: ConnectionTrait>(connection: &C, before: run::ActiveModel, run: &Run) -> Result<()> {
    save_with(connection, before, run, None).await
}

/// The same, and an attempt with it: one statement where the database has such.
async fn save_with<C: ConnectionTrait>(
    connection: &C,
    before: run::ActiveModel,
    run: &Run,
    attempt: Option<attempts::Write>,
) -> Result<()> {
    match (updating(before, run)?, attempt) {
        (Some(update), Some(attempt)) if connection.get_database_backend() == DbBackend::Postgres => {
            let attempt = WithClause::new().cte(cte::part("attempts", attempt)).to_owned();
            connection.execute(&attempt.query(update)).await.map(drop).map_err(failed)
        }
        (update, attempt) => {
            if let Some(update) = update {
                connection.execute(&update).await.map_err(failed)?;
            }
            match attempt {
                Some(attempt) => attempt.exec(connection).await,
                None => Ok(()),
            }
        }
    }
}

fn updating(before: run::ActiveModel, run: &Run) -> Result<Option<UpdateStatement>> {
    let mut row = convert::run_row(run);
    let mut is_changed = false;
    for column in run::Column::iter().filter(|column| !matches!(column, run::Column::Id)) {
        if row.get(column) == before.get(column) {
            row.not_set(column);
        } else {
            is_changed = true;
        }
    }
    let update = is_changed.then(|| run::Entity::update(row).validate());
    Ok(update.transpose().map_err(failed)?.map(QueryTrait::into_query))
}

/// What a command did: to the run, and to others in the same transaction.
pub(crate) struct Effects {
    pub(crate) change: RunChange,
    pub(crate) others: Vec<Applied>,
}

/// One command on a locked run: the rules, the row, the attempt, and whom its end concerns.
pub(crate) fn apply<'a>(
    tx: &'a DatabaseTransaction,
    run: &'a mut Run,
    command: RunCommand,
    now: Timestamp,
) -> BoxFuture<'a, Result<Effects>> {
    async move {
        let before = convert::run_row(run);
        let change = run.apply(command, now)?;
        if change.is_noop {
            return Ok(Effects { change, others: Vec::new() });
        }
        let attempt = change.attempt.as_ref().map(|change| attempts::Write::of(run, change, now));
        save_with(tx, before, run, attempt).await?;
        let others = if change.was.is_terminal() { Vec::new() } else { end(tx, run, now).await? };
        Ok(Effects { change, others })
    }
    .boxed()
}

/// A run is over: whoever waits for it is told, and what it started is not carried on once it was canceled.
async fn end(tx: &DatabaseTransaction, run: &Run, now: Timestamp) -> Result<Vec<Applied>> {
    let Some(completion) = run.completion() else { return Ok(Vec::new()) };
    let mut others = Vec::new();
    let waits = match may_be_awaited(run) {
        true => waitpoints::all(tx, waitpoints::open_for_run(&run.spec.id)).await?,
        false => Vec::new(),
    };
    for waitpoint in waits {
        others.append(&mut waitpoints::complete(tx, waitpoint.id, completion.clone(), now).await?.resumed);
    }
    if run.status != RunStatus::Canceled {
        return Ok(others);
    }
    let children = run::Entity::find()
        .filter(run::Column::ParentRunId.eq(run.spec.id.as_str()))
        .filter(run::Column::Status.is_not_in(over()))
        .order_by_asc(run::Column::Id)
        .lock(LockType::NoKeyUpdate);
    for mut child in all_locked(tx, children).await? {
        let cancel = RunCommand::Cancel { reason: "The run that triggered it was canceled".into() };
        let effects = apply(tx, &mut child, cancel, now).await?;
        others.push(Applied { run: child, change: effects.change, others: Vec::new() });
        others.extend(effects.others);
    }
    Ok(others)
}

/// Only a trigger that a run makes lets that run wait, for the run that is made, or is found by its key.
fn may_be_awaited(run: &Run) -> bool {
    run.spec.parent.is_some() || run.spec.idempotency_key.is_some() || run.spec.debounce.is_some()
}
