//! What an append asks: the session, its run, and its claim. One statement on Postgres, also with the claim.

use crate::entity::{append_claim, run, session};
use crate::error::{damaged, failed};
use crate::{SqlStore, append_claims, convert, cte, sessions};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::run::RunStatus;
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{EnvironmentId, Error, Result};
use continuo_ports::AppendClaims;
use continuo_ports::session_store::Probe;
use futures_util::FutureExt;
use sea_orm::sea_query::{Expr, Query, WithClause, WithQuery};
use sea_orm::{DatabaseTransaction, DbBackend, FromQueryResult, Iterable, JoinType, QuerySelect, QueryTrait, Select};

/// The parts of the statement with a claim.
const LOOKED: &str = "looked";
const MADE: &str = "made";
/// What they have beside their table's columns.
const RUN_STATUS: &str = "run_status";
const MADE_PART_ID: &str = "made_part_id";

#[derive(FromQueryResult)]
struct Looked {
    #[sea_orm(nested)]
    session: session::Model,
    run_status: Option<String>,
}

impl SqlStore {
    pub(crate) async fn look(
        &self,
        environment: &EnvironmentId,
        session: &SessionRef,
        claim: Option<NewClaim>,
    ) -> Result<Option<Probe>> {
        let look = looking(environment, session);
        let Some(claim) = claim else {
            let looked = look.into_model::<Looked>().one(self.database.readers()).await.map_err(failed)?;
            return looked.map(|looked| looked.probe(None)).transpose();
        };
        if self.database.backend() == DbBackend::Sqlite {
            return self.database.write(move |tx| look_and_claim(tx, look, claim).boxed()).await;
        }
        let both = self.database.backend().build(&looking_and_claiming(look, &claim)?);
        let row = match self.database.write_repeatable(both).await {
            Err(Error::SessionNotFound) => return Ok(None),
            rows => rows?.pop(),
        };
        let Some(row) = row else { return Ok(None) };
        let mut probe = Looked::from_query_result(&row, "").map_err(failed)?.probe(None)?;
        let is_made = row.try_get::<Option<String>>("", MADE_PART_ID).map_err(failed)?.is_some();
        probe.claimed = Some(match is_made {
            true => Claimed::Fresh(claim.of(&probe.session.id)),
            false => self.known_or_claimed(&probe.session, claim).await?,
        });
        Ok(Some(probe))
    }

    /// A claim that was in the way may have gone by now.
    async fn known_or_claimed(&self, session: &Session, claim: NewClaim) -> Result<Claimed> {
        let wanted = claim.clone().of(&session.id);
        match self.claim_of(&wanted.channel, &wanted.part_id).await? {
            Some(there) => Ok(append_claims::met(there, &wanted.mark)),
            None => self.claim(&session.id, claim).await,
        }
    }
}

impl Looked {
    fn probe(self, claimed: Option<Claimed>) -> Result<Probe> {
        let status = self.run_status.as_deref().map(|text| {
            let run = self.session.current_run_id.as_deref().unwrap_or_default();
            RunStatus::parse(text).ok_or_else(|| damaged("run", run, "unknown status"))
        });
        let is_run_alive = status.transpose()?.is_some_and(|status| !status.is_terminal());
        Ok(Probe { session: convert::session(self.session)?, is_run_alive, claimed })
    }
}

/// The row and the status of its current run.
fn looking(environment: &EnvironmentId, session: &SessionRef) -> Select<session::Entity> {
    sessions::by_ref(environment, session)
        .join(JoinType::LeftJoin, sessions::current_run())
        .column_as(run::Column::Status, RUN_STATUS)
}

async fn look_and_claim(
    tx: &DatabaseTransaction,
    look: Select<session::Entity>,
    claim: NewClaim,
) -> Result<Option<Probe>> {
    let looked = look.into_model::<Looked>().one(tx).await.map_err(failed)?;
    let Some(looked) = looked else { return Ok(None) };
    let mut probe = looked.probe(None)?;
    probe.claimed = Some(append_claims::claim(tx, &probe.session.id, claim).await?);
    Ok(Some(probe))
}

/// Looks, and makes a claim on what it finds. No row if there is no session; no part id if the claim was not made.
fn looking_and_claiming(look: Select<session::Entity>, claim: &NewClaim) -> Result<WithQuery> {
    let made = append_claims::inserting(claim, Query::select().from(LOOKED).to_owned(), LOOKED)?;
    let mut both = Query::select();
    both.columns(session::Column::iter().map(|column| (LOOKED, column)));
    both.column((LOOKED, RUN_STATUS)).expr_as(Expr::col((MADE, append_claim::Column::PartId)), MADE_PART_ID);
    both.from(LOOKED).left_join(MADE, Expr::cust("TRUE"));
    let parts = WithClause::new().cte(cte::part(LOOKED, look.into_query())).cte(cte::part(MADE, made)).to_owned();
    Ok(parts.query(both))
}
