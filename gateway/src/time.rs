//! Points in time and durations, as the SDKs write and read them.

use jiff::{SignedDuration, Timestamp, civil, fmt::temporal::Pieces};

/// Calendar time reaches to the end of the year 9999, which people write for "never"; jiff's `Timestamp` ends a day earlier.
const EPOCH: civil::DateTime = civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// Milliseconds of this moment.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// ISO 8601 in UTC with milliseconds and `Z`, as `Date.prototype.toISOString` prints it.
pub(crate) fn iso(time: &prost_types::Timestamp) -> String {
    match EPOCH.checked_add(SignedDuration::from_millis(to_ms(time))) {
        Ok(time) => format!("{time:.3}Z"),
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// As [`iso`], for what may not be there.
pub(crate) fn iso_opt(time: &Option<prost_types::Timestamp>) -> Option<String> {
    time.as_ref().map(iso)
}

/// Milliseconds since the epoch, rounded down.
pub(crate) fn to_ms(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000))
}

/// The proto form of milliseconds since the epoch.
pub(crate) fn from_ms(ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

/// Reads an ISO date as `new Date(text)` does in UTC: with an offset, without one, or a day alone.
pub(crate) fn parse_iso_ms(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text.trim()).ok()?;
    let time = pieces.date().to_datetime(pieces.time().unwrap_or(civil::Time::midnight()));
    let offset_s = pieces.to_numeric_offset().map_or(0, |offset| offset.seconds());
    let ms = i64::try_from(time.duration_since(EPOCH).as_millis()).ok()?;
    Some(ms - i64::from(offset_s) * 1_000)
}

/// Reads `30s`, `15m`, `1h30m`, `7d`, `4w`, and the long forms that the `jose` library takes (`15 minutes`, `1hr`).
pub(crate) fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let tail = tail.trim_start();
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()));
        let amount: u64 = digits.parse().ok()?;
        total = total.checked_add(amount.checked_mul(unit_ms(unit)?)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

fn unit_ms(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "w" | "week" | "weeks" => 604_800_000,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600_000,
        _ => return None,
    })
}

/// A moment given as a duration from now or as an ISO date. What lies after the year 9999 is none.
pub(crate) fn parse_moment_ms(text: &str) -> Option<i64> {
    let moment = match parse_duration_ms(text) {
        Some(ms) => now_ms().checked_add(i64::try_from(ms).ok()?),
        None => parse_iso_ms(text),
    };
    moment.filter(|ms| EPOCH.checked_add(SignedDuration::from_millis(*ms)).is_ok())
}

/// Does the text match `^\d+[smhd]$`, the form of every `idempotencyKeyTTL`?
pub(crate) fn is_key_ttl(text: &str) -> bool {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    text.len() == digits.len() + 1 && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// A duration as the SDK writes one: `10m`, `1h30m`; parts of a second count as a whole one.
pub(crate) fn duration_text(ms: u64) -> String {
    let mut seconds = ms.div_ceil(1_000);
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
        if seconds >= size {
            text.push_str(&format!("{}{unit}", seconds / size));
            seconds %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iso_has_milliseconds_and_z() {
        assert_eq!(iso(&from_ms(1_767_225_600_000)), "2026-01-01T00:00:00.000Z");
        assert_eq!(iso(&from_ms(1_767_225_600_007)), "2026-01-01T00:00:00.007Z");
        assert_eq!(iso(&from_ms(-1)), "1969-12-31T23:59:59.999Z");
        assert_eq!(iso(&prost_types::Timestamp { seconds: 0, nanos: 999_999_999 }), "1970-01-01T00:00:00.999Z");
    }

    #[test]
    fn dates_are_read_as_javascript_reads_them() {
        assert_eq!(parse_iso_ms("2026-01-01T00:00:00.000Z"), Some(1_767_225_600_000));
        assert_eq!(parse_iso_ms("2026-01-01T02:00:00+02:00"), Some(1_767_225_600_000));
        assert_eq!(parse_iso_ms("2026-01-01T00:00:00"), Some(1_767_225_600_000));
        assert_eq!(parse_iso_ms("2026-01-01"), Some(1_767_225_600_000));
        assert_eq!(parse_iso_ms("9999-12-31T23:59:59.999Z"), Some(253_402_300_799_999));
        assert_eq!(parse_iso_ms("2026-01-01T00:00:00+02"), Some(1_767_218_400_000));
        for text in ["soon", "", "12:00", "2026-13-01", "2026-02-30T00:00:00Z"] {
            assert_eq!(parse_iso_ms(text), None, "{text}");
        }
    }

    #[test]
    fn durations_short_and_long() {
        for (text, ms) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("4w", 2_419_200_000), ("500ms", 500)]
        {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        assert_eq!(parse_duration_ms("15 minutes"), Some(900_000));
        assert_eq!(parse_duration_ms("1hr"), Some(3_600_000));
        for text in ["", "s", "10", "10x", "-1s", "99999999999999999999w"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn key_ttls() {
        assert!(is_key_ttl("30s") && is_key_ttl("1d"));
        assert!(
            !is_key_ttl("30") && !is_key_ttl("s") && !is_key_ttl("30ss") && !is_key_ttl("1w") && !is_key_ttl("1.5s")
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in -62_135_596_800_000i64..253_402_300_800_000) {
            prop_assert_eq!(parse_iso_ms(&iso(&from_ms(ms))), Some(ms));
        }

        #[test]
        fn durations_too(seconds in 0u64..10_000_000) {
            prop_assert_eq!(parse_duration_ms(&duration_text(seconds * 1_000)), Some(seconds * 1_000));
        }
    }
}
