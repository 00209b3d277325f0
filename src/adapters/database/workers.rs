//! `WorkerStore` on SQL.

use crate::convert;
use crate::entity::worker::{self, Column};
use crate::entity::{run, worker_task};
use crate::error::failed;
use crate::list::{Position, older};
use crate::{Database, SqlStore};
use async_trait::async_trait;
use continuo_domain::run::RunStatus;
use continuo_domain::{EnvironmentId, Result, Timestamp};
use continuo_ports::worker_store::{ConnectedWorker, WorkerPage, WorkerPosition, WorkerStore};
use futures_util::FutureExt;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, Func, InsertStatement, OnConflict, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, JoinType};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use std::collections::BTreeSet;

const HELD: &str = "held";
const LEASES: &str = "leases";

#[async_trait]
impl WorkerStore for SqlStore {
    async fn connect_worker(&self, worker: &ConnectedWorker, lost_before: Timestamp) -> Result<()> {
        let put = putting(worker, lost_before);
        let task = |task: &String| worker_task::ActiveModel {
            environment_id: Set(worker.environment.to_string()),
            task_identifier: Set(task.clone()),
            worker: Set(worker.id.clone()),
            announced_at_ms: Set(worker.connected_at.0),
        };
        // In one order for all, and each once.
        let tasks: BTreeSet<_> = worker.task_identifiers.iter().collect();
        let tasks: Vec<_> = tasks.into_iter().map(task).collect();
        self.database.write(move |tx| connect(tx, tasks, put).boxed()).await
    }

    async fn note_worker(&self, worker: &ConnectedWorker, lost_before: Timestamp) -> Result<()> {
        if !note(&self.database, worker).await? {
            let put = self.database.backend().build(&putting(worker, lost_before));
            self.database.write_repeatable(put).await?;
        }
        Ok(())
    }

    async fn disconnect_worker(&self, environment: &EnvironmentId, id: &str, link: &str) -> Result<()> {
        let delete = Query::delete()
            .from_table(worker::Entity)
            .and_where(Column::EnvironmentId.eq(environment.as_str()))
            .and_where(Column::WorkerId.eq(id))
            .and_where(Column::LinkId.eq(link))
            .to_owned();
        self.database.write_repeatable(self.database.backend().build(&delete)).await.map(drop)
    }

    async fn list_workers(
        &self,
        environment: &EnvironmentId,
        seen_from: Timestamp,
        after: Option<&WorkerPosition>,
        size: u32,
    ) -> Result<WorkerPage> {
        let list = listing(environment, seen_from, after, u64::from(size) + 1);
        let mut rows: Vec<WithLeases> = self.database.list_rows(self.database.backend().build(&list)).await?;
        let has_older = rows.len() > size as usize;
        rows.truncate(size as usize);
        let workers =
            rows.into_iter().map(|row| convert::listed_worker(row.worker, row.held)).collect::<Result<_>>()?;
        Ok(WorkerPage { workers, has_older })
    }

    async fn forget_workers(&self, lost_before: Timestamp) -> Result<u64> {
        let delete = Query::delete()
            .from_table(worker::Entity)
            .and_where(Column::SeenAtMs.lt(lost_before.0))
            .returning_col(Column::WorkerId)
            .to_owned();
        let gone = self.database.write_repeatable(self.database.backend().build(&delete)).await?;
        Ok(gone.len() as u64)
    }

    async fn knows_task(&self, environment: &EnvironmentId, task_identifier: &str) -> Result<bool> {
        let key = (environment.to_string(), task_identifier.to_owned());
        let row = worker_task::Entity::find_by_id(key).one(self.database.readers()).await;
        row.map(|row| row.is_some()).map_err(failed)
    }
}

async fn connect(tx: &DatabaseTransaction, tasks: Vec<worker_task::ActiveModel>, put: InsertStatement) -> Result<()> {
    let key = [worker_task::Column::EnvironmentId, worker_task::Column::TaskIdentifier];
    let announced = [worker_task::Column::Worker, worker_task::Column::AnnouncedAtMs];
    for task in tasks {
        let again = OnConflict::columns(key).update_columns(announced).to_owned();
        let insert = worker_task::Entity::insert(task).on_conflict(again);
        insert.exec_without_returning(tx).await.map_err(failed)?;
    }
    tx.execute(&put).await.map(drop).map_err(failed)
}

/// What a heartbeat changes, where the row is this link's. The rest may be long, and is left where it lies.
async fn note(database: &Database, worker: &ConnectedWorker) -> Result<bool> {
    let update = Query::update()
        .table(worker::Entity)
        .value(Column::IsDraining, worker.is_draining)
        .value(Column::SeenAtMs, worker.seen_at.0)
        .and_where(Column::EnvironmentId.eq(worker.environment.as_str()))
        .and_where(Column::WorkerId.eq(&worker.id))
        .and_where(Column::LinkId.eq(&worker.link))
        .returning_col(Column::WorkerId)
        .to_owned();
    Ok(!database.write_repeatable(database.backend().build(&update)).await?.is_empty())
}

/// The whole row: unless a link has it that came later and is not lost.
fn putting(worker: &ConnectedWorker, lost_before: Timestamp) -> InsertStatement {
    let key = [Column::EnvironmentId, Column::WorkerId];
    let there = |column: Column| Expr::col((worker::Entity, column));
    let ours = |column: Column| Expr::col(("excluded", column));
    let is_older = Expr::tuple([there(Column::ConnectedAtMs), there(Column::LinkId)])
        .lte(Expr::tuple([ours(Column::ConnectedAtMs), ours(Column::LinkId)]));
    let take = OnConflict::columns(key)
        .update_columns([
            Column::LinkId,
            Column::Version,
            Column::TaskIdentifiers,
            Column::Capacity,
            Column::IsDraining,
            Column::ConnectedAtMs,
            Column::SeenAtMs,
        ])
        .action_and_where(is_older.or(there(Column::SeenAtMs).lt(lost_before.0)))
        .to_owned();
    worker::Entity::insert(convert::worker_row(worker)).on_conflict(take).into_query()
}

#[derive(FromQueryResult)]
struct WithLeases {
    #[sea_orm(nested)]
    worker: worker::Model,
    held: i64,
}

/// Workers with the leases held through their links: those of the environment are counted together, which takes time with how
/// many are held and not with how many runs there are.
pub(crate) fn listing(
    environment: &EnvironmentId,
    seen_from: Timestamp,
    after: Option<&WorkerPosition>,
    limit: u64,
) -> SelectStatement {
    let on_a_worker = [RunStatus::Dequeued, RunStatus::Executing].map(RunStatus::as_str);
    let leases = Query::select()
        .column(run::Column::LeaseLink)
        .expr_as(Expr::col(run::Column::LeaseLink).count(), HELD)
        .from(run::Entity)
        .and_where(run::Column::EnvironmentId.eq(environment.as_str()))
        .and_where(run::Column::Status.is_in(on_a_worker))
        .group_by_col(run::Column::LeaseLink)
        .to_owned();
    let mut workers = worker::Entity::find()
        .filter(Column::EnvironmentId.eq(environment.as_str()))
        .filter(Column::SeenAtMs.gte(seen_from.0));
    if let Some(WorkerPosition { connected_at, id }) = after {
        let position = Position { created_at_ms: connected_at.0, id: id.clone() };
        workers = workers.filter(older(Column::ConnectedAtMs, Column::WorkerId, &position));
    }
    let through = Expr::col((LEASES, run::Column::LeaseLink)).equals((worker::Entity, Column::LinkId));
    let mut select =
        workers.order_by_desc(Column::ConnectedAtMs).order_by_desc(Column::WorkerId).limit(limit).into_query();
    select
        .join_subquery(JoinType::LeftJoin, leases, LEASES, through)
        .expr_as(Func::coalesce([Expr::col((LEASES, HELD)), Expr::val(0_i64)]), HELD);
    select
}
