//! A create with its first run: one statement on Postgres.

use crate::entity::{session, session_run};
use crate::error::failed;
use crate::session_store::{find_same_name, upsert};
use crate::{SqlStore, convert, cte, runs, sessions, waitpoints};
use continuo_domain::error::Cause;
use continuo_domain::run::{NewRun, Run, RunReason};
use continuo_domain::session::{ExternalId, NewSession, Session, SessionRef, SessionRun};
use continuo_domain::{Error, Result, Timestamp};
use continuo_ports::session_store::{Created, Upserted};
use futures_util::FutureExt;
use sea_orm::sea_query::{BinOper, Expr, ExprTrait, Func, OnConflict, Query, SelectStatement, WithClause, WithQuery};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, IdenStatic, Iterable};
use sea_orm::{QueryFilter, QueryResult, QueryTrait};

/// How often a create tries again whose name was found taken, and free at the look at it.
const CREATE_ROUNDS_MAX: usize = 8;
/// The parts of the statement.
const FOUND: &str = "found";
const TURN: &str = "turn";
const MADE: &str = "made";
/// What the answer has beside the columns of the row that was found.
const MADE_ID: &str = "made_id";

/// The row, its run and the audit of it, all of them or none.
#[derive(Clone)]
struct First {
    session: Session,
    run: Run,
    audit: SessionRun,
}

impl First {
    fn new(session: NewSession, run: NewRun, now: Timestamp) -> Self {
        let mut session = Session::new(session, now);
        session.current_run = Some(run.id.clone());
        session.current_run_version = 1;
        let run = Run::new(NewRun { session: Some(session.id.clone()), ..run }, 1, now);
        let audit = SessionRun {
            session: session.id.clone(),
            run: run.spec.id.clone(),
            reason: RunReason::Initial,
            version: 1,
            triggered_at: now,
        };
        Self { session, run, audit }
    }
}

impl SqlStore {
    pub(crate) async fn create_with_run(&self, session: NewSession, run: NewRun, now: Timestamp) -> Result<Created> {
        let first = First::new(session, run, now);
        if self.database.backend() == DbBackend::Sqlite {
            // Most creates of a name find it: those need no turn at the writer.
            return match find_same_name(self.database.readers(), &first.session).await? {
                Some(found) => Ok(Created { session: found, first_run: None }),
                None => self.database.write(move |tx| create(tx, first).boxed()).await,
            };
        }
        let statement = self.database.backend().build(&creating(&first)?);
        for _ in 0..CREATE_ROUNDS_MAX {
            let rows = self.database.write_repeatable(statement.clone()).await?;
            if is_set(&rows, MADE_ID)? {
                return Ok(Created { session: first.session, first_run: Some(first.run) });
            }
            // Taken since the statement began, it is found by the next one.
            let found = match rows.first() {
                Some(row) if is_set(&rows, session::Column::Id.as_str())? => {
                    let row = session::Model::from_query_result(row, "").map_err(failed)?;
                    Some(convert::session(row)?)
                }
                _ => self.find_again(&first.session).await?,
            };
            if let Some(session) = found {
                // Its id is new with each create: this is the row of this one, whose answer was lost.
                let first_run = (session.id == first.session.id).then_some(first.run);
                return Ok(Created { session, first_run });
            }
        }
        Err(Error::Unavailable(Cause::new("a name was taken and given up again and again")))
    }

    /// Without a name only this create itself can have been in its way.
    async fn find_again(&self, session: &Session) -> Result<Option<Session>> {
        let reference = match &session.external_id {
            Some(name) => SessionRef::External(name.clone()),
            None => SessionRef::Id(session.id.clone()),
        };
        sessions::one(self.database.readers(), sessions::by_ref(&session.tenant.environment, &reference)).await
    }
}

fn is_set(rows: &[QueryResult], column: &str) -> Result<bool> {
    let value = rows.first().map(|row| row.try_get::<Option<String>>("", column));
    Ok(value.transpose().map_err(failed)?.flatten().is_some())
}

/// One transaction at a time.
async fn create(tx: &DatabaseTransaction, first: First) -> Result<Created> {
    let Upserted { session, is_new } = upsert(tx, first.session).await?;
    if !is_new {
        return Ok(Created { session, first_run: None });
    }
    runs::insert(tx, &first.run).await?;
    let audit = session_run::Entity::insert(convert::session_run_row(&first.audit));
    audit.exec_without_returning(tx).await.map_err(failed)?;
    Ok(Created { session, first_run: Some(first.run) })
}

/// The row that has the name, or all that belongs to a first run; neither where the name was taken since the statement began.
///
/// Whoever registers a wait under a name holds the lock of the name from its look for the session to its commit. So does
/// this statement, from before its first write: either the wait sees the session, or `bind_waits`, which looks after the
/// lock was given, sees the wait. Without a name there is no lock (of null), no wait to bind and no other row to find.
fn creating(first: &First) -> Result<WithQuery> {
    let session = &first.session;
    let environment = &session.tenant.environment;
    let name = session.external_id.as_ref().map(ExternalId::as_str);
    let found = session::Entity::find()
        .filter(session::Column::EnvironmentId.eq(environment.as_str()))
        .filter(session::Column::ExternalId.into_expr().binary(BinOper::Equal, name.map(str::to_owned)))
        .into_query();
    let lock = Func::cust("pg_advisory_xact_lock_shared").arg(
        Func::cust("hashtextextended")
            .args([Expr::val(name.map(|name| waitpoints::name_lock(environment, name))), Expr::val(0_i64)]),
    );
    let is_found = Expr::exists(Query::select().expr(Expr::val(1)).from(FOUND).to_owned());
    let turn = Query::select().expr(lock).and_where(is_found.not()).to_owned();

    let mut made = cte::insert_from(&convert::session_row(session), each(TURN), |_| None)?;
    // By its name, or by itself.
    let taken = OnConflict::new().do_nothing().to_owned();
    let bind = Func::cust("bind_waits").args([
        Expr::col(session::Column::EnvironmentId),
        Expr::col(session::Column::ExternalId),
        Expr::col(session::Column::Id),
    ]);
    made.on_conflict(taken).returning(Query::returning().exprs([Expr::col(session::Column::Id), bind.into()]));

    let mut answer = Query::select();
    answer.columns(session::Column::iter().map(|column| (FOUND, column)));
    answer.expr_as(Expr::col((MADE, session::Column::Id)), MADE_ID);
    answer.from(MADE).full_outer_join(FOUND, Expr::cust("TRUE"));

    let parts = WithClause::new()
        .cte(cte::part(FOUND, found))
        .cte(cte::part(TURN, turn))
        .cte(cte::part(MADE, made))
        .cte(cte::part("made_run", cte::insert_from(&convert::run_row(&first.run), each(MADE), |_| None)?))
        .cte(cte::part("made_payload", cte::insert_from(&runs::payload_row(&first.run), each(MADE), |_| None)?))
        .cte(cte::part("made_audit", cte::insert_from(&convert::session_run_row(&first.audit), each(MADE), |_| None)?))
        .to_owned();
    Ok(parts.query(answer))
}

fn each(part: &'static str) -> SelectStatement {
    Query::select().from(part).to_owned()
}
