//! `SessionStore` on SQL.

use crate::convert::{self, int};
use crate::entity::{run, session, session_channel, session_run};
use crate::error::{again, damaged, failed, failed_unless_taken};
use crate::{SqlStore, runs, sessions, waitpoints};
use async_trait::async_trait;
use continuo_domain::channel::ChannelName;
use continuo_domain::claim::NewClaim;
use continuo_domain::run::{NewRun, Run, RunStatus};
use continuo_domain::session::{ExternalId, TriggerConfig};
use continuo_domain::session::{NewSession, Session, SessionPatch, SessionRef, SessionRun, SessionStatus};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::session_store::Upserted;
use continuo_ports::session_store::{BootEvent, Claim, ClaimRun, Closed, Created, NamedChannel, Probe, SessionStore};
use futures_util::FutureExt;
use sea_orm::sea_query::{Expr, OnConflict, Query, UnionType};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, JoinType};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use std::collections::HashMap;

#[async_trait]
impl SessionStore for SqlStore {
    async fn upsert(&self, session: NewSession, now: Timestamp) -> Result<Upserted> {
        let session = Session::new(session, now);
        // Most creates of a name find it: those need no turn at the writer.
        if let Some(found) = find_same_name(self.database.readers(), &session).await? {
            return Ok(Upserted { session: found, is_new: false });
        }
        self.database.write(move |tx| upsert(tx, session).boxed()).await
    }

    async fn create(&self, session: NewSession, first_run: NewRun, now: Timestamp) -> Result<Created> {
        self.create_with_run(session, first_run, now).await
    }

    async fn probe(
        &self,
        environment: &EnvironmentId,
        session: &SessionRef,
        claim: Option<NewClaim>,
    ) -> Result<Option<Probe>> {
        self.look(environment, session, claim).await
    }

    async fn without_live_run(&self, sessions: &[SessionId]) -> Result<Vec<Session>> {
        let ids = sessions.iter().map(SessionId::as_str);
        let open = with_run_over().filter(session::Column::Id.is_in(ids));
        sessions::all(self.database.readers(), open.filter(session::Column::ClosedAtMs.is_null())).await
    }

    async fn get(&self, environment: &EnvironmentId, session: &SessionRef) -> Result<Option<Session>> {
        sessions::one(self.database.readers(), sessions::by_ref(environment, session)).await
    }

    async fn refresh_trigger_config(
        &self,
        session: &SessionId,
        config: TriggerConfig,
        now: Timestamp,
    ) -> Result<Session> {
        let id = session.clone();
        self.change(id, now, move |session| {
            if session.status(now) == SessionStatus::Active {
                session.trigger_config = config;
            }
        })
        .await
    }

    async fn update(&self, session: &SessionId, patch: SessionPatch, now: Timestamp) -> Result<Session> {
        let id = session.clone();
        self.database.write(move |tx| update(tx, id, patch, now).boxed()).await
    }

    async fn close(&self, session: &SessionId, reason: Option<String>, now: Timestamp) -> Result<Closed> {
        let id = session.clone();
        self.database.write(move |tx| close(tx, id, reason, now).boxed()).await
    }

    async fn finish_close(&self, session: &SessionId) -> Result<()> {
        let id = session.clone();
        // `updated_at` stays: every close of a session answers with the same row.
        let finish = session::Entity::update_many()
            .col_expr(session::Column::CloseFinished, Expr::val(true))
            .filter(session::Column::Id.eq(id.as_str()))
            .filter(session::Column::ClosedAtMs.is_not_null());
        self.database
            .write(move |tx| {
                async move {
                    let is_done = finish.exec(tx).await.map_err(failed)?.rows_affected == 1;
                    if is_done { Ok(()) } else { sessions::locked(tx, &id).await.map(drop) }
                }
                .boxed()
            })
            .await
    }

    async fn unfinished_closes(&self, limit: u32) -> Result<Vec<Session>> {
        let select = session::Entity::find()
            .filter(session::Column::ClosedAtMs.is_not_null())
            .filter(session::Column::CloseFinished.eq(false))
            .order_by_asc(session::Column::ClosedAtMs)
            .order_by_asc(session::Column::Id)
            .limit(u64::from(limit));
        sessions::all(self.database.readers(), select).await
    }

    async fn delete(&self, session: &SessionId) -> Result<bool> {
        let id = session.clone();
        self.database
            .write(move |tx| {
                async move {
                    waitpoints::delete_of(tx, &id).await?;
                    let deleted = session::Entity::delete_by_id(id.as_str()).exec(tx).await.map_err(failed)?;
                    Ok(deleted.rows_affected == 1)
                }
                .boxed()
            })
            .await
    }

    async fn claim_run(&self, claim: ClaimRun, now: Timestamp) -> Result<Claim> {
        self.database.write(move |tx| claim_run(tx, claim, now).boxed()).await
    }

    async fn session_runs(&self, session: &SessionId) -> Result<Vec<(SessionRun, Run)>> {
        let snapshot = self.database.snapshot().await?;
        let audit = session_run::Entity::find()
            .filter(session_run::Column::SessionId.eq(session.as_str()))
            .order_by_asc(session_run::Column::Version);
        let audit = audit.all(&snapshot).await.map_err(failed)?;
        let ids = audit.iter().map(|row| row.run_id.as_str());
        let found = runs::all(&snapshot, run::Entity::find().filter(run::Column::Id.is_in(ids))).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|run| (run.spec.id.clone(), run)).collect();
        let mut pairs = Vec::with_capacity(audit.len());
        for row in audit {
            let audit = convert::session_run(row)?;
            let missing = || damaged("session_run", audit.run.as_str(), "its run is missing");
            let run = found.remove(&audit.run).ok_or_else(missing)?;
            pairs.push((audit, run));
        }
        Ok(pairs)
    }

    async fn note_boot(&self, session: &SessionId, event: BootEvent, now: Timestamp) -> Result<Session> {
        self.change(session.clone(), now, move |session| note(session, event, now)).await
    }

    async fn sessions_without_live_run(
        &self,
        since: Timestamp,
        now: Timestamp,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>> {
        let mut candidates = without_live_run(since, now).limit(u64::from(limit));
        if let Some(after) = after {
            candidates = candidates.filter(session::Column::Id.gt(after.as_str()));
        }
        sessions::all(self.database.readers(), candidates).await
    }

    async fn register_channel(&self, session: &SessionId, name: &ChannelName) -> Result<bool> {
        let (id, name) = (session.clone(), name.as_str().to_owned());
        self.database.write(move |tx| register_channel(tx, id, name).boxed()).await
    }

    async fn channels(&self, session: &SessionId) -> Result<Vec<ChannelName>> {
        let rows = session_channel::Entity::find()
            .filter(session_channel::Column::SessionId.eq(session.as_str()))
            .order_by_asc(session_channel::Column::Name)
            .all(self.database.readers());
        let name = |row| named_channel(row).map(|channel| channel.name);
        rows.await.map_err(failed)?.into_iter().map(name).collect()
    }

    async fn set_max_age(&self, session: &SessionId, name: &ChannelName, max_age_seconds: u64) -> Result<()> {
        let update = session_channel::Entity::update_many()
            .col_expr(session_channel::Column::MaxAgeSeconds, Expr::value(int(max_age_seconds)))
            .filter(session_channel::Column::SessionId.eq(session.as_str()))
            .filter(session_channel::Column::Name.eq(name.as_str()));
        self.database.write_one(update.build(self.database.backend())).await.map(drop)
    }

    async fn named_channels(
        &self,
        only_aging: bool,
        after: Option<&NamedChannel>,
        limit: u32,
    ) -> Result<Vec<NamedChannel>> {
        use session_channel::Column::{MaxAgeSeconds, Name, SessionId};
        let mut wanted = session_channel::Entity::find();
        if only_aging {
            wanted = wanted.filter(MaxAgeSeconds.is_not_null());
        }
        if let Some(after) = after {
            let session = after.session.as_str();
            let later_name = Condition::all().add(SessionId.eq(session)).add(Name.gt(after.name.as_str()));
            wanted = wanted.filter(Condition::any().add(SessionId.gt(session)).add(later_name));
        }
        let page = wanted.order_by_asc(SessionId).order_by_asc(Name).limit(u64::from(limit));
        page.all(self.database.readers()).await.map_err(failed)?.into_iter().map(named_channel).collect()
    }
}

fn named_channel(row: session_channel::Model) -> Result<NamedChannel> {
    let damage = |e| damaged("session_channel", &row.session_id, e);
    Ok(NamedChannel {
        session: SessionId::parse(&row.session_id).map_err(damage)?,
        name: ChannelName::parse(&row.name).map_err(damage)?,
        max_age_seconds: row.max_age_seconds.map(i64::unsigned_abs),
    })
}

impl SqlStore {
    /// Reads, changes and saves a row in one step. A change that changes nothing is not written.
    async fn change(
        &self,
        id: SessionId,
        now: Timestamp,
        change: impl FnOnce(&mut Session) + Clone + Send + 'static,
    ) -> Result<Session> {
        self.database
            .write(move |tx| {
                async move {
                    let before = sessions::locked(tx, &id).await?;
                    let mut session = before.clone();
                    change(&mut session);
                    if session != before {
                        session.updated_at = now;
                        sessions::save(tx, &session).await.map_err(failed)?;
                    }
                    Ok(session)
                }
                .boxed()
            })
            .await
    }
}

pub(crate) async fn find_same_name<C: ConnectionTrait>(connection: &C, session: &Session) -> Result<Option<Session>> {
    let Some(name) = &session.external_id else { return Ok(None) };
    let reference = SessionRef::External(name.clone());
    sessions::one(connection, sessions::by_ref(&session.tenant.environment, &reference)).await
}

pub(crate) async fn upsert(tx: &DatabaseTransaction, session: Session) -> Result<Upserted> {
    hold_name(tx, &session).await?;
    let name = [session::Column::EnvironmentId, session::Column::ExternalId];
    let inserted = session::Entity::insert(convert::session_row(&session))
        .on_conflict(OnConflict::columns(name).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    if inserted == 0 {
        // Between the two statements the row can only have gone, and only on Postgres: then the name is free.
        let found = find_same_name(tx, &session).await?.ok_or_else(again)?;
        return Ok(Upserted { session: found, is_new: false });
    }
    bind_waits(tx, &session).await?;
    Ok(Upserted { session, is_new: true })
}

async fn hold_name(tx: &DatabaseTransaction, session: &Session) -> Result<()> {
    let Some(name) = session.external_id.as_ref().map(ExternalId::as_str) else { return Ok(()) };
    waitpoints::hold_name(tx, &session.tenant.environment, name).await
}

async fn bind_waits(tx: &DatabaseTransaction, session: &Session) -> Result<()> {
    let Some(name) = session.external_id.as_ref().map(ExternalId::as_str) else { return Ok(()) };
    waitpoints::bind(tx, &session.tenant.environment, name, &session.id).await
}

/// A new name may be one that waits were registered under, as in a create.
async fn update(tx: &DatabaseTransaction, id: SessionId, patch: SessionPatch, now: Timestamp) -> Result<Session> {
    let before = sessions::locked(tx, &id).await?;
    let mut session = before.clone();
    session.tags = patch.tags.unwrap_or(session.tags);
    session.metadata = patch.metadata.unwrap_or(session.metadata);
    session.external_id = patch.external_id.unwrap_or(session.external_id);
    if session == before {
        return Ok(session);
    }
    session.updated_at = now;
    let is_renamed = session.external_id != before.external_id;
    if is_renamed {
        hold_name(tx, &session).await?;
    }
    let saved = sessions::save(tx, &session).await;
    saved.map_err(|e| failed_unless_taken(e, Error::ExternalIdTaken))?;
    if is_renamed {
        bind_waits(tx, &session).await?;
    }
    Ok(session)
}

async fn close(tx: &DatabaseTransaction, id: SessionId, reason: Option<String>, now: Timestamp) -> Result<Closed> {
    let closed = session::Entity::update_many()
        .col_expr(session::Column::ClosedAtMs, Expr::val(now.0))
        .col_expr(session::Column::ClosedReason, Expr::val(reason))
        .col_expr(session::Column::UpdatedAtMs, Expr::val(now.0))
        .filter(session::Column::Id.eq(id.as_str()))
        .filter(session::Column::ClosedAtMs.is_null())
        .exec(tx)
        .await
        .map_err(failed)?;
    let session = sessions::locked(tx, &id).await?;
    Ok(Closed { session, is_first: closed.rows_affected == 1 })
}

async fn claim_run(tx: &DatabaseTransaction, claim: ClaimRun, now: Timestamp) -> Result<Claim> {
    let ClaimRun { session: id, expected_version, expected_run, run, reason, trigger_config } = claim;
    let version = expected_version + 1;
    let mut update = session::Entity::update_many()
        .col_expr(session::Column::CurrentRunId, Expr::val(run.id.as_str()))
        .col_expr(session::Column::CurrentRunVersion, Expr::val(int(version)))
        .col_expr(session::Column::UpdatedAtMs, Expr::val(now.0))
        .filter(session::Column::Id.eq(id.as_str()))
        .filter(session::Column::ClosedAtMs.is_null())
        .filter(session::Column::CurrentRunVersion.eq(int(expected_version)));
    if let Some(expected) = &expected_run {
        update = update.filter(session::Column::CurrentRunId.eq(expected.as_str()));
    }
    let is_won = update.exec(tx).await.map_err(failed)?.rows_affected == 1;
    if !is_won {
        // A statement later every change is visible that this one lost against; losers need not wait for each other.
        let row = sessions::one(tx, session::Entity::find_by_id(id.as_str())).await?.ok_or(Error::SessionNotFound)?;
        return Ok(Claim::Lost(Box::new(row)));
    }
    let mut session = Box::new(sessions::locked(tx, &id).await?);
    if let Some(config) = trigger_config {
        session.trigger_config = config;
        sessions::save(tx, &session).await.map_err(failed)?;
    }
    let run = Run::new(NewRun { session: Some(id.clone()), ..run }, version, now);
    runs::insert(tx, &run).await?;
    let audit = SessionRun { session: id, run: run.spec.id.clone(), reason, version, triggered_at: now };
    let audit = session_run::Entity::insert(convert::session_run_row(&audit));
    audit.exec_without_returning(tx).await.map_err(failed)?;
    Ok(Claim::Won { session, run: Box::new(run) })
}

/// A position that does not go forward is a repeat, or a run that read again what others had read: no sign of a boot that
/// went well.
fn note(session: &mut Session, event: BootEvent, now: Timestamp) {
    let boot = &mut session.boot;
    match event {
        BootEvent::Read(seq_num) if seq_num > boot.read_seq_num => {
            boot.read_seq_num = seq_num;
            boot.succeeded();
        }
        BootEvent::Read(_) => {}
        BootEvent::BootedFor(tail) => boot.booted_tail_seq_num = boot.booted_tail_seq_num.max(tail),
        BootEvent::Owed => boot.owe(now),
        BootEvent::Settled => boot.settle(),
        BootEvent::Failed { run, error } if session.current_run.as_ref() == Some(&run) => boot.failed(now, &error),
        BootEvent::Failed { .. } => {}
    }
}

/// Three indexes name the few sessions in question: changed rows, ended runs, boots that are due.
pub(crate) fn without_live_run(since: Timestamp, now: Timestamp) -> sea_orm::Select<session::Entity> {
    let mut changed = Query::select()
        .column(session::Column::Id)
        .from(session::Entity)
        .and_where(session::Column::UpdatedAtMs.gte(since.0))
        .to_owned();
    let ended = Query::select()
        .column(run::Column::SessionId)
        .from(run::Entity)
        .and_where(run::Column::CompletedAtMs.gte(since.0))
        .and_where(run::Column::SessionId.is_not_null())
        .to_owned();
    let due = Query::select()
        .column(session::Column::Id)
        .from(session::Entity)
        .and_where(session::Column::BootRetryAtMs.lte(now.0))
        .to_owned();
    let candidates = changed.union(UnionType::Distinct, ended).union(UnionType::Distinct, due).to_owned();
    with_run_over()
        .filter(session::Column::Id.in_subquery(candidates))
        .filter(session::Column::ClosedAtMs.is_null())
        .filter(unexpired(now))
        .order_by_asc(session::Column::Id)
}

/// Sessions whose current run is over, or was never there.
fn with_run_over() -> sea_orm::Select<session::Entity> {
    let over = RunStatus::ALL.into_iter().filter(|s| s.is_terminal()).map(RunStatus::as_str);
    session::Entity::find()
        .join(JoinType::LeftJoin, sessions::current_run())
        .filter(Condition::any().add(run::Column::Id.is_null()).add(run::Column::Status.is_in(over)))
}

fn unexpired(now: Timestamp) -> Condition {
    let at = session::Column::ExpiresAtMs;
    Condition::any().add(at.is_null()).add(at.gt(now.0))
}

async fn register_channel(tx: &DatabaseTransaction, id: SessionId, name: String) -> Result<bool> {
    if sessions::locked(tx, &id).await?.closed_at.is_some() {
        return Ok(false);
    }
    let row = session_channel::ActiveModel {
        session_id: sea_orm::ActiveValue::Set(id.to_string()),
        name: sea_orm::ActiveValue::Set(name),
        max_age_seconds: sea_orm::ActiveValue::NotSet,
    };
    let key = [session_channel::Column::SessionId, session_channel::Column::Name];
    let insert = session_channel::Entity::insert(row).on_conflict(OnConflict::columns(key).do_nothing().to_owned());
    insert.exec_without_returning(tx).await.map_err(failed)?;
    Ok(true)
}
