//! Timestamps. Ours are milliseconds; what a caller gives beyond that is cut off.

use continuo_domain::{Result, Timestamp, Violation};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what google.protobuf.Timestamp may hold.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Reads a timestamp, if there is one.
pub(crate) fn parse(field: &str, wire: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>> {
    let Some(wire) = wire else { return Ok(None) };
    if !SECONDS.contains(&wire.seconds) || !(0..1_000_000_000).contains(&wire.nanos) {
        return Err(Violation::new(field, "must lie in the years 1 to 9999, with nanos from 0 to 999999999").into());
    }
    Ok(Some(Timestamp(wire.seconds * 1_000 + i64::from(wire.nanos) / 1_000_000)))
}

/// Prints a timestamp.
pub(crate) fn print(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: at.0.div_euclid(1_000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn milliseconds_survive(ms in SECONDS.start() * 1_000..=SECONDS.end() * 1_000) {
            prop_assert_eq!(parse("at", Some(print(Timestamp(ms)))).unwrap(), Some(Timestamp(ms)));
        }
    }

    #[test]
    fn what_is_no_moment_names_its_field() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (SECONDS.end() + 1, 0)] {
            let error = parse("expires_at", Some(prost_types::Timestamp { seconds, nanos })).unwrap_err();
            assert!(error.to_string().starts_with("expires_at: "), "{error}");
        }
        assert_eq!(parse("at", None).unwrap(), None);
    }
}
