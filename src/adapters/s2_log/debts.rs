//! What is owed for appends, and the task that notes what was paid, many at a time and off everyone's path.

use continuo_domain::channel::{ChannelKey, Debt, PartId};
use continuo_ports::AppendClaims;
use continuo_ports::append_claims::Settled;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

/// Debts that this process knows. The oldest are forgotten first; their claims tell of them still.
const DEBTS_MAX: usize = 100_000;
/// Notes that wait for the database. More are dropped, and their debts paid again.
const NOTES_MAX: usize = 16_384;
/// Settled in one go, or what came within [`BATCH_FOR`].
const BATCH_MAX: usize = 100;
const BATCH_FOR: Duration = Duration::from_millis(5);
const TRIES_MAX: u32 = 4;
const TRY_AGAIN: Duration = Duration::from_millis(200);

enum Note {
    Settle(Settled),
    Release(ChannelKey, PartId, String),
    Flush(oneshot::Sender<()>),
}

pub(crate) struct Debts {
    open: Mutex<BTreeMap<u64, Settled>>,
    next: AtomicU64,
    notes: mpsc::Sender<Note>,
}

impl Debts {
    pub(crate) fn new(claims: Arc<dyn AppendClaims>) -> (Self, JoinHandle<()>) {
        let (notes, incoming) = mpsc::channel(NOTES_MAX);
        let writer = tokio::spawn(write(claims, incoming));
        (Self { open: Mutex::default(), next: AtomicU64::new(1), notes }, writer)
    }

    pub(crate) fn owe(&self, settled: Settled) -> Debt {
        let debt = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        open.insert(debt, settled);
        if open.len() > DEBTS_MAX {
            open.pop_first();
        }
        Debt(debt)
    }

    /// What the debt was for, if it is not paid yet.
    pub(crate) fn pay(&self, debt: Debt) -> Option<Settled> {
        let settled = self.open.lock().remove(&debt.0)?;
        self.note(Note::Settle(settled.clone()));
        Some(settled)
    }

    pub(crate) fn release(&self, channel: ChannelKey, part_id: PartId, mark: String) {
        self.note(Note::Release(channel, part_id, mark));
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            warn!("too many claims wait to be settled; a sweep will find this one");
        }
    }

    /// Returns once what was noted before is in the database, or was given up.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.notes.send(Note::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

/// Ends when the log is dropped.
async fn write(claims: Arc<dyn AppendClaims>, mut incoming: mpsc::Receiver<Note>) {
    while let Some(first) = incoming.recv().await {
        let until = Instant::now() + BATCH_FOR;
        let (mut settled, mut flushed) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(note) = next {
            match note {
                Note::Settle(one) => settled.push(one),
                Note::Release(channel, part_id, mark) => {
                    if let Err(error) = claims.release(&channel, &part_id, &mark).await {
                        warn!(%channel, error = %error, cause = ?error.cause(), "a claim is left for the sweep");
                    }
                }
                Note::Flush(done) => flushed = Some(done),
            }
            if settled.len() >= BATCH_MAX || flushed.is_some() {
                break;
            }
            next = timeout_at(until, incoming.recv()).await.ok().flatten();
        }
        settle(&*claims, settled).await;
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

async fn settle(claims: &dyn AppendClaims, settled: Vec<Settled>) {
    if settled.is_empty() {
        return;
    }
    for round in 1..=TRIES_MAX {
        match claims.settle(settled.clone()).await {
            Ok(()) => return,
            Err(error) if round == TRIES_MAX => {
                warn!(count = settled.len(), error = %error, cause = ?error.cause(), "claims are left for the sweep");
            }
            Err(_) => sleep(TRY_AGAIN * round).await,
        }
    }
}
