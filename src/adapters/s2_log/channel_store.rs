//! The port, on S2.

use crate::follower;
use crate::log::S2Log;
use crate::names;
use crate::record;
use async_trait::async_trait;
use continuo_domain::channel::{
    Append, Appended, ChannelKey, ChannelName, Debt, Direction, FencingToken, PartId, ReadFrom, Record, SeqNum, Tail,
};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::id::OrganizationId;
use continuo_domain::{Result, SessionId, Timestamp};
use continuo_ports::{ChannelStore, OwedAppend, ReadEvent, WrittenChannel, WrittenPage};
use futures_util::stream::BoxStream;

#[async_trait]
impl ChannelStore for S2Log {
    async fn append(&self, channel: &ChannelKey, append: Append) -> Result<Appended> {
        self.inner.append(channel, append).await
    }

    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>> {
        follower::follow(self.inner.stream(channel).await?, from).await
    }

    async fn read(&self, channel: &ChannelKey, from: ReadFrom) -> Result<(Vec<Record>, Tail)> {
        self.inner.stream(channel).await?.read(from).await
    }

    async fn tail(&self, channel: &ChannelKey) -> Result<Tail> {
        self.inner.stream(channel).await?.tail().await
    }

    async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>> {
        self.inner.written(session, page).await
    }

    fn fencing_token_hint(&self, channel: &ChannelKey) -> Option<FencingToken> {
        let stream = self.inner.remembered(channel)?;
        let known = stream.known.lock();
        known.tail().filter(|tail| tail.seq_num > 0)?;
        known.token().cloned()
    }

    async fn part(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<SeqNum>> {
        let stream = self.inner.stream(channel).await?;
        self.inner.part(&stream, part_id).await
    }

    fn claim(
        &self,
        session: Option<&SessionId>,
        name: Option<&ChannelName>,
        direction: Direction,
        append: &Append,
        now: Timestamp,
    ) -> Option<NewClaim> {
        if append.check().is_err() || !record::wants_claim(name.is_none() && direction == Direction::In, append) {
            return None;
        }
        let (mark, since) = self.inner.fresh_mark();
        let part_id = match &append.part_id {
            Some(part_id) => part_id.clone(),
            None => PartId::parse(&format!("server:{mark}")).ok()?,
        };
        let channel = session.map(|session| ChannelKey { session: session.clone(), name: name.cloned(), direction });
        let stream = channel.and_then(|channel| self.inner.remembered(&channel));
        let known_tail = stream.and_then(|stream| stream.known.lock().tail()).unwrap_or_default();
        self.inner.give_out(mark.clone(), since);
        Some(NewClaim {
            name: name.cloned(),
            direction,
            is_servers: append.part_id.is_none(),
            part_id,
            digest: record::digest(&append.records),
            mark,
            from: session.map(|session| (session.clone(), known_tail.seq_num)),
            claimed_at: now,
        })
    }

    fn abandon(&self, claimed: Claimed) {
        self.inner.abandon(&claimed);
    }

    fn followed_up(&self, debt: Debt) {
        let Some(settled) = self.inner.debts.pay(debt) else { return };
        let mut landed = self.inner.landed.lock();
        let key = (settled.channel, settled.part_id);
        if let Some(outcome) = landed.get(&key).filter(|outcome| outcome.mark == settled.mark) {
            landed.insert(key, crate::log::Landed { is_settled: true, ..outcome });
        }
    }

    async fn owed(&self, before: Timestamp, limit: u32) -> Result<Vec<OwedAppend>> {
        self.inner.owed(before, limit).await
    }

    fn basin(&self, organization: &OrganizationId) -> Option<String> {
        Some(names::basin(&self.inner.options.basin_prefix, organization))
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn delete(&self, session: &SessionId) -> Result<()> {
        self.inner.delete(session).await
    }
}
