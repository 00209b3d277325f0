//! A trigger: the token it spends, the run it makes or finds, the parent that waits for it.

use crate::entity::{run, run_payload, spent_token};
use crate::error::{again, failed};
use crate::{convert, run_store, runs, waitpoints};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::OneTimeToken;
use continuo_domain::run::{NewRun, Run, RunCommand};
use continuo_domain::waitpoint::{Waitpoint, WaitpointKind};
use continuo_domain::{EnvironmentId, Error, Result, Timestamp};
use continuo_ports::run_store::{Applied, NewTrigger, ParentWait, Triggered};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType, OnConflict, Query};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};

/// How much longer a spent token is remembered than it counts: replicas' clocks differ.
const SPENT_GRACE_MS: u64 = 60_000;

pub(crate) async fn trigger(tx: &DatabaseTransaction, trigger: NewTrigger, now: Timestamp) -> Result<Triggered> {
    let NewTrigger { run, one_time_token, wait } = trigger;
    if let Some(token) = one_time_token {
        spend(tx, &run.environment, token, now).await?;
    }
    let parent = run.parent.clone();
    let (row, is_cached) = make_or_find(tx, run, now).await?;
    let wait = match (wait, parent) {
        (Some(wait), Some(parent)) => Some(suspend(tx, &row, parent.run, wait, now).await?),
        _ => None,
    };
    Ok(Triggered { row, is_cached, wait })
}

/// The row is what makes the second use fail, whoever is first. Tokens that are over are forgotten on the way.
async fn spend(
    tx: &DatabaseTransaction,
    environment: &EnvironmentId,
    token: OneTimeToken,
    now: Timestamp,
) -> Result<()> {
    // Those that another transaction forgets just now are left to it.
    let over = Query::select()
        .column(spent_token::Column::Id)
        .from(spent_token::Entity)
        .and_where(spent_token::Column::ExpiresAtMs.lte(now.0))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .to_owned();
    let forget = spent_token::Entity::delete_many().filter(spent_token::Column::Id.in_subquery(over));
    forget.exec(tx).await.map_err(failed)?;
    let row = spent_token::ActiveModel {
        id: Set(token.id),
        environment_id: Set(environment.to_string()),
        expires_at_ms: Set(token.expires_at.plus_ms(SPENT_GRACE_MS).0),
    };
    let spent = spent_token::Entity::insert(row)
        .on_conflict(OnConflict::column(spent_token::Column::Id).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    if spent == 0 { Err(Error::Unauthenticated(CredentialProblem::InvalidToken)) } else { Ok(()) }
}

async fn make_or_find(tx: &DatabaseTransaction, new: NewRun, now: Timestamp) -> Result<(Run, bool)> {
    if let Some(found) = claim_key(tx, &new, now).await? {
        return Ok((found, true));
    }
    if let Some(found) = absorb(tx, &new, now).await? {
        return Ok((found, true));
    }
    let claims = runs::Claims {
        idempotency: new.idempotency_key.clone(),
        debounce: new.debounce.as_ref().map(|debounce| debounce.key.clone()),
    };
    let run = Run::new(new, 0, now);
    // On Postgres another trigger may have taken a key since: the transaction is run again and finds that one's run.
    if runs::insert_unless_claimed(tx, &run, claims).await? { Ok((run, false)) } else { Err(again()) }
}

/// The run that holds the key, if the key still counts. One for which it does not gives it up.
async fn claim_key(tx: &DatabaseTransaction, new: &NewRun, now: Timestamp) -> Result<Option<Run>> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let holder = run::Entity::find()
        .filter(run::Column::EnvironmentId.eq(new.environment.as_str()))
        .filter(run::Column::TaskIdentifier.eq(&new.task_identifier))
        .filter(run::Column::IdempotencyClaim.eq(key))
        .lock_exclusive();
    let Some(holder) = runs::one_locked(tx, holder).await? else { return Ok(None) };
    let counts_until = holder.spec.idempotency_key_ttl_ms.map(|ttl| holder.created_at.plus_ms(ttl));
    if counts_until.is_none_or(|at| at > now) {
        return Ok(Some(holder));
    }
    give_up(tx, run::Column::IdempotencyClaim, &holder).await?;
    Ok(None)
}

/// The delayed run that takes the trigger in, if there is one. One that cannot any more gives its key up.
async fn absorb(tx: &DatabaseTransaction, new: &NewRun, now: Timestamp) -> Result<Option<Run>> {
    let Some(debounce) = &new.debounce else { return Ok(None) };
    let holder = run::Entity::find()
        .filter(run::Column::EnvironmentId.eq(new.environment.as_str()))
        .filter(run::Column::TaskIdentifier.eq(&new.task_identifier))
        .filter(run::Column::DebounceClaim.eq(&debounce.key))
        .lock_exclusive();
    let Some(mut holder) = runs::one_locked(tx, holder).await? else { return Ok(None) };
    let (before, payload) = (convert::run_row(&holder), holder.spec.payload.clone());
    if !holder.absorb(new, now) {
        give_up(tx, run::Column::DebounceClaim, &holder).await?;
        return Ok(None);
    }
    runs::save(tx, before, &holder).await?;
    if holder.spec.payload != payload {
        run_payload::Entity::update(runs::payload_row(&holder)).exec_without_returning(tx).await.map_err(failed)?;
    }
    Ok(Some(holder))
}

async fn give_up(tx: &DatabaseTransaction, claim: run::Column, holder: &Run) -> Result<()> {
    let give_up = run::Entity::update_many()
        .col_expr(claim, Expr::val(None::<String>))
        .filter(run::Column::Id.eq(holder.spec.id.as_str()));
    give_up.exec(tx).await.map(drop).map_err(failed)
}

/// The parent waits for the run's end, which may be behind us.
async fn suspend(
    tx: &DatabaseTransaction,
    run: &Run,
    parent: continuo_domain::RunId,
    wait: ParentWait,
    now: Timestamp,
) -> Result<(Waitpoint, Applied)> {
    let completion = run.completion();
    let waitpoint = Waitpoint {
        id: wait.waitpoint.clone(),
        environment: run.spec.environment.clone(),
        kind: WaitpointKind::Run,
        run: Some(parent.clone()),
        channel: None,
        awaited_run: Some(run.spec.id.clone()),
        idempotency_key: None,
        idempotency_key_expires_at: None,
        tags: Vec::new(),
        timeout_at: None,
        completed_at: completion.as_ref().map(|_| now),
        completion,
        created_at: now,
    };
    let waitpoint = waitpoints::create(tx, waitpoint).await?.row;
    let suspend = RunCommand::Suspend { holder: wait.holder, waitpoint: wait.waitpoint };
    let applied = run_store::apply(tx, run.spec.environment.clone(), parent, suspend, now).await?;
    Ok((waitpoint, applied))
}
