//! Waitpoints and their registrations.

use crate::convert::{self, ms};
use crate::entity::{registration, run, waitpoint};
use crate::error::{again, failed};
use crate::list::any_tag;
use crate::{locks, runs};
use continuo_domain::channel::{ChannelKey, SeqNum};
use continuo_domain::run::{RunCommand, RunStatus};
use continuo_domain::session::{ExternalId, SessionRef};
use continuo_domain::waitpoint::{ChannelWait, Completion, WaitedSession, Waitpoint};
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp, WaitpointId};
use continuo_ports::run_store::{Applied, MadeOrFound, WaitpointCompleted, WaitpointFilter, WaitpointState};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockType, OnConflict, Query};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select};

pub(crate) async fn all<C: ConnectionTrait>(
    connection: &C,
    select: Select<waitpoint::Entity>,
) -> Result<Vec<Waitpoint>> {
    select.all(connection).await.map_err(failed)?.into_iter().map(convert::waitpoint).collect()
}

pub(crate) async fn one<C: ConnectionTrait>(
    connection: &C,
    select: Select<waitpoint::Entity>,
) -> Result<Option<Waitpoint>> {
    select.one(connection).await.map_err(failed)?.map(convert::waitpoint).transpose()
}

pub(crate) fn by_id(environment: &EnvironmentId, id: &WaitpointId) -> Select<waitpoint::Entity> {
    waitpoint::Entity::find_by_id(id.as_str()).filter(waitpoint::Column::EnvironmentId.eq(environment.as_str()))
}

/// Makes the row and its registration. A name that a session has by now is bound at once: the create that bound what was
/// registered under the name may have come first.
pub(crate) async fn create(tx: &DatabaseTransaction, mut waitpoint: Waitpoint) -> Result<MadeOrFound<Waitpoint>> {
    if let Some(found) = claim_key(tx, &waitpoint).await? {
        return Ok(MadeOrFound { row: found, is_cached: true });
    }
    if let Some(wait) = &mut waitpoint.channel {
        bind_if_named(tx, &waitpoint.environment, wait).await?;
    }
    let row = waitpoint::ActiveModel {
        idempotency_claim: Set(waitpoint.idempotency_key.clone()),
        ..convert::waitpoint_row(&waitpoint)
    };
    let key = [waitpoint::Column::EnvironmentId, waitpoint::Column::IdempotencyClaim];
    let inserted = waitpoint::Entity::insert(row)
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    if inserted == 0 {
        // Whoever has the key now may have given it up between the two statements.
        let found = claim_key(tx, &waitpoint).await?.ok_or_else(again)?;
        return Ok(MadeOrFound { row: found, is_cached: true });
    }
    if let Some(wait) = waitpoint.channel.as_ref().filter(|_| waitpoint.is_open()) {
        let registration = registration::Entity::insert(convert::registration_row(&waitpoint, wait));
        registration.exec_without_returning(tx).await.map_err(failed)?;
    }
    Ok(MadeOrFound { row: waitpoint, is_cached: false })
}

/// The waitpoint that holds the key, if the key still counts when the new one is made. One that does not gives it up.
async fn claim_key(tx: &DatabaseTransaction, new: &Waitpoint) -> Result<Option<Waitpoint>> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let holder = waitpoint::Entity::find()
        .filter(waitpoint::Column::EnvironmentId.eq(new.environment.as_str()))
        .filter(waitpoint::Column::IdempotencyClaim.eq(key))
        .lock_exclusive();
    let Some(holder) = one(tx, holder).await? else { return Ok(None) };
    if holder.idempotency_key_expires_at.is_none_or(|at| at > new.created_at) {
        return Ok(Some(holder));
    }
    let give_up = waitpoint::Entity::update_many()
        .col_expr(waitpoint::Column::IdempotencyClaim, Expr::val(None::<String>))
        .filter(waitpoint::Column::Id.eq(holder.id.as_str()));
    give_up.exec(tx).await.map_err(failed)?;
    Ok(None)
}

async fn bind_if_named(tx: &DatabaseTransaction, environment: &EnvironmentId, wait: &mut ChannelWait) -> Result<()> {
    let WaitedSession::Name(name) = &wait.session else { return Ok(()) };
    locks::exclusive(tx, &name_lock(environment, name)).await?;
    let reference = SessionRef::External(ExternalId::trusted(name.clone()));
    if let Some(session) = crate::sessions::one(tx, crate::sessions::by_ref(environment, &reference)).await? {
        wait.session = WaitedSession::Id(session.id);
    }
    Ok(())
}

/// The lock under which a wait looks for the session of a name and is registered. A session that takes the name takes the
/// lock too, shared, before it looks for waits: so one of the two sees the other.
pub(crate) fn name_lock(environment: &EnvironmentId, name: &str) -> String {
    format!("name {environment} {name}")
}

/// Keeps waits by this name from being made until the transaction ends, and waits for those that are being made.
pub(crate) async fn hold_name(tx: &DatabaseTransaction, environment: &EnvironmentId, name: &str) -> Result<()> {
    locks::shared(tx, &name_lock(environment, name)).await
}

/// Gives the waits registered under a name, which is held, to the session that has it now. Rows are locked in the order of
/// `complete`: the wait before its registration.
pub(crate) async fn bind(
    tx: &DatabaseTransaction,
    environment: &EnvironmentId,
    name: &str,
    session: &SessionId,
) -> Result<()> {
    let registered = registration::Entity::find()
        .filter(registration::Column::EnvironmentId.eq(environment.as_str()))
        .filter(registration::Column::SessionName.eq(name))
        .all(tx)
        .await
        .map_err(failed)?;
    if registered.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = registered.into_iter().map(|row| row.waitpoint_id).collect();
    waitpoint::Entity::update_many()
        .col_expr(waitpoint::Column::SessionId, Expr::val(session.as_str()))
        .col_expr(waitpoint::Column::SessionName, Expr::val(None::<String>))
        .filter(waitpoint::Column::Id.is_in(&ids))
        .exec(tx)
        .await
        .map_err(failed)?;
    registration::Entity::update_many()
        .col_expr(registration::Column::SessionId, Expr::val(session.as_str()))
        .col_expr(registration::Column::SessionName, Expr::val(None::<String>))
        .filter(registration::Column::WaitpointId.is_in(&ids))
        .exec(tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Deletes the waits on a session's channels; their registrations go with them. One that ended with an error holds nothing
/// of the session, and a run may be about to be told of it.
pub(crate) async fn delete_of(tx: &DatabaseTransaction, session: &SessionId) -> Result<()> {
    let waits = waitpoint::Entity::delete_many()
        .filter(waitpoint::Column::SessionId.eq(session.as_str()))
        .filter(waitpoint::Column::OutputIsError.eq(false));
    waits.exec(tx).await.map(drop).map_err(failed)
}

/// Open to complete is one conditional update; whoever makes it queues the runs.
pub(crate) async fn complete(
    tx: &DatabaseTransaction,
    id: WaitpointId,
    completion: Completion,
    now: Timestamp,
) -> Result<WaitpointCompleted> {
    let completed = waitpoint::Entity::update_many()
        .col_expr(waitpoint::Column::CompletedAtMs, Expr::val(now.0))
        .col_expr(waitpoint::Column::Output, Expr::val(completion.output))
        .col_expr(waitpoint::Column::OutputType, Expr::val(completion.output_type))
        .col_expr(waitpoint::Column::OutputIsError, Expr::val(completion.is_error))
        .filter(waitpoint::Column::Id.eq(id.as_str()))
        .filter(waitpoint::Column::CompletedAtMs.is_null())
        .exec(tx)
        .await
        .map_err(failed)?;
    let is_first = completed.rows_affected == 1;
    let row = one(tx, waitpoint::Entity::find_by_id(id.as_str())).await?.ok_or(Error::WaitpointNotFound)?;
    let mut resumed = Vec::new();
    if is_first {
        registration::Entity::delete_by_id(id.as_str()).exec(tx).await.map_err(failed)?;
        let suspended = run::Entity::find()
            .filter(run::Column::WaitingOn.eq(id.as_str()))
            .filter(run::Column::Status.eq(RunStatus::WaitingToResume.as_str()))
            .order_by_desc(run::Column::Depth)
            .order_by_asc(run::Column::Id)
            .lock(LockType::NoKeyUpdate);
        for mut run in runs::all_locked(tx, suspended).await? {
            let effects = runs::apply(tx, &mut run, RunCommand::Resume { waitpoint: id.clone() }, now).await?;
            if !effects.change.is_noop {
                resumed.push(Applied { run, change: effects.change, others: effects.others });
            }
        }
    }
    Ok(WaitpointCompleted { waitpoint: row, is_first, resumed })
}

/// Who waits for the end of a run.
pub(crate) fn open_for_run(run: &RunId) -> Select<waitpoint::Entity> {
    waitpoint::Entity::find()
        .filter(waitpoint::Column::AwaitedRunId.eq(run.as_str()))
        .filter(waitpoint::Column::CompletedAtMs.is_null())
        .order_by_asc(waitpoint::Column::Id)
}

/// Every filter narrows; within one filter any value will do.
pub(crate) fn matching(
    backend: DbBackend,
    environment: &EnvironmentId,
    filter: &WaitpointFilter,
) -> Select<waitpoint::Entity> {
    let mut all = Condition::all().add(waitpoint::Column::EnvironmentId.eq(environment.as_str()));
    if !filter.kinds.is_empty() {
        all = all.add(waitpoint::Column::Kind.is_in(filter.kinds.iter().map(|kind| kind.as_str())));
    }
    if !filter.states.is_empty() {
        all = all.add(filter.states.iter().fold(Condition::any(), |any, state| any.add(is_in_state(*state))));
    }
    if let Some(key) = &filter.idempotency_key {
        all = all.add(waitpoint::Column::IdempotencyKey.eq(key));
    }
    if !filter.tags.is_empty() {
        all = all.add(any_tag(backend, "waitpoint.tags", &filter.tags));
    }
    if let Some(from) = filter.created_from {
        all = all.add(waitpoint::Column::CreatedAtMs.gte(from.0));
    }
    if let Some(to) = filter.created_to {
        all = all.add(waitpoint::Column::CreatedAtMs.lte(to.0));
    }
    waitpoint::Entity::find().filter(all)
}

fn is_in_state(state: WaitpointState) -> Condition {
    let (completed_at, is_error) = (waitpoint::Column::CompletedAtMs, waitpoint::Column::OutputIsError);
    match state {
        WaitpointState::Open => Condition::all().add(completed_at.is_null()),
        WaitpointState::Completed => Condition::all().add(completed_at.is_not_null()).add(is_error.eq(false)),
        WaitpointState::Failed => Condition::all().add(completed_at.is_not_null()).add(is_error.eq(true)),
    }
}

/// Waits satisfied by a record at `seq_num`. Named channels have none.
pub(crate) fn open_on(channel: &ChannelKey, seq_num: SeqNum) -> Select<waitpoint::Entity> {
    let registered = Query::select()
        .column(registration::Column::WaitpointId)
        .from(registration::Entity)
        .and_where(registration::Column::SessionId.eq(channel.session.as_str()))
        .and_where(registration::Column::Direction.eq(channel.direction.as_str()))
        .and_where(registration::Column::FromSeqNum.lte(convert::int(seq_num)))
        .to_owned();
    open_among(registered)
}

/// Waits on any of these channels, whatever record they wait for.
pub(crate) fn open_on_any(channels: &[ChannelKey]) -> Select<waitpoint::Entity> {
    let one = |channel: &ChannelKey| {
        Condition::all()
            .add(registration::Column::SessionId.eq(channel.session.as_str()))
            .add(registration::Column::Direction.eq(channel.direction.as_str()))
    };
    let registered = Query::select()
        .column(registration::Column::WaitpointId)
        .from(registration::Entity)
        .cond_where(channels.iter().fold(Condition::any(), |any, channel| any.add(one(channel))))
        .to_owned();
    open_among(registered)
}

/// Waits on any channel of any session that exists, by id.
pub(crate) fn open_after(after: Option<&WaitpointId>, limit: u32) -> Select<waitpoint::Entity> {
    let mut bound = Condition::all().add(registration::Column::SessionId.is_not_null());
    if let Some(after) = after {
        bound = bound.add(registration::Column::WaitpointId.gt(after.as_str()));
    }
    let registered = Query::select()
        .column(registration::Column::WaitpointId)
        .from(registration::Entity)
        .cond_where(bound)
        .order_by(registration::Column::WaitpointId, sea_orm::Order::Asc)
        .limit(u64::from(limit))
        .to_owned();
    open_among(registered)
}

fn open_among(registered: sea_orm::sea_query::SelectStatement) -> Select<waitpoint::Entity> {
    waitpoint::Entity::find()
        .filter(waitpoint::Column::Id.in_subquery(registered))
        .filter(waitpoint::Column::CompletedAtMs.is_null())
        .order_by_asc(waitpoint::Column::Id)
}

pub(crate) fn timed_out(now: Timestamp, limit: u32) -> Select<waitpoint::Entity> {
    waitpoint::Entity::find()
        .filter(waitpoint::Column::CompletedAtMs.is_null())
        .filter(waitpoint::Column::TimeoutAtMs.lte(ms(Some(now))))
        .order_by_asc(waitpoint::Column::TimeoutAtMs)
        .order_by_asc(waitpoint::Column::Id)
        .limit(u64::from(limit))
}
