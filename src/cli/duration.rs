//! Durations as people write them.

use std::time::Duration;

/// Reads `90`, `90s`, `15m`, `2h` or `30d`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds_per_unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("a duration is a number with s, m, h or d, such as 15m".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a duration begins with a number, such as 15m".to_owned())?;
    let seconds = number.checked_mul(seconds_per_unit).ok_or("that is too long")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_seconds_minutes_hours_and_days() {
        let seconds = |text| parse(text).map(|d| d.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("2h"), Ok(7_200));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert!(parse("m").is_err() && parse("1w").is_err() && parse("99999999999999999999d").is_err());
        assert!(parse("-1s").is_err() && parse("").is_err());
    }
}
