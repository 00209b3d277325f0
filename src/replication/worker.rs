//! The worker: stands by, leads, steps down, and comes back.

use crate::backoff::Backoff;
use crate::database::Database;
use crate::mend::mend;
use crate::metrics::Metrics;
use crate::parked::Parked;
use crate::store::Store;
use crate::stream::{NotOpened, Stream};
use crate::tend::Tender;
use crate::term::{Term, Tools};
use crate::{Options, prepare};
use continuo_clickhouse::ClickHouse;
use continuo_domain::{Error, Result};
use continuo_ports::Leases;
use continuo_postgres_link::Link;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Who of the replicas replicates, as a hint. That only one does is the slot's doing.
const LEASE: &str = "replication";
/// How long a replica that is gone keeps it from the others.
const LEASE_TTL: Duration = Duration::from_millis(2_500);
/// How often the lease is asked for, and renewed.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How soon a slot that somebody else reads is asked for again.
const SLOT_RETRY: Duration = Duration::from_millis(200);
/// A term that lasted so long was a good one: what went wrong before it does not count any more.
const GOOD_TERM: Duration = Duration::from_secs(60);

/// Keeps the index up with the database, on one replica at a time.
pub struct Worker {
    options: Options,
    link: Link,
    clickhouse: ClickHouse,
    leases: Arc<dyn Leases>,
    metrics: Arc<Metrics>,
}

/// A term, and who looks after what beside it. None of them waits for another one.
struct Begun {
    term: Term,
    tender: Tender,
    parked: Arc<Parked>,
    store: Arc<Store>,
}

/// How a term ended.
enum Ended {
    /// It was asked to, or another replica's turn came.
    Asked,
    Failed(Error),
}

impl Worker {
    /// Reads the options; talks to nobody yet. Fails with the field that is wrong.
    pub fn new(options: Options, leases: Arc<dyn Leases>, metrics: Arc<Metrics>) -> Result<Self> {
        let link = Link::parse(&options.database_url)?;
        let clickhouse = ClickHouse::new(&options.clickhouse)?;
        Ok(Self { options, link, clickhouse, leases, metrics })
    }

    /// Replicates, or stands by while another replica does, until `stopping`. Whatever fails is tried again. Then it stores
    /// what it has read, for at most some seconds, and tells the database; what it could not store comes again the next time.
    pub async fn run(&self, stopping: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stopping.is_cancelled() {
            let is_ours = tokio::select! {
                () = stopping.cancelled() => break,
                is_ours = self.is_our_turn() => is_ours,
            };
            if !is_ours {
                wait(ASK_EVERY, &stopping).await;
                continue;
            }
            let started_at = Instant::now();
            let ended = self.lead(&stopping).await;
            self.metrics.leader.set(0);
            self.metrics.buffered_rows.set(0);
            if started_at.elapsed() >= GOOD_TERM {
                backoff = Backoff::default();
            }
            match ended {
                Ended::Asked => {}
                Ended::Failed(error) => {
                    let pause = backoff.next();
                    let cause = error.cause().map(|cause| cause.for_log());
                    tracing::warn!(%error, cause, ?pause, "replication broke off; it goes on where it was");
                    wait(pause, &stopping).await;
                }
            }
        }
    }

    /// A term, with what has to be looked after beside it.
    async fn lead(&self, stopping: &CancellationToken) -> Ended {
        let begun = tokio::select! {
            () = stopping.cancelled() => return Ended::Asked,
            begun = self.begin() => begun,
        };
        let Begun { term, tender, parked, store } = match begun {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        tracing::info!(slot = self.options.slot_name, "replicating");
        self.metrics.leader.set(1);
        let ending = stopping.child_token();
        let running = term.run(&ending);
        let database = tender.database.clone();
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return ended.map_or_else(Ended::Failed, |()| Ended::Asked),
            Err(error) = tender.run() => return Ended::Failed(error),
            Err(error) = parked.retry_for_ever(&store) => return Ended::Failed(error),
            Err(error) = mend(&self.options, &database, &self.metrics) => return Ended::Failed(error),
            () = self.keep_turn() => tracing::info!("it is another replica's turn to replicate"),
        }
        ending.cancel();
        running.await.map_or_else(Ended::Failed, |()| Ended::Asked)
    }

    async fn begin(&self) -> Result<Begun, Ended> {
        prepare(&self.options).await.map_err(Ended::Failed)?;
        let database = Arc::new(Database::connect(&self.options, &self.link).await.map_err(Ended::Failed)?);
        let stream = self.take_slot(&database).await?;
        // From here on nobody else reads the slot, parks, or removes notes: what the database says stays.
        let position = database.position().await.map_err(Ended::Failed)?;
        let parked = Parked::load(database.clone(), self.metrics.clone()).await.map_err(Ended::Failed)?;
        let parked = Arc::new(parked);
        let store = Arc::new(Store::new(self.clickhouse.clone(), parked.clone(), self.metrics.clone()));
        let metrics = self.metrics.clone();
        let tools = Tools { database, store: store.clone(), metrics, acknowledged: Arc::default() };
        let tender = Tender {
            database: tools.database.clone(),
            metrics: tools.metrics.clone(),
            acknowledged: tools.acknowledged.clone(),
        };
        Ok(Begun { term: Term::new(&self.options, tools, stream, position), tender, parked, store })
    }

    /// Waits until the slot is free: a worker that was killed has it for a moment longer.
    async fn take_slot(&self, database: &Database) -> Result<Stream, Ended> {
        loop {
            let slot = database.slot().await.map_err(Ended::Failed)?;
            if slot.active_pid.is_none() {
                let position = database.position().await.map_err(Ended::Failed)?;
                match Stream::open(&self.options, &self.link, position.confirmed_lsn).await {
                    Ok(stream) => return Ok(stream),
                    Err(NotOpened::Failed(error)) => return Err(Ended::Failed(error)),
                    Err(NotOpened::InUse) => {}
                }
            }
            sleep(SLOT_RETRY).await;
            if !self.is_our_turn().await {
                return Err(Ended::Asked);
            }
        }
    }

    /// Without an answer it is: the slot lets only one in.
    async fn is_our_turn(&self) -> bool {
        self.leases.hold(LEASE, LEASE_TTL).await.unwrap_or(true)
    }

    /// Renews the lease until it is lost.
    async fn keep_turn(&self) {
        loop {
            sleep(ASK_EVERY).await;
            if !self.is_our_turn().await {
                return;
            }
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("options", &self.options).finish_non_exhaustive()
    }
}

async fn wait(time: Duration, stopping: &CancellationToken) {
    tokio::select! {
        () = sleep(time) => {}
        () = stopping.cancelled() => {}
    }
}
