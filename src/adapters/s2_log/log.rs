//! Opening, closing, and what the log remembers between two requests.

use crate::debts::Debts;
use crate::names;
use crate::options::Options;
use crate::remembered::Remembered;
use crate::stream::{Common, Stream};
use continuo_domain::channel::{ChannelKey, PartId, Position};
use continuo_domain::claim::Claimed;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, SessionId};
use continuo_ports::{AppendClaims, Clock};
use parking_lot::Mutex;
use s2_sdk::S2;
use s2_sdk::types::BasinName;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Streams, basins, outcomes and marks that are remembered, each about twice as many at most. Streams that are followed or
/// written to are kept besides.
const REMEMBERED_MAX: usize = 20_000;
/// Metered bytes of appends that are on their way to S2; more wait.
pub const APPEND_INFLIGHT_BYTES: usize = 64 << 20;
const PROCESS_BYTES: usize = 10;
/// How long a close waits for the notes of what was paid.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// A channel log on S2. Cheap to ask from many tasks; opened within a tokio runtime. Dropping it ends its tasks with the
/// last follower; [`Self::close`] ends everything in order.
pub struct S2Log {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) common: Arc<Common>,
    pub(crate) claims: Arc<dyn AppendClaims>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) debts: Debts,
    streams: Mutex<Remembered<ChannelKey, Arc<Stream>>>,
    basins: Mutex<Remembered<SessionId, BasinName>>,
    /// Outcomes of part ids.
    pub(crate) landed: Mutex<Remembered<(ChannelKey, PartId), Landed>>,
    /// Marks that were given out and not used yet, and when.
    unspent: Mutex<Remembered<String, u64>>,
    /// Marks whose records are on their way from this process.
    writing: Mutex<HashSet<String>>,
    /// What the marks of this process begin with.
    process: String,
    settler: Mutex<Option<JoinHandle<()>>>,
}

/// Where a record with a part id stands.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    pub(crate) mark: String,
    pub(crate) digest: [u8; 32],
    pub(crate) at: Position,
    /// Nothing is owed for it any more.
    pub(crate) is_settled: bool,
}

impl S2Log {
    /// Opens the log. Nothing is asked of S2 yet: basins and streams are made when they are first used.
    pub fn open(options: Options, claims: Arc<dyn AppendClaims>, clock: Arc<dyn Clock>) -> Result<Self> {
        options.check()?;
        let s2 = S2::new(options.config()?).map_err(Error::internal)?;
        let common = Common::new(s2, options.append_timeout, options.outage, APPEND_INFLIGHT_BYTES);
        let mut random = [0; PROCESS_BYTES];
        getrandom::fill(&mut random).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
        let mut process = String::new();
        names::push_hex(&mut process, &random);
        let (debts, settler) = Debts::new(claims.clone());
        let inner = Inner {
            options,
            common: Arc::new(common),
            claims,
            clock,
            debts,
            streams: Mutex::new(Remembered::with_users(REMEMBERED_MAX, |stream| Arc::strong_count(stream) > 1)),
            basins: Mutex::new(Remembered::new(REMEMBERED_MAX)),
            landed: Mutex::new(Remembered::new(REMEMBERED_MAX)),
            unspent: Mutex::new(Remembered::new(REMEMBERED_MAX)),
            writing: Mutex::default(),
            process,
            settler: Mutex::new(Some(settler)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends followers with `Stopping`, refuses what comes, and notes what was followed up until now.
    pub async fn close(&self) {
        self.inner.common.stopping.cancel();
        // What is not noted in time is found by a sweep.
        let _ = tokio::time::timeout(FLUSH_PATIENCE, self.inner.debts.flush()).await;
        if let Some(settler) = self.inner.settler.lock().take() {
            settler.abort();
        }
    }
}

impl Inner {
    /// The stream of a channel, in the basin that its session's row names.
    pub(crate) async fn stream(&self, channel: &ChannelKey) -> Result<Arc<Stream>> {
        if self.common.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        if let Some(stream) = self.streams.lock().get(channel) {
            return Ok(stream);
        }
        let basin = self.basin_of(&channel.session).await?.ok_or(Error::SessionNotFound)?;
        let stream = Arc::new(Stream::new(channel.clone(), basin, self.common.clone())?);
        let mut streams = self.streams.lock();
        if let Some(other) = streams.get(channel) {
            return Ok(other);
        }
        streams.insert(channel.clone(), stream.clone());
        Ok(stream)
    }

    /// The stream, if this process remembers it.
    pub(crate) fn remembered(&self, channel: &ChannelKey) -> Option<Arc<Stream>> {
        self.streams.lock().get(channel)
    }

    /// A row is asked once: its basin never changes.
    pub(crate) async fn basin_of(&self, session: &SessionId) -> Result<Option<BasinName>> {
        if let Some(basin) = self.basins.lock().get(session) {
            return Ok(Some(basin));
        }
        let Some(name) = self.claims.basin(session).await? else { return Ok(None) };
        let invalid = || Error::Internal(Cause::new(format!("the session's basin has no valid name: {name}")));
        let basin = names::parse(&name).ok_or_else(invalid)?;
        self.basins.lock().insert(session.clone(), basin.clone());
        Ok(Some(basin))
    }

    /// The session's streams are gone: nothing that was known of them counts, and who follows them has nothing to follow.
    pub(crate) fn forget(&self, session: &SessionId) {
        for stream in self.streams.lock().remove_all(|channel| channel.session == *session) {
            stream.deleted.cancel();
        }
        self.landed.lock().remove_all(|(channel, _)| channel.session == *session);
    }

    /// A mark that no other claim has, and the moment it was made.
    pub(crate) fn fresh_mark(&self) -> (String, u64) {
        let tick = self.common.tick();
        (format!("{}-{tick:x}", self.process), tick)
    }

    /// For a claim that the caller makes: its mark is good for one append.
    pub(crate) fn give_out(&self, mark: String, tick: u64) {
        self.unspent.lock().insert(mark, tick);
    }

    /// Gives up a claim that was never used.
    pub(crate) fn abandon(&self, claimed: &Claimed) {
        if let Claimed::Fresh(claim) = claimed
            && self.spend(&claim.mark).is_some()
        {
            self.debts.release(claim.channel.clone(), claim.part_id.clone(), claim.mark.clone());
        }
    }

    pub(crate) fn spend(&self, mark: &str) -> Option<u64> {
        self.unspent.lock().remove(&mark.to_owned())
    }

    /// Marks the record as being on its way, until the guard goes.
    pub(crate) fn writing<'a>(&'a self, mark: &str) -> Writing<'a> {
        self.writing.lock().insert(mark.to_owned());
        Writing { inner: self, mark: mark.to_owned() }
    }

    pub(crate) fn is_writing(&self, mark: &str) -> bool {
        self.writing.lock().contains(mark)
    }
}

pub(crate) struct Writing<'a> {
    inner: &'a Inner,
    mark: String,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.inner.writing.lock().remove(&self.mark);
    }
}
