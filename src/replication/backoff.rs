//! How long to wait before the next try.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer: whoever waits for the index after an outage waits for this too, and a try costs nobody much.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double, each shortened by chance by up to a half, so that those who failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Without randomness the wait is whole: nothing depends on it.
        let chance = getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX));
        wait.mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        for wait in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let wait = Duration::from_millis(wait);
            let next = backoff.next();
            assert!(next >= wait / 2 && next <= wait, "{next:?} of {wait:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= LONGEST);
        }
    }
}
