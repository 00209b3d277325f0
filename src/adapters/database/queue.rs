//! Handing out runs: by priority, then by how long they have been available; never more of a queue than its limit.

use crate::convert;
use crate::entity::run::{self, Column};
use crate::entity::waitpoint;
use crate::error::failed;
use crate::{locks, runs, waitpoints};
use continuo_domain::run::{Assignment, Run, RunCommand, RunStatus};
use continuo_domain::{EnvironmentId, Result, Timestamp};
use continuo_ports::run_store::DequeueRequest;
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult};
use sea_orm::{PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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

    fn place(&self) -> Place {
        (self.queue_name.clone(), self.concurrency_key.clone())
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

/// Hands out runs, each to this worker only. On Postgres many do this at once: a run that another transaction holds is passed
/// over, and places with a limit are counted by one at a time. SQLite has one writer.
pub(crate) async fn dequeue(
    tx: &DatabaseTransaction,
    request: DequeueRequest,
    now: Timestamp,
) -> Result<Vec<Assignment>> {
    // A set: a task named twice is one lane.
    let tasks: BTreeSet<&str> = request.task_identifiers.iter().map(String::as_str).collect();
    let mut lanes: Vec<_> = tasks.into_iter().map(Lane::new).collect();
    let mut room = Room::new(&request.environment);
    let mut assignments = Vec::new();
    let mut in_turn = Vec::new();
    while assignments.len() < request.capacity as usize {
        let batch = room.choose(tx, &mut in_turn).await?;
        if batch.is_empty() {
            // What is left stands in full places.
            in_turn = next_in_turn(tx, &mut lanes, &room, now).await?;
            if in_turn.is_empty() {
                break;
            }
            room.reserve(tx, &in_turn).await?;
            continue;
        }
        let wanted = request.capacity as usize - assignments.len();
        let taken = take(tx, &batch, wanted, now).await?;
        if let Some(last) = taken.get(wanted - 1) {
            let beyond = batch.into_iter().skip_while(|waiting| waiting.id != last.spec.id.as_str()).skip(1);
            in_turn.extend(beyond);
            in_turn.sort_by(|a, b| a.turn().cmp(&b.turn()));
        }
        for run in taken {
            if let Some(assignment) = assign(tx, run, &request, now).await? {
                room.take(&assignment.run);
                assignments.push(assignment);
            }
        }
    }
    Ok(assignments)
}

/// The runs that come next, of all lanes together, up to where one of them must be read further.
async fn next_in_turn(
    tx: &DatabaseTransaction,
    lanes: &mut [Lane<'_>],
    room: &Room<'_>,
    now: Timestamp,
) -> Result<Vec<Waiting>> {
    for lane in lanes.iter_mut() {
        lane.refill(tx, room, now).await?;
    }
    let mut in_turn = Vec::new();
    while lanes.iter().all(|lane| lane.is_over || !lane.chunk.is_empty()) {
        let next = lanes.iter_mut().filter(|lane| !lane.chunk.is_empty());
        let next = next.min_by(|a, b| a.chunk.last().map(Waiting::turn).cmp(&b.chunk.last().map(Waiting::turn)));
        let Some(waiting) = next.and_then(|lane| lane.chunk.pop()) else { break };
        in_turn.push(waiting);
    }
    Ok(in_turn)
}

/// The first of these that wait still and that no other transaction holds.
async fn take(tx: &DatabaseTransaction, batch: &[Waiting], wanted: usize, now: Timestamp) -> Result<Vec<Run>> {
    let free = run::Entity::find()
        .filter(Column::Id.is_in(batch.iter().map(|waiting| waiting.id.as_str())))
        .filter(Column::AvailableAtMs.lte(now.0))
        .order_by_desc(Column::Priority)
        .order_by_asc(Column::AvailableAtMs)
        .order_by_asc(Column::Id)
        .limit(wanted as u64)
        .lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    runs::all_locked(tx, free).await
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

/// A queue and a concurrency key.
type Place = (String, Option<String>);

/// How many runs of each place are out, counted once and kept up to date.
struct Room<'a> {
    environment: &'a EnvironmentId,
    taken: HashMap<Place, i64>,
    /// Places where a run was refused for want of room.
    full: Vec<Place>,
    /// Places with a limit that nobody else hands out from until this transaction ends.
    reserved: BTreeSet<Place>,
}

impl<'a> Room<'a> {
    fn new(environment: &'a EnvironmentId) -> Self {
        Self { environment, taken: HashMap::new(), full: Vec::new(), reserved: BTreeSet::new() }
    }

    /// Keeps others from counting the places of these runs, as far as they have a limit. The first time it waits for them,
    /// in an order that all keep; later, where waiting could be in a circle, what another has is passed over as full.
    async fn reserve(&mut self, tx: &DatabaseTransaction, waiting: &[Waiting]) -> Result<()> {
        let limited = waiting.iter().filter(|waiting| waiting.queue_limit.is_some()).map(Waiting::place);
        let new: BTreeSet<Place> = limited.filter(|place| !self.reserved.contains(place)).collect();
        if new.is_empty() || tx.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let names = new.iter().map(|place| (self.name(place), place.clone()));
        let names: BTreeMap<String, Place> = names.collect();
        let texts: Vec<_> = names.keys().cloned().collect();
        if self.reserved.is_empty() {
            locks::all(tx, &texts).await?;
            self.reserved = new;
            return Ok(());
        }
        let ours = locks::those_free(tx, &texts).await?;
        for (name, place) in names {
            if ours.contains(&name) {
                self.reserved.insert(place);
            } else {
                self.taken.insert(place, i64::MAX);
            }
        }
        Ok(())
    }

    /// Names a place for its lock.
    fn name(&self, (queue, key): &Place) -> String {
        let key = key.as_ref().map_or_else(String::new, |key| format!(" key {key}"));
        format!("queue {} {}:{queue}{key}", self.environment, queue.len())
    }

    /// Moves out of the runs in turn those that have room, together.
    async fn choose(&mut self, tx: &DatabaseTransaction, in_turn: &mut Vec<Waiting>) -> Result<Vec<Waiting>> {
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        let mut promised: HashMap<Place, i64> = HashMap::new();
        for waiting in in_turn.drain(..) {
            let Some(limit) = waiting.queue_limit else {
                chosen.push(waiting);
                continue;
            };
            let place = waiting.place();
            let taken = self.count(tx, &place).await?;
            let promised = promised.entry(place.clone()).or_default();
            if taken.saturating_add(*promised) < limit {
                *promised += 1;
                chosen.push(waiting);
                continue;
            }
            if taken >= limit && self.full.len() < FULL_MAX && !self.full.contains(&place) {
                self.full.push(place);
            }
            left.push(waiting);
        }
        *in_turn = left;
        Ok(chosen)
    }

    async fn count(&mut self, tx: &DatabaseTransaction, place: &Place) -> Result<i64> {
        if let Some(taken) = self.taken.get(place) {
            return Ok(*taken);
        }
        let key = Column::ConcurrencyKey;
        let same_key = place.1.as_ref().map_or_else(|| key.is_null(), |value| key.eq(value));
        let out = [RunStatus::Dequeued, RunStatus::Executing].map(RunStatus::as_str);
        let taken = run::Entity::find()
            .filter(Column::EnvironmentId.eq(self.environment.as_str()))
            .filter(Column::QueueName.eq(&place.0))
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

    fn take(&mut self, run: &Run) {
        if let Some(taken) = self.taken.get_mut(&(run.queue(), run.spec.concurrency_key.clone())) {
            *taken += 1;
        }
    }
}

/// A run whose time has run out is left to the clock, which tells those who must know.
async fn assign(
    tx: &DatabaseTransaction,
    mut run: Run,
    request: &DequeueRequest,
    now: Timestamp,
) -> Result<Option<Assignment>> {
    if is_over_time(&run, now) {
        return Ok(None);
    }
    let DequeueRequest { worker, link, lease_until, .. } = request.clone();
    let dequeue = RunCommand::Dequeue { worker, link, lease_until };
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
