//! How far an index beside the database is up with it.

use crate::{Error, Violation};
use std::fmt;
use std::str::FromStr;

/// A place in the log of the database: everything that was committed before it is in the index. Written `<epoch>-<lsn>`, both in
/// hexadecimal digits; a log that begins anew (restored, or another server) has the next epoch, so that places always compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexPosition {
    /// Which log.
    pub epoch: u8,
    /// The place in it, in bytes. At most 56 bits.
    pub lsn: u64,
}

/// How many bits of a version the place takes; the epoch is above.
const LSN_BITS: u32 = 56;

impl IndexPosition {
    /// As one number, as rows of the index carry it: the epoch in the top 8 bits.
    pub fn version(self) -> u64 {
        u64::from(self.epoch) << LSN_BITS | self.lsn & (u64::MAX >> (u64::BITS - LSN_BITS))
    }

    /// The position that a version stands for.
    pub fn of_version(version: u64) -> Self {
        Self { epoch: (version >> LSN_BITS) as u8, lsn: version & (u64::MAX >> (u64::BITS - LSN_BITS)) }
    }
}

impl fmt::Display for IndexPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.lsn)
    }
}

impl FromStr for IndexPosition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Violation::new("wait_as_of", "must be `now`, or the `as_of` of an earlier answer");
        // from_str_radix takes a sign.
        if !text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
            return Err(wrong().into());
        }
        let (epoch, lsn) = text.split_once('-').ok_or_else(wrong)?;
        let epoch = u8::from_str_radix(epoch, 16).map_err(|_| wrong())?;
        let lsn = u64::from_str_radix(lsn, 16).map_err(|_| wrong())?;
        if lsn >> LSN_BITS != 0 { Err(wrong().into()) } else { Ok(Self { epoch, lsn }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_and_its_version() {
        for (epoch, lsn) in [(0, 0), (1, 0x16B_3748), (255, (1 << LSN_BITS) - 1)] {
            let position = IndexPosition { epoch, lsn };
            assert_eq!(position.to_string().parse::<IndexPosition>().unwrap(), position);
            assert_eq!(IndexPosition::of_version(position.version()), position);
        }
    }

    #[test]
    fn positions_compare_by_epoch_first() {
        let position = |text: &str| text.parse::<IndexPosition>().unwrap();
        assert!(position("1-ff") < position("2-0") && position("2-ff") < position("2-100"));
        assert!(position("1-ff").version() < position("2-0").version());
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "-", "1", "1-", "-1", "+1-2", "1-2-3", "100-0", "0-100000000000000", "1-g", "now", "1--2"] {
            assert!(text.parse::<IndexPosition>().is_err(), "{text}");
        }
    }
}
