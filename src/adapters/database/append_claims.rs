//! `AppendClaims` on SQL: one row for each part id, its primary key decides who was first.

use crate::SqlStore;
use crate::convert::{self, int};
use crate::entity::append_claim::{self, Column};
use crate::entity::session;
use crate::error::failed;
use async_trait::async_trait;
use continuo_domain::channel::{ChannelKey, PartId};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, SessionId, Timestamp};
use continuo_ports::append_claims::{AppendClaims, Settled};
use futures_util::FutureExt;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use sea_orm::{Select, UpdateMany};

#[async_trait]
impl AppendClaims for SqlStore {
    async fn claim(&self, session: &SessionId, claim: NewClaim) -> Result<Claimed> {
        let claim = claim.of(session);
        self.database.write(move |tx| insert(tx, claim).boxed()).await
    }

    async fn claim_of(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<Claim>> {
        one(self.database.readers(), by_key(channel, part_id)).await
    }

    async fn is_held(&self, channel: &ChannelKey, part_id: &PartId, mark: &str) -> Result<bool> {
        let row = by_key(channel, part_id).filter(Column::Mark.eq(mark)).filter(Column::SeqNum.is_null());
        Ok(one(self.database.readers(), row).await?.is_some())
    }

    async fn take_over(&self, old: &Claim, new: NewClaim) -> Result<bool> {
        let (old, new) = (old.clone(), new.of(&old.channel.session));
        self.database.write(move |tx| take_over(tx, old, new).boxed()).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<()> {
        self.database.write(move |tx| settle(tx, settled).boxed()).await
    }

    async fn release(&self, channel: &ChannelKey, part_id: &PartId, mark: &str) -> Result<()> {
        let this = (channel.clone(), part_id.clone(), mark.to_owned());
        self.database.write(move |tx| release(tx, this).boxed()).await
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
        let id = session.to_string();
        self.database.write(move |tx| forget(tx, id).boxed()).await
    }

    async fn basin(&self, session: &SessionId) -> Result<Option<String>> {
        let row = session::Entity::find_by_id(session.as_str())
            .select_only()
            .column(session::Column::StreamBasinName)
            .into_tuple::<Option<String>>();
        row.one(self.database.readers()).await.map(Option::flatten).map_err(failed)
    }
}

fn key(channel: &ChannelKey, part_id: &PartId) -> (String, String, String) {
    (channel.session.to_string(), convert::claimed_channel(channel), part_id.as_str().to_owned())
}

fn by_key(channel: &ChannelKey, part_id: &PartId) -> Select<append_claim::Entity> {
    append_claim::Entity::find_by_id(key(channel, part_id))
}

fn changing(channel: &ChannelKey, part_id: &PartId, mark: &str) -> UpdateMany<append_claim::Entity> {
    let (session, channel, part_id) = key(channel, part_id);
    append_claim::Entity::update_many()
        .filter(Column::SessionId.eq(session))
        .filter(Column::Channel.eq(channel))
        .filter(Column::PartId.eq(part_id))
        .filter(Column::Mark.eq(mark))
}

async fn one<C: ConnectionTrait>(connection: &C, select: Select<append_claim::Entity>) -> Result<Option<Claim>> {
    select.one(connection).await.map_err(failed)?.map(convert::claim).transpose()
}

/// The row of a fresh claim, or the claim that was there.
pub(crate) async fn insert(tx: &DatabaseTransaction, claim: Claim) -> Result<Claimed> {
    let columns = [Column::SessionId, Column::Channel, Column::PartId];
    let inserted = append_claim::Entity::insert(convert::claim_row(&claim))
        .on_conflict(OnConflict::columns(columns).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    if inserted == 1 {
        return Ok(Claimed::Fresh(claim));
    }
    let known = one(tx, by_key(&claim.channel, &claim.part_id)).await?;
    // Given up between the two statements: the writer tries again.
    known.map(Claimed::Known).ok_or_else(|| Error::Unavailable(Cause::new("a claim was given up just now")))
}

async fn take_over(tx: &DatabaseTransaction, old: Claim, new: Claim) -> Result<bool> {
    let mut update = changing(&old.channel, &old.part_id, &old.mark)
        .col_expr(Column::IsServers, Expr::val(new.is_servers))
        .col_expr(Column::Digest, Expr::val(new.digest.to_vec()))
        .col_expr(Column::Mark, Expr::val(new.mark))
        .col_expr(Column::FromSeqNum, Expr::val(int(new.from_seq_num)))
        .col_expr(Column::ClaimedAtMs, Expr::val(new.claimed_at.0))
        .col_expr(Column::SeqNum, Expr::val(None::<i64>))
        .col_expr(Column::TimestampMs, Expr::val(None::<i64>));
    update = match old.settled_at {
        Some(at) => update.filter(Column::SeqNum.eq(int(at.seq_num))),
        None => update.filter(Column::SeqNum.is_null()),
    };
    Ok(update.exec(tx).await.map_err(failed)?.rows_affected == 1)
}

async fn release(tx: &DatabaseTransaction, (channel, part_id, mark): (ChannelKey, PartId, String)) -> Result<()> {
    let delete = append_claim::Entity::delete_by_id(key(&channel, &part_id))
        .filter(Column::Mark.eq(mark))
        .filter(Column::SeqNum.is_null());
    delete.exec(tx).await.map(drop).map_err(failed)
}

async fn forget(tx: &DatabaseTransaction, session: String) -> Result<()> {
    let delete = append_claim::Entity::delete_many().filter(Column::SessionId.eq(session));
    delete.exec(tx).await.map(drop).map_err(failed)
}

async fn settle(tx: &DatabaseTransaction, settled: Vec<Settled>) -> Result<()> {
    for Settled { channel, part_id, mark, at } in settled {
        let servers = append_claim::Entity::delete_by_id(key(&channel, &part_id))
            .filter(Column::Mark.eq(&mark))
            .filter(Column::IsServers.eq(true));
        if servers.exec(tx).await.map_err(failed)?.rows_affected == 1 {
            continue;
        }
        let note = changing(&channel, &part_id, &mark)
            .col_expr(Column::SeqNum, Expr::val(int(at.seq_num)))
            .col_expr(Column::TimestampMs, Expr::val(at.timestamp.0));
        note.exec(tx).await.map_err(failed)?;
    }
    Ok(())
}
