//! One term of the worker that has the slot: from the start of the stream until it ends.

use crate::batch::{BATCH_BYTES, Batch, Cargo, Limits};
use crate::change::Changes;
use crate::database::Database;
use crate::flights::{Flight, Flights};
use crate::metrics::Metrics;
use crate::pgoutput::{Message, Relation, Tuple};
use crate::store::Store;
use crate::stream::{Event, Stream};
use crate::transaction::{Transaction, age};
use crate::{Lsn, Options, Prepared};
use continuo_domain::{Error, Result};
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long the worker tries to store what it has read when it is asked to end. What it cannot, the log has.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the slot is waited for at the end.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const TELL_EVERY: Duration = Duration::from_millis(10);
/// The table whose rows are sessions.
const SESSIONS: &str = "session";

/// What a term works with, and what others may look at meanwhile.
pub(crate) struct Tools {
    pub(crate) database: Arc<Database>,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    /// What the slot was told is stored.
    pub(crate) acknowledged: Arc<AtomicU64>,
}

/// The state between the stream and the index.
pub(crate) struct Term {
    tools: Tools,
    limits: Limits,
    flights_max: usize,
    epoch: u8,
    stream: Stream,
    /// How to read the rows of a table. None for one that is not of sessions.
    tables: HashMap<u32, Option<Changes>>,
    transaction: Option<Transaction>,
    batch: Batch,
    flights: Flights,
    flying: JoinSet<Result<Landed>>,
    /// The end of the last transaction that left.
    departed_lsn: Lsn,
    /// Rows that left and are not stored.
    flying_rows: usize,
    events: Events,
    /// The table was emptied by a transaction that is not complete yet, or that was not told to the database.
    is_truncated: bool,
}

/// A batch that is stored.
struct Landed {
    flight: Flight,
    rows: usize,
    committed_at: Vec<i64>,
    started_at: Instant,
}

struct Events {
    inserts: Counter,
    updates: Counter,
    deletes: Counter,
    truncates: Counter,
    skipped: Counter,
}

impl Term {
    pub(crate) fn new(options: &Options, tools: Tools, stream: Stream, position: Prepared) -> Self {
        let Prepared { epoch, confirmed_lsn: from, .. } = position;
        let count = |kind| tools.metrics.events_processed.get_or_create_owned(&[("event_type", kind)]);
        let events = Events {
            inserts: count("insert"),
            updates: count("update"),
            deletes: count("delete"),
            truncates: count("truncate"),
            skipped: count("skipped"),
        };
        tools.acknowledged.store(from, Ordering::Relaxed);
        Self {
            limits: Limits { rows: options.batch_rows.max(1), bytes: BATCH_BYTES, interval: options.flush_interval },
            flights_max: options.flights.max(1),
            epoch,
            stream,
            tables: HashMap::new(),
            transaction: None,
            batch: Batch::default(),
            flights: Flights::default(),
            flying: JoinSet::new(),
            departed_lsn: from,
            flying_rows: 0,
            events,
            is_truncated: false,
            tools,
        }
    }

    /// Replicates until it is asked to stop, and then stores what it has read. Fails where the stream or the database do; what
    /// is not acknowledged comes again.
    pub(crate) async fn run(mut self, stopping: &CancellationToken) -> Result<()> {
        loop {
            self.depart_if_due();
            self.count_rows();
            let can_read = !self.batch.is_overfull(&self.limits);
            let due_at = self.batch.due_at(&self.limits).filter(|_| self.may_depart() && self.transaction.is_none());
            tokio::select! {
                biased;
                () = stopping.cancelled() => return self.drain().await,
                Some(landed) = self.flying.join_next() => self.land(landed.map_err(Error::internal)??),
                () = at(due_at) => {}
                event = self.stream.next(), if can_read => self.take(event?).await?,
            }
        }
    }

    /// Stores what was read and tells the slot, within a limit of time.
    async fn drain(mut self) -> Result<()> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        loop {
            if !self.batch.is_empty() && self.may_depart() {
                self.depart();
            }
            match timeout_at(deadline, self.flying.join_next()).await {
                Ok(Some(landed)) => self.land(landed.map_err(Error::internal)??),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!("the index did not take the last rows in time; they come again");
                    break;
                }
            }
        }
        self.flying.shutdown().await;
        if timeout(TELL_TIMEOUT, self.told()).await.is_err() {
            tracing::warn!("the database did not hear in time what is stored; it comes again");
        }
        self.stream.close().await;
        Ok(())
    }

    /// Waits until the slot has moved. The end of the stream may overtake what was said on it.
    async fn told(&self) {
        let acknowledged = self.tools.acknowledged.load(Ordering::Relaxed);
        while self.tools.database.position().await.is_ok_and(|position| position.confirmed_lsn < acknowledged) {
            sleep(TELL_EVERY).await;
        }
    }

    /// What goes on with a transaction waits for the part before it.
    fn may_depart(&self) -> bool {
        let in_the_air = self.flying.len();
        if self.batch.is_continued() { in_the_air == 0 } else { in_the_air < self.flights_max }
    }

    fn depart_if_due(&mut self) {
        if self.batch.is_empty() {
            // Transactions that changed nothing the index shows: all there is before their end is stored.
            if let Some(end_lsn) = self.batch.end_lsn()
                && let Some(lsn) = self.flights.idle_at(end_lsn)
            {
                self.acknowledge(lsn);
            }
            return;
        }
        let is_due = match self.transaction {
            Some(_) => self.batch.is_overfull(&self.limits),
            None => {
                let is_late = self.batch.due_at(&self.limits).is_some_and(|due_at| due_at <= Instant::now());
                is_late || self.batch.is_full(&self.limits)
            }
        };
        if is_due && self.may_depart() {
            self.depart();
        }
    }

    fn depart(&mut self) {
        let Cargo { rows, noted, committed_at, end_lsn } = self.batch.take(self.transaction.is_some());
        self.departed_lsn = end_lsn.unwrap_or(self.departed_lsn);
        let flight = self.flights.depart(self.departed_lsn);
        self.flying_rows += rows.len();
        self.tools.metrics.batch_size.observe(rows.len() as f64);
        let (store, database) = (self.tools.store.clone(), self.tools.database.clone());
        let started_at = Instant::now();
        self.flying.spawn(async move {
            store.store(&rows).await?;
            // After the rows are stored, so that no list misses them; before the slot hears of it, so that none is left over.
            database.forget(&noted).await?;
            Ok(Landed { flight, rows: rows.len(), committed_at, started_at })
        });
    }

    fn land(&mut self, landed: Landed) {
        let metrics = &self.tools.metrics;
        self.flying_rows -= landed.rows;
        metrics.batches_flushed.get_or_create(&[("success", "true")]).inc();
        metrics.flush_duration_ms.observe(landed.started_at.elapsed().as_secs_f64() * 1e3);
        for committed_at in landed.committed_at {
            metrics.replication_lag_ms.observe(age(committed_at).as_secs_f64() * 1e3);
        }
        if let Some(lsn) = self.flights.finish(landed.flight) {
            self.acknowledge(lsn);
        }
    }

    fn acknowledge(&self, lsn: Lsn) {
        self.tools.acknowledged.store(lsn, Ordering::Relaxed);
        self.stream.acknowledge(lsn);
    }

    fn count_rows(&self) {
        self.tools.metrics.buffered_rows.set((self.batch.rows() + self.flying_rows) as i64);
    }

    async fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Begin { final_lsn, committed_at, transaction_id } => {
                self.transaction = Some(Transaction::begin(self.epoch, final_lsn, committed_at, transaction_id));
            }
            Event::Contents(message) => self.change(message)?,
            Event::Commit { end_lsn } => {
                if std::mem::take(&mut self.is_truncated) {
                    self.tools.database.mark_incomplete().await?;
                }
                let transaction =
                    self.transaction.take().ok_or_else(|| Error::internal("an end without a beginning"))?;
                self.batch.commit(&transaction, end_lsn);
            }
            // Nothing of ours is behind what was sent, but what was sent may not be stored.
            Event::Alive { lsn } if self.transaction.is_none() && self.batch.is_empty() => {
                if let Some(lsn) = self.flights.idle_at(lsn) {
                    self.acknowledge(lsn);
                }
            }
            Event::Alive { .. } => {}
        }
        Ok(())
    }

    fn change(&mut self, message: Message) -> Result<()> {
        let (row, events) = match &message {
            Message::Relation(relation) => return self.learn(relation),
            Message::Truncate { relations } => {
                self.truncate(relations);
                return Ok(());
            }
            Message::Other | Message::Begin { .. } | Message::Commit { .. } => return Ok(()),
            Message::Insert { relation, new } => {
                let Some(changes) = self.changes(*relation)? else { return Ok(()) };
                (changes.put(new, None), &self.events.inserts)
            }
            Message::Update { relation, old, new } => {
                let Some(changes) = self.changes(*relation)? else { return Ok(()) };
                if is_skipped(changes, old.as_ref(), new) {
                    self.events.skipped.inc();
                    return Ok(());
                }
                (changes.put(new, old.as_ref()), &self.events.updates)
            }
            Message::Delete { relation, old } => {
                let Some(changes) = self.changes(*relation)? else { return Ok(()) };
                (changes.delete(old), &self.events.deletes)
            }
        };
        events.inc();
        let mut row = row.map_err(Error::internal)?.row;
        let transaction = self.transaction.as_mut().ok_or_else(|| Error::internal("a change outside a transaction"))?;
        row._version = transaction.version;
        // The database notes less than the index shows, so this may say so in vain and never misses a note.
        transaction.is_noted = true;
        self.batch.put(row);
        Ok(())
    }

    fn learn(&mut self, relation: &Relation) -> Result<()> {
        let changes = match relation.name.as_str() {
            SESSIONS => Some(Changes::of(relation).map_err(Error::internal)?),
            _ => None,
        };
        self.tables.insert(relation.id, changes);
        Ok(())
    }

    fn changes(&self, relation: u32) -> Result<Option<&Changes>> {
        let table =
            self.tables.get(&relation).ok_or_else(|| Error::internal("a change of a table that was not named"))?;
        Ok(table.as_ref())
    }

    fn truncate(&mut self, relations: &[u32]) {
        if relations.iter().any(|id| self.tables.get(id).is_some_and(Option::is_some)) {
            self.events.truncates.inc();
            self.is_truncated = true;
        }
    }
}

fn is_skipped(changes: &Changes, old: Option<&Tuple>, new: &Tuple) -> bool {
    old.is_some_and(|old| changes.is_same(old, new))
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
