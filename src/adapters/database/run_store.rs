//! `RunStore` on SQL.

use crate::convert;
use crate::entity::{attempt, run, waitpoint};
use crate::error::failed;
use crate::list::{self, From, Position};
use crate::{SqlStore, queue, queues, run_filter, runs, trigger, waitpoints};
use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, SeqNum};
use continuo_domain::run::{Assignment, Attempt, Holder, MetadataOperation, MetadataUpdate, NewRun, Run, RunCommand};
use continuo_domain::session::Json;
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp, WaitpointId};
use continuo_ports::run_store::{
    Applied, DequeueRequest, LeaseRef, MadeOrFound, NewTrigger, Page, PageFrom, Queues, Renewed,
};
use continuo_ports::run_store::{RunFilter, RunStore, Triggered, WaitpointCompleted, WaitpointFilter};
use futures_util::FutureExt;
use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select};
use std::collections::HashMap;

#[async_trait]
impl RunStore for SqlStore {
    async fn trigger(&self, trigger: NewTrigger, now: Timestamp) -> Result<Triggered> {
        self.database.write(move |tx| trigger::trigger(tx, trigger, now).boxed()).await
    }

    async fn get(&self, environment: &EnvironmentId, run: &RunId) -> Result<Option<Run>> {
        runs::one(self.database.readers(), runs::by_id(environment, run)).await
    }

    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &RunFilter,
        from: &PageFrom<RunId>,
        size: u32,
    ) -> Result<Page<Run>> {
        let snapshot = self.database.list_snapshot().await?;
        let place = async |id: &RunId| {
            let row = runs::by_id(environment, id).one(&snapshot).await.map_err(failed)?;
            let row = row.ok_or(Error::RunNotFound)?;
            Ok::<_, Error>(Position { created_at_ms: row.created_at_ms, id: row.id })
        };
        let from = match from {
            PageFrom::Start => From::Start,
            PageFrom::After(id) => From::After(place(id).await?),
            PageFrom::Before(id) => From::Before(place(id).await?),
        };
        let matching = run_filter::matching(snapshot.get_database_backend(), environment, filter);
        let order = (run::Column::CreatedAtMs, run::Column::Id);
        let page = list::page(&snapshot, runs::without(matching, &[run::Column::Output]), order, from, size).await?;
        let rows = page.rows.into_iter().map(|row| convert::run(row, String::new())).collect::<Result<_>>()?;
        Ok(Page { rows, has_older: page.has_older, has_newer: page.has_newer })
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

    async fn renew(
        &self,
        environment: &EnvironmentId,
        leases: &[LeaseRef],
        link: Option<&str>,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Result<Renewed>>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let renew = |leases: Vec<LeaseRef>, behavior: Option<LockBehavior>| {
            let (environment, link) = (environment.clone(), link.map(str::to_owned));
            self.database.write(move |tx| renew(tx, environment, leases, link, lease_until, now, behavior).boxed())
        };
        // Together those that nobody holds; then the others one by one, so that no lock is held while one is waited for.
        let mut answers = Vec::with_capacity(leases.len());
        for (lease, answer) in leases.iter().zip(renew(leases.to_vec(), Some(LockBehavior::SkipLocked)).await?) {
            answers.push(match answer {
                Err(Error::RunNotFound) if self.database.backend() == DbBackend::Postgres => {
                    renew(vec![lease.clone()], None).await?.remove(0)
                }
                answer => answer,
            });
        }
        Ok(answers)
    }

    async fn dequeue(&self, request: DequeueRequest, now: Timestamp) -> Result<Vec<Assignment>> {
        if request.capacity == 0 || !queue::is_any(self.database.readers(), &request, now).await? {
            return Ok(Vec::new());
        }
        self.database.write(move |tx| queue::dequeue(tx, request, now).boxed()).await
    }

    async fn queues(&self, environment: &EnvironmentId, limit: u32, now: Timestamp) -> Result<Queues> {
        queues::queues(&self.database, environment, limit, now).await
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

    async fn update_metadata(&self, run: &RunId, update: MetadataUpdate, now: Timestamp) -> Result<Run> {
        let id = run.clone();
        self.database.write(move |tx| update_metadata(tx, id, update, now).boxed()).await
    }

    async fn add_tags(&self, run: &RunId, tags: Vec<String>, now: Timestamp) -> Result<Run> {
        let add = move |spec: &mut NewRun| {
            for tag in tags {
                if !spec.tags.contains(&tag) {
                    spec.tags.push(tag);
                }
            }
            Ok(())
        };
        let id = run.clone();
        self.database.write(move |tx| async move { change_spec(tx, &id, now, add).await }.boxed()).await
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
        filter: &WaitpointFilter,
        from: &PageFrom<WaitpointId>,
        size: u32,
    ) -> Result<Page<Waitpoint>> {
        let snapshot = self.database.list_snapshot().await?;
        let place = async |id: &WaitpointId| {
            let row = waitpoints::by_id(environment, id).one(&snapshot).await.map_err(failed)?;
            let row = row.ok_or(Error::WaitpointNotFound)?;
            Ok::<_, Error>(Position { created_at_ms: row.created_at_ms, id: row.id })
        };
        let from = match from {
            PageFrom::Start => From::Start,
            PageFrom::After(id) => From::After(place(id).await?),
            PageFrom::Before(id) => From::Before(place(id).await?),
        };
        let matching = waitpoints::matching(snapshot.get_database_backend(), environment, filter);
        let order = (waitpoint::Column::CreatedAtMs, waitpoint::Column::Id);
        let page = list::page(&snapshot, matching, order, from, size).await?;
        let rows = page.rows.into_iter().map(convert::waitpoint).collect::<Result<_>>()?;
        Ok(Page { rows, has_older: page.has_older, has_newer: page.has_newer })
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

    async fn open_waits_on(&self, channels: &[ChannelKey]) -> Result<Vec<Waitpoint>> {
        let reserved: Vec<_> = channels.iter().filter(|channel| channel.is_reserved()).cloned().collect();
        if reserved.is_empty() {
            return Ok(Vec::new());
        }
        waitpoints::all(self.database.readers(), waitpoints::open_on_any(&reserved)).await
    }

    async fn all_open_waits(&self, after: Option<&WaitpointId>, limit: u32) -> Result<Vec<Waitpoint>> {
        waitpoints::all(self.database.readers(), waitpoints::open_after(after, limit)).await
    }

    async fn timed_out_waitpoints(&self, now: Timestamp, limit: u32) -> Result<Vec<Waitpoint>> {
        waitpoints::all(self.database.readers(), waitpoints::timed_out(now, limit)).await
    }
}

/// The run after the change. An error leaves it as it was.
async fn change_spec(
    tx: &DatabaseTransaction,
    id: &RunId,
    now: Timestamp,
    change: impl FnOnce(&mut NewRun) -> Result<()>,
) -> Result<Run> {
    let mut run = runs::locked(tx, id).await?;
    let before = convert::run_row(&run);
    change(&mut run.spec)?;
    if convert::run_row(&run) != before {
        run.updated_at = now;
        runs::save(tx, before, &run).await?;
    }
    Ok(run)
}

/// A run without a parent is its own, and so is one whose parent is gone.
async fn update_metadata(tx: &DatabaseTransaction, id: RunId, update: MetadataUpdate, now: Timestamp) -> Result<Run> {
    let MetadataUpdate { replace, own, parent, root } = update;
    let set = |operations: Vec<MetadataOperation>, replace: Option<Option<Json>>| {
        move |spec: &mut NewRun| {
            let before = replace.unwrap_or_else(|| spec.metadata.clone());
            spec.metadata = MetadataOperation::apply_all(before, &operations)?;
            Ok(())
        }
    };
    let above = change_spec(tx, &id, now, set(own, replace)).await?.spec.parent;
    let targets = above.map_or_else(|| (id.clone(), id.clone()), |above| (above.run, above.root));
    for (target, operations) in [(targets.0, parent), (targets.1, root)] {
        if operations.is_empty() {
            continue;
        }
        match change_spec(tx, &target, now, set(operations.clone(), None)).await {
            Err(Error::RunNotFound) => drop(change_spec(tx, &id, now, set(operations, None)).await?),
            changed => drop(changed?),
        }
    }
    runs::locked(tx, &id).await
}

/// Reads and writes what a lease consists of, and nothing of what may be long. A run that another transaction holds is not
/// found, if `behavior` says to pass over it.
async fn renew(
    tx: &DatabaseTransaction,
    environment: EnvironmentId,
    leases: Vec<LeaseRef>,
    link: Option<String>,
    lease_until: Timestamp,
    now: Timestamp,
    behavior: Option<LockBehavior>,
) -> Result<Vec<Result<Renewed>>> {
    let ids = leases.iter().map(|lease| lease.run.as_str());
    let rows = run::Entity::find()
        .filter(run::Column::Id.is_in(ids))
        .filter(run::Column::EnvironmentId.eq(environment.as_str()));
    let rows = match behavior {
        Some(behavior) => rows.lock_with_behavior(LockType::NoKeyUpdate, behavior),
        None => rows.lock(LockType::NoKeyUpdate),
    };
    let rows = runs::without(rows, &[run::Column::Output, run::Column::Metadata]).all(tx).await.map_err(failed)?;
    let mut runs = HashMap::with_capacity(rows.len());
    for row in rows {
        let run = convert::run(row, String::new())?;
        runs.insert(run.spec.id.clone(), run);
    }
    let mut answers = Vec::with_capacity(leases.len());
    for lease in leases {
        answers.push(match runs.get_mut(&lease.run) {
            None => Err(Error::RunNotFound),
            Some(run) => {
                let before = convert::run_row(run);
                let renew = RunCommand::Renew { holder: Holder::Lease(lease.number), link: link.clone(), lease_until };
                match run.apply(renew, now) {
                    Err(over) => Err(over),
                    Ok(_) => {
                        runs::save(tx, before, run).await?;
                        Ok(Renewed { session: run.spec.session.clone(), session_version: run.session_version })
                    }
                }
            }
        });
    }
    Ok(answers)
}

/// One command on a run of the environment, and where it waits for something that is there already, the end of the wait.
pub(crate) async fn apply(
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
    if matches!(command, RunCommand::Cancel { .. }) {
        runs::lock_below(tx, &id).await?;
    }
    let mut run = runs::locked(tx, &id).await?;
    if run.spec.environment != environment {
        return Err(Error::RunNotFound);
    }
    let runs::Effects { change, others } = runs::apply(tx, &mut run, command, now).await?;
    if let Some(waitpoint) = suspended_on {
        // Shared with the completion, which waits for this transaction or is seen by it.
        let row = waitpoints::by_id(&environment, &waitpoint).lock_shared();
        let row = waitpoints::one(tx, row).await?.ok_or(Error::WaitpointNotFound)?;
        if !row.is_open() {
            runs::apply(tx, &mut run, RunCommand::Resume { waitpoint }, now).await?;
        }
    }
    Ok(Applied { run, change, others })
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
