//! The debts of a log that several processes share, kept for the embedded one: so that a test can see them made and paid, and
//! let a process die in between. The claims themselves are made in the database.

use super::TestClock;
use async_trait::async_trait;
use continuo_domain::channel::{Append, Appended, ChannelKey, ChannelName, Debt, Direction, PartId, ReadFrom, Record};
use continuo_domain::channel::{SeqNum, Tail};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::{Result, SessionId, Timestamp};
use continuo_embedded_log::EmbeddedLog;
use continuo_ports::{ChannelStore, Clock, OwedAppend, ReadEvent, WrittenChannel, WrittenPage};
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A log with debts.
#[derive(Clone)]
pub(crate) struct Ledger {
    log: Arc<EmbeddedLog>,
    clock: Arc<TestClock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    marks: u64,
    owed: BTreeMap<u64, (Timestamp, OwedAppend)>,
    abandoned: Vec<PartId>,
    /// What each append brought along.
    claims: Vec<Option<Claimed>>,
}

impl Ledger {
    pub(crate) fn new(log: Arc<EmbeddedLog>, clock: Arc<TestClock>) -> Self {
        Self { log, clock, state: Arc::default() }
    }

    /// The numbers of the records that nobody has followed up.
    pub(crate) fn debts(&self) -> Vec<SeqNum> {
        self.state.lock().owed.values().map(|(_, owed)| owed.at.seq_num).collect()
    }

    /// How many claims were given up.
    pub(crate) fn abandoned(&self) -> usize {
        self.state.lock().abandoned.len()
    }

    /// How many appends came with a claim, and how many without.
    pub(crate) fn claims(&self) -> (usize, usize) {
        let state = self.state.lock();
        let with = state.claims.iter().flatten().count();
        (with, state.claims.len() - with)
    }
}

#[async_trait]
impl ChannelStore for Ledger {
    async fn append(&self, channel: &ChannelKey, mut append: Append) -> Result<Appended> {
        let claimed = append.claimed.take().map(|claimed| *claimed);
        let is_command = append.records.iter().all(|record| matches!(record.command(), Ok(Some(_))));
        let appended = self.log.append(channel, append).await?;
        let mut state = self.state.lock();
        if is_command {
            return Ok(appended);
        }
        state.claims.push(claimed);
        state.marks += 1;
        let debt = Debt(state.marks);
        let owed = OwedAppend { channel: channel.clone(), at: appended.start, debt };
        state.owed.insert(debt.0, (self.clock.now(), owed));
        Ok(Appended { debt: Some(debt), ..appended })
    }

    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>> {
        self.log.follow(channel, from).await
    }

    async fn read(&self, channel: &ChannelKey, from: ReadFrom) -> Result<(Vec<Record>, Tail)> {
        self.log.read(channel, from).await
    }

    async fn tail(&self, channel: &ChannelKey) -> Result<Tail> {
        self.log.tail(channel).await
    }

    async fn part(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<SeqNum>> {
        self.log.part(channel, part_id).await
    }

    async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>> {
        self.log.written(session, page).await
    }

    fn claim(
        &self,
        _session: Option<&SessionId>,
        name: Option<&ChannelName>,
        direction: Direction,
        append: &Append,
        now: Timestamp,
    ) -> Option<NewClaim> {
        let mut state = self.state.lock();
        state.marks += 1;
        let mark = format!("mark-{}", state.marks);
        Some(NewClaim {
            name: name.cloned(),
            direction,
            part_id: append.part_id.clone().unwrap_or_else(|| PartId::parse(&mark).unwrap()),
            is_servers: append.part_id.is_none(),
            digest: [0; 32],
            mark,
            from: None,
            claimed_at: now,
        })
    }

    fn abandon(&self, claimed: Claimed) {
        let Claimed::Fresh(claim) = claimed else { panic!("somebody else's: {claimed:?}") };
        self.state.lock().abandoned.push(claim.part_id);
    }

    fn followed_up(&self, debt: Debt) {
        self.state.lock().owed.remove(&debt.0);
    }

    async fn owed(&self, before: Timestamp, limit: u32) -> Result<Vec<OwedAppend>> {
        let state = self.state.lock();
        let old = state.owed.values().filter(|(at, _)| *at < before).map(|(_, owed)| owed.clone());
        Ok(old.take(limit as usize).collect())
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn delete(&self, session: &SessionId) -> Result<()> {
        self.log.delete(session).await
    }
}
