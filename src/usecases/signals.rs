//! Hints within this process. Losing one costs latency only: whoever waits for one also has a clock.

use crate::LeaseRef;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};

const RUN_SIGNALS_MAX: usize = 1_024;
/// Subscribers of one environment on this node that wait for a session to come into being.
pub(crate) const ARRIVALS_MAX: usize = 10_000;

/// Something happened to a run that whoever executes it should look at.
#[derive(Clone, Debug)]
pub(crate) struct RunSignal {
    pub(crate) run: RunId,
}

/// The hints.
pub(crate) struct Signals {
    work: watch::Sender<u64>,
    timers: Notify,
    runs: broadcast::Sender<RunSignal>,
    arrivals: Mutex<HashMap<(EnvironmentId, String), Weak<Notify>>>,
    arrival_places: Mutex<HashMap<EnvironmentId, Arc<Semaphore>>>,
    /// Which link holds a lease: the last one that took or renewed it.
    holders: Mutex<HashMap<LeaseRef, u64>>,
    links: AtomicU64,
    /// Sessions that a boot failed for although their input is durable. No row tells of them; after a restart the sweeper
    /// looks at every session.
    owed_boots: Mutex<HashSet<(EnvironmentId, SessionId)>>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            work: watch::Sender::new(0),
            timers: Notify::new(),
            runs: broadcast::Sender::new(RUN_SIGNALS_MAX),
            arrivals: Mutex::default(),
            arrival_places: Mutex::default(),
            holders: Mutex::default(),
            links: AtomicU64::default(),
            owed_boots: Mutex::default(),
        }
    }
}

impl Signals {
    /// A run may be available.
    pub(crate) fn work_changed(&self) {
        self.work.send_modify(|n| *n += 1);
        self.timers.notify_one();
    }

    /// The clock says that a run may have become available.
    pub(crate) fn work_due(&self) {
        self.work.send_modify(|n| *n += 1);
    }

    pub(crate) fn work(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    /// A moment at which something is due has changed.
    pub(crate) fn timers_changed(&self) {
        self.timers.notify_one();
    }

    pub(crate) async fn next_timer_change(&self) {
        self.timers.notified().await;
    }

    /// A run was changed by someone other than its worker.
    pub(crate) fn run_changed(&self, run: &RunId) {
        // No receiver is an ordinary state: no worker is connected.
        let _ = self.runs.send(RunSignal { run: run.clone() });
    }

    pub(crate) fn runs(&self) -> broadcast::Receiver<RunSignal> {
        self.runs.subscribe()
    }

    /// The number of a new link to a worker.
    pub(crate) fn new_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// The link has taken or renewed this lease.
    pub(crate) fn holds(&self, lease: &LeaseRef, link: u64) {
        self.holders.lock().insert(lease.clone(), link);
    }

    /// The link is done with this lease. False if another link holds it by now.
    pub(crate) fn let_go(&self, lease: &LeaseRef, link: u64) -> bool {
        let mut holders = self.holders.lock();
        let is_ours = holders.get(lease) == Some(&link);
        if is_ours {
            holders.remove(lease);
        }
        is_ours
    }

    /// A boot failed; the sweeper tries it again.
    pub(crate) fn owe_boot(&self, environment: &EnvironmentId, session: &SessionId) {
        self.owed_boots.lock().insert((environment.clone(), session.clone()));
    }

    /// The sessions a boot is owed to, which from here on is the caller's affair.
    pub(crate) fn take_owed_boots(&self) -> HashSet<(EnvironmentId, SessionId)> {
        std::mem::take(&mut *self.owed_boots.lock())
    }

    /// A session with this name came into being.
    pub(crate) fn session_arrived(&self, environment: &EnvironmentId, name: &str) {
        let waiting = self.arrivals.lock().remove(&(environment.clone(), name.to_owned()));
        if let Some(waiting) = waiting.and_then(|w| w.upgrade()) {
            waiting.notify_waiters();
        }
    }

    /// A place among the environment's subscribers that wait for a session; given back on drop.
    pub(crate) fn arrival_place(&self, environment: &EnvironmentId) -> Result<OwnedSemaphorePermit> {
        let what = "the number of subscribers without a session";
        let full = |_| Error::LimitExceeded { what, retry_after_ms: 1_000 };
        let mut places = self.arrival_places.lock();
        let places = places.entry(environment.clone()).or_insert_with(|| Arc::new(Semaphore::new(ARRIVALS_MAX)));
        places.clone().try_acquire_owned().map_err(full)
    }

    /// Wakes when a session with this name comes into being. All who wait for one name share an entry.
    pub(crate) fn session_arrival(&self, environment: &EnvironmentId, name: &str) -> Arc<Notify> {
        let mut arrivals = self.arrivals.lock();
        // Names that nobody waits for any more go when the map would grow: on average each call pays for one.
        if arrivals.len() == arrivals.capacity() {
            arrivals.retain(|_, waiting| waiting.strong_count() > 0);
        }
        let entry = arrivals.entry((environment.clone(), name.to_owned())).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Notify::new());
            *entry = Arc::downgrade(&fresh);
            fresh
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_environments_subscribers_take_no_places_of_another() {
        let signals = Signals::default();
        let (one, two) = (EnvironmentId::from_body("one"), EnvironmentId::from_body("two"));
        let mut taken: Vec<_> = (0..ARRIVALS_MAX).map(|_| signals.arrival_place(&one).unwrap()).collect();
        assert!(matches!(signals.arrival_place(&one), Err(Error::LimitExceeded { .. })));
        drop(signals.arrival_place(&two).unwrap());
        taken.pop();
        drop(signals.arrival_place(&one).unwrap());
    }
}
