//! A transaction of the log: its version, its number, its age.

use crate::Lsn;
use continuo_domain::IndexPosition;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2000-01-01, which the log counts from, in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What `Begin` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Of every row it changes.
    pub(crate) version: u64,
    /// The low 32 bits of its number.
    pub(crate) id: u32,
    /// Microseconds since 2000-01-01.
    pub(crate) committed_at: i64,
    /// Did it change what a list can ask for? Then the database has notes of it.
    pub(crate) is_noted: bool,
}

impl Transaction {
    pub(crate) fn begin(epoch: u8, final_lsn: Lsn, committed_at: i64, id: u32) -> Self {
        Self { version: version(epoch, final_lsn), id, committed_at, is_noted: false }
    }
}

/// The version of what a transaction wrote whose commit record begins at `final_lsn`: the byte after that.
///
/// Not the end of the record, because that is known only when the whole transaction has been read, and one of a million rows
/// has to be stored in parts. It orders transactions in the same way, since records do not overlap. And it stands to any
/// position of the log as the end does: for a position P between two records the record begins before P, so its version is at
/// most P, exactly if it ends at or before P. So "version > P" means "committed after P" for either choice.
pub(crate) fn version(epoch: u8, final_lsn: Lsn) -> u64 {
    IndexPosition { epoch, lsn: final_lsn + 1 }.version()
}

/// The whole number of a transaction. The log has the low 32 bits; `near` is any whole number of the same time: Postgres keeps
/// those it still has to read within 2^31 of each other.
pub(crate) fn whole_id(id: u32, near: u64) -> i64 {
    let difference = id.wrapping_sub(near as u32).cast_signed();
    near.wrapping_add_signed(i64::from(difference)).cast_signed()
}

/// How long ago a transaction committed. Zero if the clocks disagree.
pub(crate) fn age(committed_at: i64) -> Duration {
    let since_1970 = u64::try_from(committed_at.saturating_add(POSTGRES_EPOCH_MICROS)).unwrap_or_default();
    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_micros(since_1970)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_completed_to_the_nearest() {
        for (near, id, whole) in [
            (0, 0, 0),
            (750, 748, 748),
            (750, 800, 800),
            (0x1_0000_0002, 0xffff_fff0, 0xffff_fff0),
            (0x1_0000_0002, 1, 0x1_0000_0001),
            (0x1_ffff_fff0, 5, 0x2_0000_0005),
        ] {
            assert_eq!(whole_id(id, near), whole, "{id:x} near {near:x}");
        }
    }

    proptest! {
        /// Records do not overlap: positions between them tell the versions apart as they tell the ends.
        #[test]
        fn a_version_is_beyond_a_position_exactly_if_the_end_is(
            sizes in prop::collection::vec((0_u64..500, 34_u64..500), 1..20),
            epoch in 0_u8..4,
        ) {
            let mut at = 0x16B_3740;
            let mut records = vec![];
            let mut between = vec![at];
            for (gap, size) in sizes {
                records.push((at + gap, at + gap + size));
                at += gap + size;
                between.push(at);
            }
            for position in between {
                for (start, end) in &records {
                    // A position is the end of some record, or in the gap after it.
                    prop_assume!(position <= *start || position >= *end);
                    let at = IndexPosition { epoch, lsn: position }.version();
                    prop_assert_eq!(version(epoch, *start) > at, *end > position);
                }
            }
        }
    }
}
