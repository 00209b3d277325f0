//! A small memory of what the database said, for less than a second: that is how fast a revocation must count.

use continuo_domain::{Result, Timestamp};
use parking_lot::RwLock;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Revocations are in force within a second. An answer ages from before it was asked for, so this may be the whole second.
const LIFE_MS: u64 = 1_000;

/// Answers by key; bounded in age and in number.
pub(crate) struct Cache<K, V> {
    inner: RwLock<Inner<K, V>>,
    entries_max: usize,
}

struct Inner<K, V> {
    entries: HashMap<K, (Timestamp, V)>,
    /// Raised by each invalidation, so that an answer asked for before it is not stored after it.
    generation: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { inner: RwLock::new(Inner { entries: HashMap::new(), generation: 0 }), entries_max }
    }

    /// The remembered answer, or the loaded one. Absence is not remembered: a key made after a first failed try counts at
    /// once, and a guesser fills nothing.
    pub(crate) async fn get_or_load<Q>(
        &self,
        key: &Q,
        now: Timestamp,
        load: impl Future<Output = Result<Option<V>>>,
    ) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let generation = match self.peek(key, now) {
            Ok(answer) => return Ok(Some(answer)),
            Err(generation) => generation,
        };
        let loaded = load.await?;
        if let Some(answer) = &loaded {
            self.put(key.to_owned(), answer.clone(), now, generation);
        }
        Ok(loaded)
    }

    /// Forgets everything, answers that are on their way included.
    pub(crate) fn invalidate(&self) {
        let mut inner = self.inner.write();
        inner.entries.clear();
        inner.generation += 1;
    }

    fn peek<Q>(&self, key: &Q, now: Timestamp) -> Result<V, u64>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let inner = self.inner.read();
        let fresh = inner.entries.get(key).filter(|(asked_at, _)| is_fresh(*asked_at, now));
        fresh.map(|(_, answer)| answer.clone()).ok_or(inner.generation)
    }

    fn put(&self, key: K, answer: V, asked_at: Timestamp, generation: u64) {
        let mut inner = self.inner.write();
        if inner.generation != generation {
            return;
        }
        if inner.entries.len() >= self.entries_max {
            inner.entries.retain(|_, (at, _)| is_fresh(*at, asked_at));
        }
        // Still full of fresh answers: starting over is cheaper than choosing, and costs one look-up each.
        if inner.entries.len() >= self.entries_max {
            inner.entries.clear();
        }
        inner.entries.insert(key, (asked_at, answer));
    }
}

/// An answer from the future is not fresh either: after a step back of the clock it would live too long.
fn is_fresh(asked_at: Timestamp, now: Timestamp) -> bool {
    asked_at <= now && now.ms_since(asked_at) < LIFE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    async fn get(cache: &Cache<String, u32>, key: &str, at: i64, loads: Option<u32>) -> Option<u32> {
        cache.get_or_load(key, Timestamp(at), ready(Ok(loads))).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_lives_less_than_a_second() {
        let cache = Cache::new(10);
        assert_eq!(get(&cache, "a", 5_000, Some(1)).await, Some(1));
        assert_eq!(get(&cache, "a", 5_999, Some(2)).await, Some(1));
        assert_eq!(get(&cache, "a", 6_000, Some(3)).await, Some(3));
        assert_eq!(get(&cache, "a", 4_000, Some(4)).await, Some(4), "the clock stepped back");
    }

    #[tokio::test]
    async fn absence_is_not_remembered() {
        let cache = Cache::new(10);
        assert_eq!(get(&cache, "a", 5_000, None).await, None);
        assert_eq!(get(&cache, "a", 5_000, Some(1)).await, Some(1));
    }

    #[tokio::test]
    async fn an_answer_asked_for_before_an_invalidation_is_not_kept() {
        let cache = Cache::new(10);
        let stale = async {
            cache.invalidate();
            Ok(Some(1))
        };
        assert_eq!(cache.get_or_load("a", Timestamp(5_000), stale).await.unwrap(), Some(1));
        assert_eq!(get(&cache, "a", 5_000, Some(2)).await, Some(2));
    }

    #[tokio::test]
    async fn it_never_grows_past_its_bound() {
        let cache = Cache::new(10);
        for key in 0..1_000 {
            get(&cache, &key.to_string(), 5_000, Some(key)).await;
            assert!(cache.inner.read().entries.len() <= 10);
        }
    }
}
