//! What may be forgotten: two generations, the older of which goes when the younger is full or old.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// What nobody asked for in one to two of these is forgotten.
const GENERATION: Duration = Duration::from_secs(600);

pub(crate) struct Remembered<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Entries of one generation.
    room: usize,
    since: Instant,
    /// In use, and therefore kept.
    is_used: fn(&V) -> bool,
}

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    pub(crate) fn new(room: usize) -> Self {
        Self::with_users(room, |_| false)
    }

    pub(crate) fn with_users(room: usize, is_used: fn(&V) -> bool) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), room, since: Instant::now(), is_used }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.room || self.since.elapsed() > GENERATION {
            let is_used = self.is_used;
            let used = self.old.extract_if(|_, value| is_used(value)).collect();
            self.old = std::mem::replace(&mut self.young, used);
            self.since = Instant::now();
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Takes out all whose key is meant.
    pub(crate) fn remove_all(&mut self, is_meant: impl Fn(&K) -> bool) -> Vec<V> {
        let is_meant = &is_meant;
        let young = self.young.extract_if(|key, _| is_meant(key));
        young.chain(self.old.extract_if(|key, _| is_meant(key))).map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_oldest_go_and_the_used_stay() {
        let mut remembered = Remembered::with_users(2, |value: &Arc<u32>| Arc::strong_count(value) > 1);
        let used = Arc::new(0);
        remembered.insert(0, used.clone());
        for key in 1..100 {
            remembered.insert(key, Arc::new(key));
            assert_eq!(remembered.get(&1).is_some(), key < 100, "asked for every time");
        }
        assert!(remembered.get(&0).is_some() && remembered.get(&50).is_none());
        assert!(remembered.young.len() + remembered.old.len() <= 5);
        assert_eq!(remembered.remove_all(|&key| key == 1).len(), 1);
        assert!(remembered.get(&1).is_none() && remembered.remove(&99).is_some());
    }
}
