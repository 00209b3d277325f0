//! Handing out runs: by priority, then by how long they have been available; never more of a queue than its limit.

use crate::convert;
use crate::entity::run::{self, Column};
use crate::entity::waitpoint;
use crate::error::failed;
use crate::{runs, waitpoints};
use continuo_domain::run::{Assignment, Run, RunCommand, RunStatus};
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp};
use continuo_ports::run_store::DequeueRequest;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult};
use sea_orm::{PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use std::collections::{BTreeSet, HashMap};

/// Rows looked at in one query of one task.
const CHUNK: u64 = 64;
/// Full places that a query is told to pass over; the rows of more are passed over here.
const FULL_MAX: usize = 100;

/// A run in the queue: what decides whether it is its turn.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Waiting {
    id: String,
    priority: i32,
    available_at_ms: Option<i64>,
    queue_name: String,
    queue_limit: Option<i64>,
    concurrency_key: Option<String>,
}

impl Waiting {
    /// Smaller goes first.
    fn turn(&self) -> (i64, Option<i64>, &str) {
        (-i64::from(self.priority), self.available_at_ms, &self.id)
    }
}

/// Is there anything a worker with these tasks could get? Asked on a reader, so that idle workers cost no transaction.
pub(crate) async fn is_any<C: ConnectionTrait>(
    connection: &C,
    request: &DequeueRequest,
    now: Timestamp,
) -> Result<bool> {
    for task in &request.task_identifiers {
        let one = available(&request.environment, task, now).select_only().column(Column::Id).into_tuple::<String>();
        if one.one(connection).await.map_err(failed)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Hands out runs, each to this worker only. One transaction at a time does this on SQLite; on Postgres the rows are taken
/// with SKIP LOCKED and the limits want an advisory lock per queue.
pub(crate) async fn dequeue(
    tx: &DatabaseTransaction,
    request: DequeueRequest,
    now: Timestamp,
) -> Result<Vec<Assignment>> {
    // A set: a task named twice is one lane.
    let tasks: BTreeSet<&str> = request.task_identifiers.iter().map(String::as_str).collect();
    let mut lanes: Vec<_> = tasks.into_iter().map(Lane::new).collect();
    let mut room = Room { environment: &request.environment, taken: HashMap::new(), full: Vec::new() };
    let mut assignments = Vec::new();
    while assignments.len() < request.capacity as usize {
        for lane in &mut lanes {
            lane.refill(tx, &room, now).await?;
        }
        let next = lanes.iter_mut().filter(|lane| !lane.chunk.is_empty());
        let next = next.min_by(|a, b| a.chunk.last().map(Waiting::turn).cmp(&b.chunk.last().map(Waiting::turn)));
        let Some(waiting) = next.and_then(|lane| lane.chunk.pop()) else { break };
        if !room.has(tx, &waiting).await? {
            continue;
        }
        if let Some(assignment) = assign(tx, &waiting, &request, now).await? {
            room.take(waiting);
            assignments.push(assignment);
        }
    }
    Ok(assignments)
}

fn available(environment: &EnvironmentId, task: &str, now: Timestamp) -> Select<run::Entity> {
    run::Entity::find()
        .filter(Column::EnvironmentId.eq(environment.as_str()))
        .filter(Column::TaskIdentifier.eq(task))
        .filter(Column::AvailableAtMs.lte(now.0))
}

/// The next rows of one task's queue, in turn.
pub(crate) fn in_turn(
    environment: &EnvironmentId,
    task: &str,
    after: Option<&Waiting>,
    now: Timestamp,
) -> Select<run::Entity> {
    let mut select = available(environment, task, now);
    if let Some(last) = after {
        let later = Expr::tuple([Expr::col(Column::AvailableAtMs), Expr::col(Column::Id)])
            .gt(Expr::tuple([Expr::val(last.available_at_ms), Expr::val(last.id.as_str())]));
        let same_priority = Column::Priority.eq(last.priority).and(later);
        select = select.filter(Column::Priority.lt(last.priority).or(same_priority));
    }
    select.order_by_desc(Column::Priority).order_by_asc(Column::AvailableAtMs).order_by_asc(Column::Id).limit(CHUNK)
}

/// The queue of one task, read in chunks: each is a range of its index, however long the queue.
struct Lane<'a> {
    task: &'a str,
    /// Last comes first.
    chunk: Vec<Waiting>,
    last: Option<Waiting>,
    is_over: bool,
}

impl<'a> Lane<'a> {
    fn new(task: &'a str) -> Self {
        Self { task, chunk: Vec::new(), last: None, is_over: false }
    }

    async fn refill(&mut self, tx: &DatabaseTransaction, room: &Room<'_>, now: Timestamp) -> Result<()> {
        if self.is_over || !self.chunk.is_empty() {
            return Ok(());
        }
        let select = in_turn(room.environment, self.task, self.last.as_ref(), now).filter(room.not_full());
        self.chunk = select.into_model::<Waiting>().all(tx).await.map_err(failed)?;
        self.is_over = (self.chunk.len() as u64) < CHUNK;
        self.last = self.chunk.last().cloned();
        self.chunk.reverse();
        Ok(())
    }
}

/// How many runs of each queue and key are out, counted once and kept up to date.
struct Room<'a> {
    environment: &'a EnvironmentId,
    taken: HashMap<(String, Option<String>), i64>,
    /// Places where a run was refused for want of room.
    full: Vec<(String, Option<String>)>,
}

impl Room<'_> {
    async fn has(&mut self, tx: &DatabaseTransaction, waiting: &Waiting) -> Result<bool> {
        let Some(limit) = waiting.queue_limit else { return Ok(true) };
        let place = (waiting.queue_name.clone(), waiting.concurrency_key.clone());
        let taken = self.count(tx, waiting, &place).await?;
        if taken >= limit && self.full.len() < FULL_MAX && !self.full.contains(&place) {
            self.full.push(place);
        }
        Ok(taken < limit)
    }

    async fn count(
        &mut self,
        tx: &DatabaseTransaction,
        waiting: &Waiting,
        place: &(String, Option<String>),
    ) -> Result<i64> {
        if let Some(taken) = self.taken.get(place) {
            return Ok(*taken);
        }
        let key = Column::ConcurrencyKey;
        let same_key = waiting.concurrency_key.as_ref().map_or_else(|| key.is_null(), |value| key.eq(value));
        let out = [RunStatus::Dequeued, RunStatus::Executing].map(RunStatus::as_str);
        let taken = run::Entity::find()
            .filter(Column::EnvironmentId.eq(self.environment.as_str()))
            .filter(Column::QueueName.eq(&waiting.queue_name))
            .filter(Column::Status.is_in(out))
            .filter(same_key)
            .count(tx)
            .await
            .map_err(failed)?;
        let taken = convert::int(taken);
        self.taken.insert(place.clone(), taken);
        Ok(taken)
    }

    /// Passes over what stands in a full place, however long the queue is there.
    fn not_full(&self) -> Condition {
        self.full.iter().fold(Condition::all(), |all, place| {
            let (queue, key) = place;
            let other_key = match key {
                Some(key) => Condition::any().add(Column::ConcurrencyKey.is_null()).add(Column::ConcurrencyKey.ne(key)),
                None => Condition::any().add(Column::ConcurrencyKey.is_not_null()),
            };
            let taken = self.taken.get(place).copied().unwrap_or(0);
            let has_room = Condition::any().add(Column::QueueLimit.is_null()).add(Column::QueueLimit.gt(taken));
            all.add(Condition::any().add(Column::QueueName.ne(queue)).add(other_key).add(has_room))
        })
    }

    fn take(&mut self, waiting: Waiting) {
        if let Some(taken) = self.taken.get_mut(&(waiting.queue_name, waiting.concurrency_key)) {
            *taken += 1;
        }
    }
}

/// A run whose time has run out is left to the clock, which tells those who must know.
async fn assign(
    tx: &DatabaseTransaction,
    waiting: &Waiting,
    request: &DequeueRequest,
    now: Timestamp,
) -> Result<Option<Assignment>> {
    let id = RunId::parse(&waiting.id).map_err(Error::internal)?;
    let mut run = runs::locked(tx, &id).await?;
    if is_over_time(&run, now) {
        return Ok(None);
    }
    let dequeue = RunCommand::Dequeue { worker: request.worker.clone(), lease_until: request.lease_until };
    runs::apply(tx, &mut run, dequeue, now).await?;
    let resumed_by = match &run.waiting_on {
        Some(waitpoint) => waitpoints::one(tx, waitpoint::Entity::find_by_id(waitpoint.as_str())).await?,
        None => None,
    };
    Ok(Some(Assignment { run, resumed_by }))
}

fn is_over_time(run: &Run, now: Timestamp) -> bool {
    [run.expires_at(), run.stop_by].into_iter().flatten().any(|at| at <= now)
}
