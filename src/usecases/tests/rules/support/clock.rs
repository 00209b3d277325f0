//! A clock that stands still until a test moves it.

use continuo_domain::Timestamp;
use continuo_ports::Clock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Some moment in 2027.
const START_MS: i64 = 1_800_000_000_000;

/// The time of a test.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(START_MS))
    }

    /// Time passes.
    pub(crate) fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
