//! The time of someone else, who is asked for it now and then.

use continuo_domain::Timestamp;
use continuo_ports::Clock;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

const NS_PER_MS: i64 = 1_000_000;
/// How far this machine's and the other's idea of a second may differ: 0.05 %.
const DRIFT_PER_MILLION: i64 = 500;

/// What the other answered, and when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Their time.
    pub theirs: Timestamp,
    /// Just before they were asked.
    pub asked: Instant,
    /// How long their answer took: half of it is how wrong it can be.
    pub took: Duration,
}

/// A clock that shows another's time, which replicas agree on because all of them follow the same one. Between two answers
/// it runs at the pace of this machine's steady clock, so that setting this machine's time moves nothing.
///
/// It never goes back within the process. Where it turns out to be ahead it runs at half its pace until the other has
/// caught up; it does not stand still, because deadlines hang on it.
#[derive(Debug)]
pub struct FollowedClock {
    started: Instant,
    state: Mutex<State>,
}

/// All in nanoseconds since the clock was made, or since 1970.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Their time less the time since the start.
    ahead: i64,
    /// How wrong that could be when it was measured.
    off_by: i64,
    measured: i64,
    /// What this clock showed when it was corrected last: from there on it runs at half its pace at least.
    shown: i64,
    corrected: i64,
}

impl FollowedClock {
    /// A clock that shows what was answered.
    pub fn new(answer: Answer) -> Self {
        let started = answer.asked;
        let (ahead, off_by, measured) = read(answer, started);
        let state = State { ahead, off_by, measured, shown: i64::MIN / 2, corrected: 0 };
        Self { started, state: Mutex::new(state) }
    }

    /// Takes another answer into account: not if what is known already is the better measurement and agrees with it.
    pub fn correct(&self, answer: Answer) {
        let mut state = self.state.lock();
        state.correct(read(answer, self.started), nanoseconds(self.started.elapsed()));
    }
}

impl Clock for FollowedClock {
    fn now(&self) -> Timestamp {
        // Read under the lock, so that the time since the start does not fall either.
        let state = self.state.lock();
        Timestamp(state.at(nanoseconds(self.started.elapsed())).div_euclid(NS_PER_MS))
    }
}

impl State {
    fn at(&self, elapsed: i64) -> i64 {
        let theirs = self.ahead.saturating_add(elapsed);
        let at_least = self.shown.saturating_add((elapsed - self.corrected) / 2);
        theirs.max(at_least)
    }

    fn correct(&mut self, (ahead, off_by, measured): (i64, i64, i64), elapsed: i64) {
        let drift = (measured - self.measured).max(0) / 1_000_000 * DRIFT_PER_MILLION;
        let ours_off_by = self.off_by.saturating_add(drift);
        let agree = ahead.abs_diff(self.ahead) <= ours_off_by.saturating_add(off_by).unsigned_abs();
        if agree && ours_off_by < off_by {
            return;
        }
        let shown = self.at(elapsed);
        *self = Self { ahead, off_by, measured, shown, corrected: elapsed };
    }
}

/// What an answer says of the difference, how wrong it can be, and when that was.
fn read(Answer { theirs, asked, took }: Answer, started: Instant) -> (i64, i64, i64) {
    let half = nanoseconds(took) / 2;
    let middle = nanoseconds(asked.saturating_duration_since(started)).saturating_add(half);
    // A millisecond was cut off at its end.
    let theirs = theirs.0.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS / 2);
    (theirs.saturating_sub(middle), half.saturating_add(NS_PER_MS / 2), middle)
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const MS: i64 = NS_PER_MS;

    /// A state that was measured at the start: they are `ahead` milliseconds ahead, give or take one.
    fn state(ahead: i64) -> State {
        State { ahead: ahead * MS, off_by: MS, measured: 0, shown: i64::MIN / 2, corrected: 0 }
    }

    #[test]
    fn it_shows_their_time_whatever_this_machine_believes() {
        let theirs = Timestamp(1_000_000_000);
        let clock = FollowedClock::new(Answer { theirs, asked: Instant::now(), took: Duration::ZERO });
        let now = clock.now();
        assert!(now >= theirs && now.0 < theirs.0 + 60_000, "{now:?}");
    }

    #[test]
    fn a_slow_answer_counts_from_the_middle_of_its_way() {
        let asked = Instant::now();
        let answer = Answer { theirs: Timestamp(10_000), asked, took: Duration::from_millis(200) };
        let (ahead, off_by, measured) = read(answer, asked);
        assert_eq!((ahead / MS, off_by / MS, measured / MS), (9_900, 100, 100));
    }

    #[test]
    fn ahead_is_followed_at_once_and_behind_at_half_the_pace() {
        let mut state = state(5_000);
        assert_eq!(state.at(100 * MS), 5_100 * MS);
        state.correct((7_000 * MS, MS, 100 * MS), 100 * MS);
        assert_eq!(state.at(100 * MS), 7_100 * MS);
        state.correct((6_000 * MS, MS, 200 * MS), 200 * MS);
        assert_eq!(state.at(200 * MS), 7_200 * MS, "never back");
        assert_eq!(state.at(1_200 * MS), 7_700 * MS, "half a second in a second");
        assert_eq!(state.at(2_200 * MS), 8_200 * MS, "caught up");
        assert_eq!(state.at(3_200 * MS), 9_200 * MS);
    }

    #[test]
    fn a_worse_measurement_that_agrees_changes_nothing_and_one_that_does_not_agree_counts() {
        let mut state = state(5_000);
        state.correct((5_020 * MS, 40 * MS, 10 * MS), 10 * MS);
        assert_eq!(state.at(10 * MS), 5_010 * MS);
        state.correct((5_500 * MS, 40 * MS, 10 * MS), 10 * MS);
        assert_eq!(state.at(10 * MS), 5_510 * MS);
    }

    #[test]
    fn what_was_measured_long_ago_gives_way_to_a_worse_measurement() {
        let mut state = state(5_000);
        let later = 100_000 * MS;
        state.correct((5_020 * MS, 40 * MS, later), later);
        assert_eq!(state.at(later), 105_020 * MS);
    }

    #[test]
    fn it_never_goes_back_on_any_thread_while_it_is_corrected() {
        let answer = |theirs| Answer { theirs: Timestamp(theirs), asked: Instant::now(), took: Duration::ZERO };
        let clock = Arc::new(FollowedClock::new(answer(1_000_000)));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = clock.now();
                    while !done.load(Ordering::Relaxed) {
                        let now = clock.now();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
            for turn in 0..2_000_i64 {
                clock.correct(answer(1_000_000 + turn % 7 * 100 - turn % 3 * 150));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
