//! `AppendClaims` on SQL: one row for each part id, its primary key decides who was first.

use crate::convert::{self, int};
use crate::cte;
use crate::entity::append_claim::{self, Column};
use crate::entity::session;
use crate::error::failed;
use crate::{SqlStore, settle};
use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, PartId};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, SessionId, Timestamp};
use continuo_ports::append_claims::{AppendClaims, Settled};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, InsertStatement, IntoIden, OnConflict};
use sea_orm::sea_query::{Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use sea_orm::{QueryOrder, QuerySelect, QueryTrait, Select};

/// How often a claim is tried again that was found taken, and gone at the look at it.
const CLAIM_ROUNDS_MAX: usize = 8;

#[async_trait]
impl AppendClaims for SqlStore {
    async fn claim(&self, session: &SessionId, claim: NewClaim) -> Result<Claimed> {
        let insert = self.database.backend().build(&inserting(&claim, this(session), session::Entity)?);
        let claim = claim.of(session);
        for _ in 0..CLAIM_ROUNDS_MAX {
            if !self.database.write_repeatable(insert.clone()).await?.is_empty() {
                return Ok(Claimed::Fresh(claim));
            }
            if let Some(there) = self.claim_of(&claim.channel, &claim.part_id).await? {
                return Ok(met(there, &claim.mark));
            }
            self.must_be_there(session).await?;
        }
        Err(Error::Unavailable(Cause::new("a claim was given up again and again")))
    }

    async fn claim_of(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<Claim>> {
        one(self.database.readers(), by_key(channel, part_id)).await
    }

    async fn take_over(&self, old: &Claim, new: NewClaim) -> Result<bool> {
        let new = new.of(&old.channel.session);
        let is_as_read = match old.settled_at {
            Some(at) => Column::SeqNum.eq(int(at.seq_num)),
            None => Column::SeqNum.is_null(),
        };
        let update = Query::update()
            .table(append_claim::Entity)
            .value(Column::IsServers, new.is_servers)
            .value(Column::Digest, new.digest.to_vec())
            .value(Column::Mark, new.mark)
            .value(Column::FromSeqNum, int(new.from_seq_num))
            .value(Column::ClaimedAtMs, new.claimed_at.0)
            .value(Column::SeqNum, None::<i64>)
            .value(Column::TimestampMs, None::<i64>)
            .cond_where(is_this(&old.channel, &old.part_id, &old.mark))
            .and_where(is_as_read)
            .returning_col(Column::PartId)
            .to_owned();
        let update = self.database.backend().build(&update);
        Ok(!self.database.write_one(update).await?.is_empty())
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<()> {
        settle::settle(&self.database, settled).await
    }

    async fn release(&self, channel: &ChannelKey, part_id: &PartId, mark: &str) -> Result<()> {
        let delete = Query::delete()
            .from_table(append_claim::Entity)
            .cond_where(is_this(channel, part_id, mark))
            .and_where(Column::SeqNum.is_null())
            .to_owned();
        self.database.write_repeatable(self.database.backend().build(&delete)).await.map(drop)
    }

    async fn unsettled(&self, before: Timestamp, limit: u32) -> Result<Vec<Claim>> {
        let rows = append_claim::Entity::find()
            .filter(Column::SeqNum.is_null())
            .filter(Column::ClaimedAtMs.lt(before.0))
            .order_by_asc(Column::ClaimedAtMs)
            .limit(u64::from(limit));
        let rows = rows.all(self.database.readers()).await.map_err(failed)?;
        rows.into_iter().map(convert::claim).collect()
    }

    async fn forget(&self, session: &SessionId) -> Result<()> {
        let of_session = append_claim::Entity::delete_many().filter(Column::SessionId.eq(session.as_str()));
        self.database.write_repeatable(of_session.build(self.database.backend())).await.map(drop)
    }

    async fn basin(&self, session: &SessionId) -> Result<Option<String>> {
        let row = session::Entity::find_by_id(session.as_str())
            .select_only()
            .column(session::Column::StreamBasinName)
            .into_tuple::<Option<String>>();
        row.one(self.database.readers()).await.map(Option::flatten).map_err(failed)
    }
}

impl SqlStore {
    async fn must_be_there(&self, session: &SessionId) -> Result<()> {
        let id = session::Entity::find_by_id(session.as_str())
            .select_only()
            .column(session::Column::Id)
            .into_tuple::<String>();
        id.one(self.database.readers()).await.map_err(failed)?.map(drop).ok_or(Error::SessionNotFound)
    }
}

/// Claims on a session that a query without columns finds under the name `sessions`: the part id, if it was free.
pub(crate) fn inserting(
    claim: &NewClaim,
    found: SelectStatement,
    sessions: impl IntoIden + Copy,
) -> Result<InsertStatement> {
    let id = || Expr::col((sessions, session::Column::Id));
    let from_seq_num = || match &claim.from {
        None => Expr::val(0_i64),
        Some((known, seq_num)) => {
            let is_known = id().eq(known.as_str());
            CaseStatement::new().case(is_known, int(*seq_num)).finally(0_i64).into()
        }
    };
    let mut insert = cte::insert_from(&convert::claim_row(claim), found, |column| match column {
        Column::SessionId => Some(id()),
        Column::FromSeqNum => Some(from_seq_num()),
        _ => None,
    })?;
    let key = [Column::SessionId, Column::Channel, Column::PartId];
    insert.on_conflict(OnConflict::columns(key).do_nothing().to_owned()).returning_col(Column::PartId);
    Ok(insert)
}

/// A claim inside a transaction that nothing else writes beside: SQLite's.
pub(crate) async fn claim(tx: &DatabaseTransaction, session: &SessionId, claim: NewClaim) -> Result<Claimed> {
    let insert = tx.get_database_backend().build(&inserting(&claim, this(session), session::Entity)?);
    let is_made = tx.query_one_raw(insert).await.map_err(failed)?.is_some();
    let claim = claim.of(session);
    if is_made {
        return Ok(Claimed::Fresh(claim));
    }
    let known = one(tx, by_key(&claim.channel, &claim.part_id)).await?;
    known.map(|there| met(there, &claim.mark)).ok_or(Error::SessionNotFound)
}

/// A claim in the way, unless it is the claimer's own, whose answer was lost.
pub(crate) fn met(there: Claim, mark: &str) -> Claimed {
    let is_own = there.mark == mark && there.settled_at.is_none();
    if is_own { Claimed::Fresh(there) } else { Claimed::Known(there) }
}

fn this(session: &SessionId) -> SelectStatement {
    session::Entity::find_by_id(session.as_str()).into_query().clear_selects().to_owned()
}

fn key(channel: &ChannelKey, part_id: &PartId) -> (String, String, String) {
    let claimed = convert::claimed_channel(channel.name.as_ref(), channel.direction);
    (channel.session.to_string(), claimed, part_id.as_str().to_owned())
}

pub(crate) fn by_key(channel: &ChannelKey, part_id: &PartId) -> Select<append_claim::Entity> {
    append_claim::Entity::find_by_id(key(channel, part_id))
}

fn is_this(channel: &ChannelKey, part_id: &PartId, mark: &str) -> Condition {
    let (session, channel, part_id) = key(channel, part_id);
    Condition::all()
        .add(Column::SessionId.eq(session))
        .add(Column::Channel.eq(channel))
        .add(Column::PartId.eq(part_id))
        .add(Column::Mark.eq(mark))
}

pub(crate) async fn one<C: ConnectionTrait>(
    connection: &C,
    select: Select<append_claim::Entity>,
) -> Result<Option<Claim>> {
    select.one(connection).await.map_err(failed)?.map(convert::claim).transpose()
}
