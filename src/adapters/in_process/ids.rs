//! Identifiers that sort by the time of their making.

use continuo_domain::{Error, Result};
use continuo_ports::{Clock, Ids};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BODY_CHARS: usize = 26;
const RANDOM_BITS: u32 = 80;
/// Crockford's digits, small: no i, l, o or u, and in ASCII order, so that texts sort as the numbers do.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

const PART_CHARS: usize = 7;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// All part ids there are: 62^7.
const PARTS: u64 = 62_u64.pow(PART_CHARS as u32);
/// Bodies in the layout of a ULID: 48 bits of milliseconds, then 80 random ones; 26 digits of base 32. Within a
/// millisecond, and while the clock is behind, the next body is the last one plus one.
pub struct TimeOrderedIds {
    clock: Arc<dyn Clock>,
    last: Mutex<u128>,
    part_turn: AtomicU64,
    part_step: u64,
}

impl TimeOrderedIds {
    /// Over a clock. Fails where the operating system has no randomness.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self> {
        let no_randomness = || Error::internal("the operating system has no randomness");
        let part_turn = AtomicU64::new(random().ok_or_else(no_randomness)? as u64 % PARTS);
        let part_step = coprime_step(random().ok_or_else(no_randomness)? as u64 % PARTS);
        Ok(Self { clock, last: Mutex::new(0), part_turn, part_step })
    }
}

impl Ids for TimeOrderedIds {
    fn next(&self) -> String {
        let ms = u128::try_from(self.clock.now().0).unwrap_or(0) & ((1 << 48) - 1);
        let mut last = self.last.lock();
        // Drawn only for a new millisecond. Should the draw ever fail, counting on is still unique and in order.
        let fresh = if ms > *last >> RANDOM_BITS { random().map(|r| (ms << RANDOM_BITS) | r) } else { None };
        *last = fresh.unwrap_or(*last + 1).max(*last + 1);
        base32(*last)
    }

    // Counting in steps instead of drawing: faster, and no part id comes again before all of them were there.
    fn part_id(&self) -> String {
        let turn = self.part_turn.fetch_add(1, Ordering::Relaxed);
        base62((u128::from(turn) * u128::from(self.part_step) % u128::from(PARTS)) as u64)
    }
}

impl fmt::Debug for TimeOrderedIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeOrderedIds(..)")
    }
}

fn random() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes[..RANDOM_BITS as usize / 8]).ok()?;
    Some(u128::from_le_bytes(bytes))
}

/// The next number that shares no factor with 62 (2 times 31). Each process has a step of its own, so that two that meet
/// at one part id part again at the next.
fn coprime_step(from: u64) -> u64 {
    let is_coprime = |step: &u64| !step.is_multiple_of(2) && !step.is_multiple_of(31);
    (from..).find(is_coprime).unwrap_or(1)
}

fn base32(value: u128) -> String {
    (0..BODY_CHARS).rev().map(|digit| char::from(BASE32[(value >> (5 * digit)) as usize % 32])).collect()
}

fn base62(mut value: u64) -> String {
    let digits = (0..PART_CHARS).map(|_| {
        let digit = value % 62;
        value /= 62;
        char::from(BASE62[digit as usize])
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::{SessionId, Timestamp};
    use std::collections::HashSet;
    use std::sync::atomic::AtomicI64;

    struct SetClock(AtomicI64);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn ids() -> (Arc<SetClock>, TimeOrderedIds) {
        let clock = Arc::new(SetClock(AtomicI64::new(1_700_000_000_000)));
        (clock.clone(), TimeOrderedIds::new(clock).unwrap())
    }

    #[test]
    fn bodies_have_the_layout_of_a_ulid() {
        // The time part of the specification's own tools for this millisecond.
        assert!(ids().1.next().starts_with("01hf7yat00"));
        assert_eq!(base32(u128::MAX), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
        assert!(SessionId::parse(SessionId::from_body(&ids().1.next()).as_str()).is_ok());
    }

    #[test]
    fn bodies_only_grow_whatever_the_clock_does() {
        let (clock, ids) = ids();
        let mut last = String::new();
        for step in [0, 0, 1, 0, -500, 0, 2, 499, 1, 1_000] {
            clock.0.fetch_add(step, Ordering::Relaxed);
            for _ in 0..100 {
                let next = ids.next();
                assert!(next > last, "{next} after {last}");
                assert_eq!(next.len(), 26);
                last = next;
            }
        }
    }

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let (_, ids) = ids();
        *ids.last.lock() = (1_700_000_000_000_u128 << RANDOM_BITS) | ((1 << RANDOM_BITS) - 1);
        assert_eq!(ids.next(), "01hf7yat010000000000000000");
    }

    #[test]
    fn threads_share_no_body() {
        let (_, ids) = ids();
        let bodies: Vec<String> = std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..5_000).map(|_| ids.next()).collect::<Vec<_>>())).collect();
            makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(bodies.iter().collect::<HashSet<_>>().len(), 20_000);
    }

    #[test]
    fn part_ids_are_short_and_do_not_come_again() {
        let (_, ids) = ids();
        let parts: HashSet<_> = (0..100_000).map(|_| ids.part_id()).collect();
        assert_eq!(parts.len(), 100_000);
        assert!(parts.iter().all(|part| part.len() == 7 && part.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_eq!([0, 1, 31, 62].map(coprime_step), [1, 1, 33, 63]);
    }
}
