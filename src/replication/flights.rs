//! Which batches are on their way to the index, and how far the log may be acknowledged.
//!
//! Batches are stored side by side and finish in any order. The slot moves only past the oldest contiguous run of finished ones:
//! what lies behind it is stored, or parked, without a gap.

use std::collections::VecDeque;

/// A position in the log.
pub type Lsn = u64;

/// Names a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flight(u64);

/// The batches on their way, in the order of the log.
#[derive(Debug, Default)]
pub struct Flights {
    open: VecDeque<Open>,
    next: u64,
    acknowledged: Lsn,
}

#[derive(Debug)]
struct Open {
    end_lsn: Lsn,
    is_finished: bool,
}

impl Flights {
    /// A batch leaves, whose last transaction ends at `end_lsn`. Batches leave in the order of the log.
    pub fn depart(&mut self, end_lsn: Lsn) -> Flight {
        debug_assert!(self.open.back().is_none_or(|last| last.end_lsn <= end_lsn), "in the order of the log");
        self.open.push_back(Open { end_lsn, is_finished: false });
        self.next += 1;
        Flight(self.next - 1)
    }

    /// A batch is stored. The new position to acknowledge, if it moves.
    pub fn finish(&mut self, flight: Flight) -> Option<Lsn> {
        let first = self.next - self.open.len() as u64;
        let index = usize::try_from(flight.0.checked_sub(first)?).ok()?;
        self.open.get_mut(index)?.is_finished = true;
        let before = self.acknowledged;
        while self.open.front().is_some_and(|oldest| oldest.is_finished) {
            let Some(oldest) = self.open.pop_front() else { break };
            self.acknowledged = self.acknowledged.max(oldest.end_lsn);
        }
        (self.acknowledged > before).then_some(self.acknowledged)
    }

    /// The server has nothing more up to here. It counts only while nothing is on its way.
    pub fn idle_at(&mut self, lsn: Lsn) -> Option<Lsn> {
        if !self.open.is_empty() || lsn <= self.acknowledged {
            return None;
        }
        self.acknowledged = lsn;
        Some(lsn)
    }

    /// How many are on their way, or wait for an older one.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Is none on its way?
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_younger_batch_waits_for_the_older_ones() {
        let mut flights = Flights::default();
        let (first, second, third) = (flights.depart(10), flights.depart(20), flights.depart(30));
        assert_eq!(flights.finish(third), None);
        assert_eq!(flights.idle_at(40), None, "something is on its way");
        assert_eq!(flights.finish(first), Some(10));
        assert_eq!(flights.finish(first), None, "once");
        assert_eq!(flights.finish(second), Some(30));
        assert!(flights.is_empty());
        assert_eq!((flights.idle_at(40), flights.idle_at(35)), (Some(40), None));
    }

    proptest! {
        /// Whatever the order: nothing is acknowledged while something older is not stored, and in the end everything is.
        #[test]
        fn no_position_is_acknowledged_over_a_gap(order in Just((0..12_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut flights = Flights::default();
            let all: Vec<_> = (0..12).map(|i| flights.depart((i + 1) * 10)).collect();
            let mut finished = [false; 12];
            let mut position = 0;
            for index in order {
                finished[index as usize] = true;
                position = flights.finish(all[index as usize]).unwrap_or(position);
                let contiguous = finished.iter().take_while(|is_finished| **is_finished).count() as u64;
                prop_assert_eq!(position, contiguous * 10);
            }
            prop_assert_eq!(position, 120);
        }
    }
}
