//! Who waits on which channel, in memory. A restart forgets everything, which the port allows: the truth is in rows.

use async_trait::async_trait;
use continuo_domain::{Result, Timestamp, WaitpointId};
use continuo_ports::waitpoint_registry::WaitKey;
use continuo_ports::{Clock, WaitpointRegistry};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Most expired sets one registration clears away: more than the one it may add, so that a backlog always shrinks.
const SWEEP_MAX: usize = 16;

/// Sets of waits under one lock, which is held for a few map operations at a time.
pub struct InProcessRegistry {
    clock: Arc<dyn Clock>,
    sets: Mutex<Sets>,
}

impl InProcessRegistry {
    /// Empty. The clock decides which sets nobody will drain any more.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sets: Mutex::default() }
    }
}

#[async_trait]
impl WaitpointRegistry for InProcessRegistry {
    async fn register(&self, key: &WaitKey, waitpoint: &WaitpointId, until: Timestamp) -> Result<()> {
        let now = self.clock.now();
        let mut sets = self.sets.lock();
        sets.sweep(now);
        sets.add(key, waitpoint, until);
        Ok(())
    }

    async fn remove(&self, key: &WaitKey, waitpoint: &WaitpointId) -> Result<()> {
        self.sets.lock().remove(key, waitpoint);
        Ok(())
    }

    async fn drain(&self, key: &WaitKey, now: Timestamp) -> Result<Vec<WaitpointId>> {
        let drained = self.sets.lock().take(key);
        let waits = drained.map(|set| set.waitpoints).unwrap_or_default();
        Ok(waits.into_iter().filter(|(_, until)| now < *until).map(|(waitpoint, _)| waitpoint).collect())
    }
}

impl fmt::Debug for InProcessRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessRegistry(..)")
    }
}

struct Set {
    until: Timestamp,
    /// Tells sets apart that end at the same moment.
    number: u64,
    /// Each with its end.
    waitpoints: BTreeMap<WaitpointId, Timestamp>,
}

/// Every set is in `by_key` and, under its end, in `by_end`: in both or in neither.
#[derive(Default)]
struct Sets {
    by_key: HashMap<WaitKey, Set>,
    by_end: BTreeMap<(Timestamp, u64), WaitKey>,
    last_number: u64,
}

impl Sets {
    fn add(&mut self, key: &WaitKey, waitpoint: &WaitpointId, until: Timestamp) {
        let mut set = self.take(key).unwrap_or_else(|| self.new_set(until));
        set.until = set.until.max(until);
        let end = set.waitpoints.entry(waitpoint.clone()).or_insert(until);
        *end = until.max(*end);
        self.put(key.clone(), set);
    }

    fn remove(&mut self, key: &WaitKey, waitpoint: &WaitpointId) {
        let Some(mut set) = self.take(key) else { return };
        set.waitpoints.remove(waitpoint);
        if !set.waitpoints.is_empty() {
            self.put(key.clone(), set);
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEEP_MAX {
            let Some(first) = self.by_end.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let key = first.remove();
            self.by_key.remove(&key);
        }
    }

    fn take(&mut self, key: &WaitKey) -> Option<Set> {
        let set = self.by_key.remove(key)?;
        self.by_end.remove(&(set.until, set.number));
        Some(set)
    }

    fn put(&mut self, key: WaitKey, set: Set) {
        self.by_end.insert((set.until, set.number), key.clone());
        self.by_key.insert(key, set);
    }

    fn new_set(&mut self, until: Timestamp) -> Set {
        self.last_number += 1;
        Set { until, number: self.last_number, waitpoints: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;
    use continuo_domain::EnvironmentId;
    use continuo_domain::channel::Direction;
    use continuo_domain::waitpoint::WaitedSession;

    crate::waitpoint_registry_contract::waitpoint_registry_contract!(
        contract,
        crate::waitpoint_registry_contract,
        Arc::new(InProcessRegistry::new(Arc::new(SystemClock::new())))
    );

    fn key(name: usize) -> WaitKey {
        let environment = EnvironmentId::from_body("e");
        WaitKey { environment, session: WaitedSession::Name(name.to_string()), direction: Direction::In }
    }

    #[test]
    fn sets_nobody_drains_do_not_pile_up() {
        let mut sets = Sets::default();
        for turn in 0..10_000 {
            let now = Timestamp(turn);
            sets.sweep(now);
            sets.add(&key(turn as usize), &WaitpointId::from_body("w"), now.plus_ms(50));
            assert!(sets.by_key.len() <= 51, "{} sets", sets.by_key.len());
            assert_eq!(sets.by_key.len(), sets.by_end.len());
        }
    }

    #[test]
    fn a_backlog_shrinks_a_bounded_step_at_a_time() {
        let mut sets = Sets::default();
        (0..1_000).for_each(|name| sets.add(&key(name), &WaitpointId::from_body("w"), Timestamp(10)));
        sets.sweep(Timestamp(10));
        assert_eq!((sets.by_key.len(), sets.by_end.len()), (1_000 - SWEEP_MAX, 1_000 - SWEEP_MAX));
    }

    #[test]
    fn a_set_that_is_drained_or_emptied_leaves_nothing() {
        let mut sets = Sets::default();
        let (a, b) = (WaitpointId::from_body("a"), WaitpointId::from_body("b"));
        for (waitpoint, until) in [(&a, 10), (&b, 99), (&a, 50)] {
            sets.add(&key(1), waitpoint, Timestamp(until));
        }
        assert_eq!((sets.by_key.len(), sets.by_end.len()), (1, 1));
        sets.remove(&key(1), &a);
        sets.remove(&key(1), &b);
        assert!(sets.by_key.is_empty() && sets.by_end.is_empty());
    }
}
