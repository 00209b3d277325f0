//! The system's time, made to never go back.

use continuo_domain::Timestamp;
use continuo_ports::Clock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

/// The system's clock, except that it never goes back within the process: when the system's clock is set back, this one
/// runs on at its pace from where it was. It does not stand still either, because deadlines hang on it.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// The largest difference seen between system time and time since the start, in nanoseconds.
    ahead_ns: AtomicI64,
}

impl SystemClock {
    /// A clock that follows the system's.
    pub fn new() -> Self {
        Self { started: Instant::now(), ahead_ns: AtomicI64::new(i64::MIN) }
    }

    fn at(&self, system_ns: i64, elapsed_ns: i64) -> Timestamp {
        let ahead_ns = system_ns.saturating_sub(elapsed_ns);
        let ahead_ns = self.ahead_ns.fetch_max(ahead_ns, Ordering::AcqRel).max(ahead_ns);
        Timestamp(ahead_ns.saturating_add(elapsed_ns).div_euclid(1_000_000))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // In this order: a pause between the two makes the difference too small, which the maximum ignores.
        let system_ns = system_ns();
        let elapsed_ns = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.at(system_ns, elapsed_ns)
    }
}

fn system_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn it_tells_the_systems_time() {
        let (before, now) = (system_ns() / MS, SystemClock::new().now().0);
        assert!(before <= now && now <= system_ns() / MS);
    }

    #[test]
    fn a_clock_set_back_goes_on_and_a_clock_set_forward_is_followed() {
        let clock = SystemClock::new();
        assert_eq!(clock.at(5_000 * MS, 0), Timestamp(5_000));
        assert_eq!(clock.at(2_010 * MS, 10 * MS), Timestamp(5_010));
        assert_eq!(clock.at(2_500 * MS, 500 * MS), Timestamp(5_500));
        assert_eq!(clock.at(9_000 * MS, 600 * MS), Timestamp(9_000));
        assert_eq!(clock.at(3_000 * MS, 700 * MS), Timestamp(9_100));
    }

    #[test]
    fn it_never_goes_back_on_any_thread() {
        let clock = SystemClock::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = clock.now();
                    for _ in 0..20_000 {
                        let now = clock.now();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
        });
    }
}
