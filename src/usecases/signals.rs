//! Hints within this process, and on their way to the other replicas. Losing one costs latency only: whoever waits for one
//! also has a clock.

use crate::hints::Outbox;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId};
use continuo_ports::Hint;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};

const RUN_SIGNALS_MAX: usize = 1_024;
/// Subscribers of one environment on this node that wait for a session to come into being.
pub(crate) const ARRIVALS_MAX: usize = 10_000;

/// Something happened to a run that whoever executes it should look at.
#[derive(Clone, Debug)]
pub(crate) enum RunSignal {
    One(RunId),
    /// Nobody knows to which.
    Any,
}

impl RunSignal {
    pub(crate) fn concerns(&self, run: &RunId) -> bool {
        match self {
            Self::One(changed) => changed == run,
            Self::Any => true,
        }
    }
}

/// The hints.
pub(crate) struct Signals {
    work: watch::Sender<u64>,
    timers: Notify,
    /// The clock of this replica does the work; no other one needs to hear of timers.
    is_clock_here: AtomicBool,
    /// For the other replicas.
    outbox: Outbox,
    runs: broadcast::Sender<RunSignal>,
    arrivals: Mutex<HashMap<(EnvironmentId, String), Weak<Notify>>>,
    arrival_places: Mutex<HashMap<EnvironmentId, Arc<Semaphore>>>,
    /// Sessions that a boot failed for although their input is durable. No row tells of them; after a restart the sweeper
    /// looks at every session.
    owed_boots: Mutex<HashSet<(EnvironmentId, SessionId)>>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            work: watch::Sender::new(0),
            timers: Notify::new(),
            is_clock_here: AtomicBool::default(),
            outbox: Outbox::default(),
            runs: broadcast::Sender::new(RUN_SIGNALS_MAX),
            arrivals: Mutex::default(),
            arrival_places: Mutex::default(),
            owed_boots: Mutex::default(),
        }
    }
}

impl Signals {
    /// A run of this environment may be available.
    pub(crate) fn work_changed(&self, environment: &EnvironmentId) {
        self.outbox.put(Hint::Work(environment.clone()));
        self.work_changed_here();
    }

    fn work_changed_here(&self) {
        self.work_due();
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
        if !self.is_clock_here.load(Ordering::Relaxed) {
            self.outbox.put(Hint::Timers);
        }
        self.timers.notify_one();
    }

    /// Whether this replica's clock does the work.
    pub(crate) fn clock_is_here(&self, is_here: bool) {
        self.is_clock_here.store(is_here, Ordering::Relaxed);
    }

    pub(crate) async fn next_timer_change(&self) {
        self.timers.notified().await;
    }

    /// A run was changed by someone other than its worker.
    pub(crate) fn run_changed(&self, run: &RunId) {
        self.outbox.put(Hint::RunChanged(run.clone()));
        self.run_changed_here(RunSignal::One(run.clone()));
    }

    fn run_changed_here(&self, signal: RunSignal) {
        // No receiver is an ordinary state: no worker is connected.
        let _ = self.runs.send(signal);
    }

    pub(crate) fn runs(&self) -> broadcast::Receiver<RunSignal> {
        self.runs.subscribe()
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
        self.outbox.put(Hint::SessionArrived(environment.clone(), name.to_owned()));
        self.session_arrived_here(&(environment.clone(), name.to_owned()));
    }

    fn session_arrived_here(&self, name: &(EnvironmentId, String)) {
        if let Some(waiting) = self.arrivals.lock().remove(name).and_then(|w| w.upgrade()) {
            waiting.notify_waiters();
        }
    }

    /// What the other replicas are to hear.
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Another replica said this. `None`: what it said may have been missed, so everybody looks.
    pub(crate) fn hear(&self, hint: Option<Hint>) {
        match hint {
            Some(Hint::Work(_)) => self.work_changed_here(),
            Some(Hint::Timers) => self.timers.notify_one(),
            Some(Hint::RunChanged(run)) => self.run_changed_here(RunSignal::One(run)),
            Some(Hint::SessionArrived(environment, name)) => self.session_arrived_here(&(environment, name)),
            // Nothing that is remembered of a session here outlives the call it was read for.
            None => {
                self.work_changed_here();
                self.run_changed_here(RunSignal::Any);
                let arrivals = std::mem::take(&mut *self.arrivals.lock());
                arrivals.into_values().filter_map(|waiting| waiting.upgrade()).for_each(|w| w.notify_waiters());
            }
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
    use futures_util::FutureExt;

    #[test]
    fn what_another_replica_says_wakes_whom_it_concerns_and_is_not_said_again() {
        let signals = Signals::default();
        let environment = EnvironmentId::from_body("e");
        let (mut work, mut runs) = (signals.work(), signals.runs());
        let (a, b) = (signals.session_arrival(&environment, "a"), signals.session_arrival(&environment, "b"));
        let (mut a, mut b) = (Box::pin(a.notified()), Box::pin(b.notified()));
        a.as_mut().enable();
        b.as_mut().enable();
        let (one, two) = (RunId::from_body("1"), RunId::from_body("2"));

        signals.hear(Some(Hint::Timers));
        assert!(signals.next_timer_change().now_or_never().is_some() && !work.has_changed().unwrap());
        signals.hear(Some(Hint::Work(environment.clone())));
        assert!(work.has_changed().unwrap());
        work.mark_unchanged();
        signals.hear(Some(Hint::RunChanged(one.clone())));
        let signal = runs.try_recv().unwrap();
        assert!(signal.concerns(&one) && !signal.concerns(&two));
        signals.hear(Some(Hint::SessionArrived(environment.clone(), "a".into())));
        assert!((&mut a).now_or_never().is_some() && (&mut b).now_or_never().is_none());

        signals.hear(None);
        assert!(work.has_changed().unwrap() && signals.next_timer_change().now_or_never().is_some());
        let signal = runs.try_recv().unwrap();
        assert!(signal.concerns(&one) && signal.concerns(&two));
        assert!(b.now_or_never().is_some());
        assert_eq!(signals.outbox().take(), []);
    }

    #[test]
    fn what_happens_here_is_for_the_others_too_and_timers_for_where_the_clock_is() {
        let signals = Signals::default();
        let environment = EnvironmentId::from_body("e");
        let run = RunId::from_body("1");
        signals.work_changed(&environment);
        signals.run_changed(&run);
        signals.session_arrived(&environment, "a");
        signals.clock_is_here(true);
        signals.timers_changed();
        let hints =
            [Hint::Work(environment.clone()), Hint::RunChanged(run), Hint::SessionArrived(environment, "a".into())];
        assert_eq!(signals.outbox().take().into_iter().collect::<HashSet<_>>(), HashSet::from(hints));
        signals.clock_is_here(false);
        signals.timers_changed();
        assert_eq!(signals.outbox().take(), [Hint::Timers]);
    }

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
