//! What a sweep has looked at.

use std::collections::HashSet;
use std::hash::Hash;

/// Rows of one page.
pub(crate) const PAGE: u32 = 100;
/// Rows that one sweep looks at, more or less. Where so many cannot be moved, something is wrong with all of them.
const SEEN_MAX: usize = 1_000;

/// Rows come in pages, those that cannot be moved first again and again. Passed over, they hide nothing behind them.
pub(crate) struct Seen<Id>(HashSet<Id>);

impl<Id: Clone + Eq + Hash> Seen<Id> {
    pub(crate) fn new() -> Self {
        Self(HashSet::new())
    }

    /// How many rows to read for a page of new ones.
    pub(crate) fn limit(&self) -> u32 {
        PAGE + u32::try_from(self.0.len()).unwrap_or(u32::MAX - PAGE)
    }

    /// Those of what was read with that limit that were not seen yet, and whether to read on after them.
    pub(crate) fn new_of<T>(&mut self, read: Vec<T>, id: impl Fn(&T) -> &Id) -> (Vec<T>, bool) {
        let is_full = read.len() >= self.limit() as usize;
        let new = read.into_iter().filter(|row| self.0.insert(id(row).clone())).collect();
        (new, is_full && self.0.len() < SEEN_MAX)
    }
}
