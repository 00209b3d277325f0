//! Page tokens: opaque to callers, versioned for us. In the clear: `1`, which list and way, the position; then hex, so that
//! nobody is tempted to make one.

use continuo_domain::session::{ListPosition, PageFrom};
use continuo_domain::{Error, Result, RunId, SessionId, Timestamp, Violation, WaitpointId};

const VERSION: char = '1';
const OLDER_SESSIONS: char = 'o';
const NEWER_SESSIONS: char = 'n';
const RUNS: char = 'r';
const WAITPOINTS: char = 'w';

/// Where older sessions go on.
pub(crate) fn older_sessions(position: &ListPosition) -> String {
    seal(OLDER_SESSIONS, &in_the_clear(position))
}

/// Where newer sessions go on.
pub(crate) fn newer_sessions(position: &ListPosition) -> String {
    seal(NEWER_SESSIONS, &in_the_clear(position))
}

/// Where older runs go on.
pub(crate) fn runs(after: &RunId) -> String {
    seal(RUNS, after.as_str())
}

/// Where older waitpoints go on.
pub(crate) fn waitpoints(after: &WaitpointId) -> String {
    seal(WAITPOINTS, after.as_str())
}

/// Reads a token of a list of sessions. None is the newest page.
pub(crate) fn parse_sessions(token: &str) -> Result<PageFrom> {
    if token.is_empty() {
        return Ok(PageFrom::Start);
    }
    match open(token)? {
        (OLDER_SESSIONS, text) => position(&text).map(PageFrom::After),
        (NEWER_SESSIONS, text) => position(&text).map(PageFrom::Before),
        _ => Err(bad()),
    }
}

/// Reads a token of a list of runs.
pub(crate) fn parse_runs(token: &str) -> Result<Option<RunId>> {
    if token.is_empty() {
        return Ok(None);
    }
    match open(token)? {
        (RUNS, id) => RunId::parse(&id).map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

/// Reads a token of a list of waitpoints.
pub(crate) fn parse_waitpoints(token: &str) -> Result<Option<WaitpointId>> {
    if token.is_empty() {
        return Ok(None);
    }
    match open(token)? {
        (WAITPOINTS, id) => WaitpointId::parse(&id).map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

fn in_the_clear(position: &ListPosition) -> String {
    format!("{}.{}", position.created_at.0, position.id)
}

fn position(text: &str) -> Result<ListPosition> {
    let (ms, id) = text.split_once('.').ok_or_else(bad)?;
    let created_at = Timestamp(ms.parse().map_err(|_| bad())?);
    Ok(ListPosition { created_at, id: SessionId::parse(id).map_err(|_| bad())? })
}

fn seal(kind: char, text: &str) -> String {
    let clear = format!("{VERSION}{kind}{text}");
    clear.bytes().map(|b| format!("{b:02x}")).collect()
}

fn open(token: &str) -> Result<(char, String)> {
    let digits: Vec<u8> =
        token.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>().ok_or_else(bad)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    let clear = String::from_utf8(bytes).map_err(|_| bad())?;
    let mut chars = clear.chars();
    match (chars.next(), chars.next()) {
        (Some(VERSION), Some(kind)) if rest.is_empty() => Ok((kind, chars.collect())),
        _ => Err(bad()),
    }
}

fn bad() -> Error {
    Violation::new("page_token", "is not a token this list has given out").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_comes_back(ms: i64, body in "[a-zA-Z0-9]{1,30}") {
            let at = ListPosition { created_at: Timestamp(ms), id: SessionId::from_body(&body) };
            prop_assert_eq!(parse_sessions(&older_sessions(&at)).unwrap(), PageFrom::After(at.clone()));
            prop_assert_eq!(parse_sessions(&newer_sessions(&at)).unwrap(), PageFrom::Before(at));
            let run = RunId::from_body(&body);
            prop_assert_eq!(parse_runs(&runs(&run)).unwrap(), Some(run));
            let waitpoint = WaitpointId::from_body(&body);
            prop_assert_eq!(parse_waitpoints(&waitpoints(&waitpoint)).unwrap(), Some(waitpoint));
        }

        #[test]
        fn anything_else_is_refused(garbage in ".+") {
            for outcome in [parse_sessions(&garbage).err(), parse_runs(&garbage).err(), parse_waitpoints(&garbage).err()] {
                prop_assert!(outcome.unwrap().to_string().starts_with("page_token: "));
            }
        }

        #[test]
        fn a_changed_token_does_not_panic(ms: i64, at in 0_usize..20, digit in "[0-9a-f]") {
            let position = ListPosition { created_at: Timestamp(ms), id: SessionId::from_body("abc") };
            let mut token = older_sessions(&position);
            token.replace_range(at..=at, &digit);
            let _ = parse_sessions(&token);
        }
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let run = runs(&RunId::from_body("a"));
        assert!(parse_sessions(&run).is_err() && parse_waitpoints(&run).is_err());
        assert_eq!(parse_sessions("").unwrap(), PageFrom::Start);
        assert_eq!(parse_runs("").unwrap(), None);
    }
}
