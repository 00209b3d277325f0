//! What is left to do, by session.

use continuo_domain::SessionId;
use continuo_domain::channel::{ChannelKey, Debt, Direction};
use continuo_ports::ChannelStore;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Sessions with something left to do. What would come on top is found by the debts, or by a look at everything.
const SESSIONS_MAX: usize = 100_000;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What is left to do for one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// There is a message that a run should read.
    pub(super) wants_run: bool,
    /// There is a record on `.in` that somebody may wait for.
    input: bool,
    /// The same on `.out`.
    output: bool,
    pub(super) debts: HashSet<Debt>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Due {
    fn new(channel: &ChannelKey, debt: Option<Debt>) -> Self {
        let is = |direction| channel.is_reserved() && channel.direction == direction;
        Self {
            input: is(Direction::In),
            output: is(Direction::Out),
            debts: debt.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Of an append of which nothing is known but where it is: it may be a message.
    pub(super) fn of_debt(channel: &ChannelKey, debt: Debt) -> Self {
        let due = Self::new(channel, Some(debt));
        Self { wants_run: due.input, ..due }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.wants_run |= other.wants_run;
        self.input |= other.input;
        self.output |= other.output;
        self.debts.extend(other.debts);
        self.failures = self.failures.max(other.failures);
        self.not_before = self.not_before.max(other.not_before);
    }

    /// The channels that somebody may wait on.
    pub(super) fn channels(&self, session: &SessionId) -> impl Iterator<Item = ChannelKey> {
        let sides = [(self.input, Direction::In), (self.output, Direction::Out)];
        let session = session.clone();
        let due = sides.into_iter().filter(|(is_due, _)| *is_due);
        due.map(move |(_, direction)| ChannelKey::reserved(session.clone(), direction))
    }

    pub(super) fn nobody_waits(&mut self) {
        (self.input, self.output) = (false, false);
    }

    pub(super) fn is_done(&self) -> bool {
        !self.wants_run && !self.input && !self.output
    }

    fn is_due(&self, now: Option<Instant>) -> bool {
        now.is_none_or(|now| self.not_before.is_none_or(|at| at <= now))
    }
}

/// All that is left to do.
#[derive(Default)]
pub(crate) struct FollowUps {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    due: HashMap<SessionId, Due>,
    /// Each session of `due` once.
    order: VecDeque<SessionId>,
    was_too_much: bool,
}

impl FollowUps {
    fn add(&self, session: SessionId, due: Due) {
        let mut state = self.state.lock();
        let is_full = state.due.len() >= SESSIONS_MAX;
        match state.due.entry(session) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(due),
            Entry::Vacant(_) if is_full => state.was_too_much = true,
            Entry::Vacant(entry) => {
                let session = entry.key().clone();
                entry.insert(due);
                state.order.push_back(session);
            }
        }
        drop(state);
        self.news.notify_one();
    }

    /// Puts back what failed, for a later moment.
    pub(super) fn retry(&self, session: SessionId, mut due: Due, now: Instant) {
        let wait = RETRY_FIRST.saturating_mul(1 << due.failures.min(16)).min(RETRY_MAX);
        due.failures += 1;
        due.not_before = Some(now + wait);
        self.add(session, due);
    }

    /// Takes out what is due at `now`, or whatever there is; the oldest first, at most `count`.
    pub(super) fn take(&self, count: usize, now: Option<Instant>) -> Vec<(SessionId, Due)> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        for _ in 0..state.order.len() {
            if taken.len() >= count {
                break;
            }
            let Some(session) = state.order.pop_front() else { break };
            match state.due.entry(session) {
                Entry::Occupied(entry) if entry.get().is_due(now) => taken.push(entry.remove_entry()),
                Entry::Occupied(entry) => {
                    let session = entry.key().clone();
                    state.order.push_back(session);
                }
                Entry::Vacant(_) => {}
            }
        }
        taken
    }

    /// Wakes when something is due, not before `earliest`.
    pub(super) async fn next(&self, earliest: Instant) {
        loop {
            tokio::time::sleep_until(earliest).await;
            let next_at = {
                let state = self.state.lock();
                state.due.values().map(|due| due.not_before.unwrap_or(earliest)).min()
            };
            match next_at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => return,
                    () = self.news.notified() => {}
                },
                None => self.news.notified().await,
            }
        }
    }

    /// More came than has a place: somebody has to look at everything.
    pub(super) fn is_too_much(&self) {
        self.state.lock().was_too_much = true;
    }

    /// Did more come than has a place? Asked by who then looks at everything.
    pub(super) fn was_too_much(&self) -> bool {
        std::mem::take(&mut self.state.lock().was_too_much)
    }
}

/// What one append leaves to do. It is put down when this is dropped, so that it is not lost with a caller that goes away.
pub(crate) struct FollowUp {
    all: Arc<FollowUps>,
    channels: Arc<dyn ChannelStore>,
    session: SessionId,
    due: Due,
}

impl FollowUp {
    pub(super) fn new(
        all: Arc<FollowUps>,
        channels: Arc<dyn ChannelStore>,
        channel: &ChannelKey,
        debt: Option<Debt>,
    ) -> Self {
        Self { all, channels, session: channel.session.clone(), due: Due::new(channel, debt) }
    }

    /// Does a run have to be made sure of?
    pub(crate) fn wants_run(&mut self, wants_run: bool) {
        self.due.wants_run = wants_run;
    }

    pub(crate) fn is_run_wanted(&self) -> bool {
        self.due.wants_run
    }

    /// There is nothing among the records that anybody waits for.
    pub(crate) fn nobody_waits(&mut self) {
        self.due.nobody_waits();
    }
}

impl Drop for FollowUp {
    fn drop(&mut self) {
        let due = std::mem::take(&mut self.due);
        if due.is_done() {
            due.debts.into_iter().for_each(|debt| self.channels.followed_up(debt));
        } else {
            self.all.add(self.session.clone(), due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(session: &str) -> ChannelKey {
        ChannelKey::reserved(SessionId::from_body(session), Direction::In)
    }

    fn add(all: &FollowUps, session: &str, debt: u64) {
        all.add(SessionId::from_body(session), Due::of_debt(&input(session), Debt(debt)));
    }

    #[test]
    fn many_appends_of_a_session_are_one_entry() {
        let all = FollowUps::default();
        (0..10).for_each(|debt| add(&all, "a", debt));
        add(&all, "b", 10);
        let taken = all.take(9, None);
        assert_eq!(taken.iter().map(|(_, due)| due.debts.len()).collect::<Vec<_>>(), [10, 1]);
        assert!(all.take(9, None).is_empty());
    }

    #[test]
    fn what_failed_waits_and_holds_up_nobody() {
        let all = FollowUps::default();
        let now = Instant::now();
        ["a", "b"].into_iter().for_each(|session| add(&all, session, 0));
        let (session, due) = all.take(1, Some(now)).pop().unwrap();
        all.retry(session.clone(), due, now);
        assert_eq!(all.take(9, Some(now)).pop().unwrap().0, SessionId::from_body("b"));
        assert!(all.take(9, Some(now)).is_empty());
        let (_, due) = all.take(9, Some(now + RETRY_FIRST)).pop().unwrap();
        all.retry(session, due, now);
        assert!(all.take(9, Some(now + RETRY_FIRST)).is_empty(), "longer each time");
        assert_eq!(all.take(9, None).len(), 1, "unless everything is asked for");
    }

    #[test]
    fn what_has_no_place_is_looked_for_once() {
        let all = FollowUps::default();
        (0..SESSIONS_MAX).for_each(|n| add(&all, &n.to_string(), 0));
        assert!(!all.was_too_much());
        add(&all, "one more", 0);
        assert_eq!((all.was_too_much(), all.was_too_much()), (true, false));
    }
}
