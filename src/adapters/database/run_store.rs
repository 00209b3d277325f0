//! `RunStore` on SQL.

use crate::convert;
use crate::entity::{attempt, run, waitpoint, worker_task};
use crate::error::failed;
use crate::list::{Position, any_tag, older};
use crate::{SqlStore, queue, runs, waitpoints};
use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, SeqNum};
use continuo_domain::run::{Assignment, Attempt, NewRun, Run, RunCommand};
use continuo_domain::session::Json;
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp, WaitpointId};
use continuo_ports::run_store::{Applied, DequeueRequest, MadeOrFound, RunFilter, RunStore, WaitpointCompleted};
use futures_util::FutureExt;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select};

#[async_trait]
impl RunStore for SqlStore {
    async fn trigger(&self, run: NewRun, now: Timestamp) -> Result<MadeOrFound<Run>> {
        self.database.write(move |tx| trigger(tx, Run::new(run, 0, now), now).boxed()).await
    }

    async fn get(&self, environment: &EnvironmentId, run: &RunId) -> Result<Option<Run>> {
        runs::one(self.database.readers(), runs::by_id(environment, run)).await
    }

    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &RunFilter,
        after: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<Run>> {
        let snapshot = self.database.snapshot().await?;
        let mut all = Condition::all().add(run::Column::EnvironmentId.eq(environment.as_str()));
        if let Some(after) = after {
            let row = runs::by_id(environment, after).one(&snapshot).await.map_err(failed)?;
            let row = row.ok_or(Error::RunNotFound)?;
            let position = Position { created_at_ms: row.created_at_ms, id: row.id };
            all = all.add(older(run::Column::CreatedAtMs, run::Column::Id, &position));
        }
        if !filter.statuses.is_empty() {
            all = all.add(run::Column::Status.is_in(filter.statuses.iter().map(|status| status.as_str())));
        }
        if !filter.task_identifiers.is_empty() {
            all = all.add(run::Column::TaskIdentifier.is_in(&filter.task_identifiers));
        }
        if let Some(session) = &filter.session {
            all = all.add(run::Column::SessionId.eq(session.as_str()));
        }
        if !filter.tags.is_empty() {
            all = all.add(any_tag(snapshot.get_database_backend(), "run.tags", &filter.tags));
        }
        let select = run::Entity::find()
            .filter(all)
            .order_by_desc(run::Column::CreatedAtMs)
            .order_by_desc(run::Column::Id)
            .limit(u64::from(limit));
        runs::all(&snapshot, select).await
    }

    async fn attempts(&self, run: &RunId) -> Result<Vec<Attempt>> {
        let rows = attempt::Entity::find()
            .filter(attempt::Column::RunId.eq(run.as_str()))
            .order_by_asc(attempt::Column::Number)
            .all(self.database.readers());
        Ok(rows.await.map_err(failed)?.into_iter().map(convert::attempt).collect())
    }

    async fn apply(
        &self,
        environment: &EnvironmentId,
        run: &RunId,
        command: RunCommand,
        now: Timestamp,
    ) -> Result<Applied> {
        let (environment, id) = (environment.clone(), run.clone());
        self.database.write(move |tx| apply(tx, environment, id, command, now).boxed()).await
    }

    async fn dequeue(&self, request: DequeueRequest, now: Timestamp) -> Result<Vec<Assignment>> {
        if request.capacity == 0 || !queue::is_any(self.database.readers(), &request, now).await? {
            return Ok(Vec::new());
        }
        self.database.write(move |tx| queue::dequeue(tx, request, now).boxed()).await
    }

    async fn due_runs(&self, now: Timestamp, limit: u32) -> Result<Vec<Run>> {
        let select = run::Entity::find()
            .filter(run::Column::DueAtMs.lte(now.0))
            .order_by_asc(run::Column::DueAtMs)
            .order_by_asc(run::Column::Id)
            .limit(u64::from(limit));
        runs::all(self.database.readers(), select).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let readers = self.database.readers();
        let due = first_after(readers, run::Entity::find(), run::Column::DueAtMs, now).await?;
        let available = first_after(readers, run::Entity::find(), run::Column::AvailableAtMs, now).await?;
        let open = waitpoint::Entity::find().filter(waitpoint::Column::CompletedAtMs.is_null());
        let timeout = first_after(readers, open, waitpoint::Column::TimeoutAtMs, now).await?;
        Ok([due, available, timeout].into_iter().flatten().min())
    }

    async fn set_metadata(&self, run: &RunId, metadata: Option<Json>, now: Timestamp) -> Result<Run> {
        self.change_spec(run, now, move |spec| spec.metadata = metadata).await
    }

    async fn add_tags(&self, run: &RunId, tags: Vec<String>, now: Timestamp) -> Result<Run> {
        let add = move |spec: &mut NewRun| {
            for tag in tags {
                if !spec.tags.contains(&tag) {
                    spec.tags.push(tag);
                }
            }
        };
        self.change_spec(run, now, add).await
    }

    async fn create_waitpoint(&self, waitpoint: Waitpoint) -> Result<MadeOrFound<Waitpoint>> {
        self.database.write(move |tx| waitpoints::create(tx, waitpoint).boxed()).await
    }

    async fn get_waitpoint(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> Result<Option<Waitpoint>> {
        waitpoints::one(self.database.readers(), waitpoints::by_id(environment, waitpoint)).await
    }

    async fn list_waitpoints(
        &self,
        environment: &EnvironmentId,
        after: Option<&WaitpointId>,
        limit: u32,
    ) -> Result<Vec<Waitpoint>> {
        let snapshot = self.database.snapshot().await?;
        let mut all = Condition::all().add(waitpoint::Column::EnvironmentId.eq(environment.as_str()));
        if let Some(after) = after {
            let row = waitpoints::by_id(environment, after).one(&snapshot).await.map_err(failed)?;
            let row = row.ok_or(Error::WaitpointNotFound)?;
            let position = Position { created_at_ms: row.created_at_ms, id: row.id };
            all = all.add(older(waitpoint::Column::CreatedAtMs, waitpoint::Column::Id, &position));
        }
        let select = waitpoint::Entity::find()
            .filter(all)
            .order_by_desc(waitpoint::Column::CreatedAtMs)
            .order_by_desc(waitpoint::Column::Id)
            .limit(u64::from(limit));
        waitpoints::all(&snapshot, select).await
    }

    async fn complete_waitpoint(
        &self,
        waitpoint: &WaitpointId,
        completion: Completion,
        now: Timestamp,
    ) -> Result<WaitpointCompleted> {
        let id = waitpoint.clone();
        self.database.write(move |tx| waitpoints::complete(tx, id, completion, now).boxed()).await
    }

    async fn open_waits(&self, channel: &ChannelKey, seq_num: SeqNum) -> Result<Vec<Waitpoint>> {
        if !channel.is_reserved() {
            return Ok(Vec::new());
        }
        waitpoints::all(self.database.readers(), waitpoints::open_on(channel, seq_num)).await
    }

    async fn all_open_waits(&self, after: Option<&WaitpointId>, limit: u32) -> Result<Vec<Waitpoint>> {
        waitpoints::all(self.database.readers(), waitpoints::open_after(after, limit)).await
    }

    async fn timed_out_waitpoints(&self, now: Timestamp, limit: u32) -> Result<Vec<Waitpoint>> {
        waitpoints::all(self.database.readers(), waitpoints::timed_out(now, limit)).await
    }

    async fn register_tasks(
        &self,
        environment: &EnvironmentId,
        worker: &str,
        tasks: &[String],
        now: Timestamp,
    ) -> Result<()> {
        let row = |task: &String| worker_task::ActiveModel {
            environment_id: Set(environment.to_string()),
            task_identifier: Set(task.clone()),
            worker: Set(worker.to_owned()),
            announced_at_ms: Set(now.0),
        };
        let rows: Vec<_> = tasks.iter().map(row).collect();
        self.database.write(move |tx| register_tasks(tx, rows).boxed()).await
    }

    async fn knows_task(&self, environment: &EnvironmentId, task_identifier: &str) -> Result<bool> {
        let key = (environment.to_string(), task_identifier.to_owned());
        let row = worker_task::Entity::find_by_id(key).one(self.database.readers()).await;
        row.map(|row| row.is_some()).map_err(failed)
    }
}

impl SqlStore {
    async fn change_spec(
        &self,
        run: &RunId,
        now: Timestamp,
        change: impl FnOnce(&mut NewRun) + Send + 'static,
    ) -> Result<Run> {
        let id = run.clone();
        self.database
            .write(move |tx| {
                async move {
                    let before = runs::locked(tx, &id).await?;
                    let mut run = before.clone();
                    change(&mut run.spec);
                    if run != before {
                        run.updated_at = now;
                        runs::save(tx, &run).await?;
                    }
                    Ok(run)
                }
                .boxed()
            })
            .await
    }
}

async fn trigger(tx: &DatabaseTransaction, run: Run, now: Timestamp) -> Result<MadeOrFound<Run>> {
    if let Some(found) = claim_key(tx, &run.spec, now).await? {
        return Ok(MadeOrFound { row: found, is_cached: true });
    }
    runs::insert(tx, &run, run.spec.idempotency_key.clone()).await?;
    Ok(MadeOrFound { row: run, is_cached: false })
}

/// The run that holds the key, if the key still counts. One for which it does not gives it up. Two triggers at the same
/// moment: the unique index lets one through, and on Postgres the other is told to try again.
async fn claim_key(tx: &DatabaseTransaction, new: &NewRun, now: Timestamp) -> Result<Option<Run>> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let holder = run::Entity::find()
        .filter(run::Column::EnvironmentId.eq(new.environment.as_str()))
        .filter(run::Column::TaskIdentifier.eq(&new.task_identifier))
        .filter(run::Column::IdempotencyClaim.eq(key))
        .lock_exclusive();
    let Some(holder) = runs::one(tx, holder).await? else { return Ok(None) };
    let counts_until = holder.spec.idempotency_key_ttl_ms.map(|ttl| holder.created_at.plus_ms(ttl));
    if counts_until.is_none_or(|at| at > now) {
        return Ok(Some(holder));
    }
    let give_up = run::Entity::update_many()
        .col_expr(run::Column::IdempotencyClaim, Expr::val(None::<String>))
        .filter(run::Column::Id.eq(holder.spec.id.as_str()));
    give_up.exec(tx).await.map_err(failed)?;
    Ok(None)
}

async fn apply(
    tx: &DatabaseTransaction,
    environment: EnvironmentId,
    id: RunId,
    command: RunCommand,
    now: Timestamp,
) -> Result<Applied> {
    let suspended_on = match &command {
        RunCommand::Suspend { waitpoint, .. } => Some(waitpoint.clone()),
        _ => None,
    };
    let mut run = runs::locked(tx, &id).await?;
    if run.spec.environment != environment {
        return Err(Error::RunNotFound);
    }
    let change = runs::apply(tx, &mut run, command, now).await?;
    if let Some(waitpoint) = suspended_on {
        // Shared with the completion, which waits for this transaction or is seen by it.
        let row = waitpoints::by_id(&environment, &waitpoint).lock_shared();
        let row = waitpoints::one(tx, row).await?.ok_or(Error::WaitpointNotFound)?;
        if !row.is_open() {
            runs::apply(tx, &mut run, RunCommand::Resume { waitpoint }, now).await?;
        }
    }
    Ok(Applied { run, change })
}

/// The smallest value of an indexed column after `now`.
async fn first_after<C: ConnectionTrait, E: EntityTrait>(
    connection: &C,
    rows: Select<E>,
    column: E::Column,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let first = rows.filter(column.gt(now.0)).order_by_asc(column).limit(1).select_only().column(column);
    first.into_tuple::<i64>().one(connection).await.map(|ms| ms.map(Timestamp)).map_err(failed)
}

async fn register_tasks(tx: &DatabaseTransaction, rows: Vec<worker_task::ActiveModel>) -> Result<()> {
    let key = [worker_task::Column::EnvironmentId, worker_task::Column::TaskIdentifier];
    let announced = [worker_task::Column::Worker, worker_task::Column::AnnouncedAtMs];
    for row in rows {
        let again = OnConflict::columns(key).update_columns(announced).to_owned();
        let insert = worker_task::Entity::insert(row).on_conflict(again);
        insert.exec_without_returning(tx).await.map_err(failed)?;
    }
    Ok(())
}
