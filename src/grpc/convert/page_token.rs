//! Page tokens: opaque to callers, versioned for us. In the clear: `1`, which list and way, the position; then hex, so that
//! nobody is tempted to make one.

use continuo_domain::run::Run;
use continuo_domain::session::{ListPosition, PageFrom as SessionsFrom};
use continuo_domain::waitpoint::Waitpoint;
use continuo_domain::{Error, Result, RunId, SessionId, Timestamp, Violation, WaitpointId};
use continuo_ports::run_store::{Page, PageFrom};

const VERSION: char = '1';
const OLDER_SESSIONS: char = 'o';
const NEWER_SESSIONS: char = 'n';
const OLDER_RUNS: char = 'r';
const NEWER_RUNS: char = 'R';
const OLDER_WAITPOINTS: char = 'w';
const NEWER_WAITPOINTS: char = 'W';

/// Where older sessions go on.
pub(crate) fn older_sessions(position: &ListPosition) -> String {
    seal(OLDER_SESSIONS, &in_the_clear(position))
}

/// Where newer sessions go on.
pub(crate) fn newer_sessions(position: &ListPosition) -> String {
    seal(NEWER_SESSIONS, &in_the_clear(position))
}

/// Where older runs go on, and where newer ones do; empty where there are none.
pub(crate) fn runs(page: &Page<Run>) -> (String, String) {
    let ids = |run: Option<&Run>| run.map(|run| run.spec.id.as_str().to_owned());
    sides(page, ids, OLDER_RUNS, NEWER_RUNS)
}

/// Where older waitpoints go on, and where newer ones do; empty where there are none.
pub(crate) fn waitpoints(page: &Page<Waitpoint>) -> (String, String) {
    let ids = |waitpoint: Option<&Waitpoint>| waitpoint.map(|waitpoint| waitpoint.id.as_str().to_owned());
    sides(page, ids, OLDER_WAITPOINTS, NEWER_WAITPOINTS)
}

fn sides<T>(page: &Page<T>, id: impl Fn(Option<&T>) -> Option<String>, older: char, newer: char) -> (String, String) {
    let next = id(page.rows.last().filter(|_| page.has_older)).map(|id| seal(older, &id));
    let previous = id(page.rows.first().filter(|_| page.has_newer)).map(|id| seal(newer, &id));
    (next.unwrap_or_default(), previous.unwrap_or_default())
}

/// Reads a token of a list of sessions. None is the newest page.
pub(crate) fn parse_sessions(token: &str) -> Result<SessionsFrom> {
    if token.is_empty() {
        return Ok(SessionsFrom::Start);
    }
    match open(token)? {
        (OLDER_SESSIONS, text) => position(&text).map(SessionsFrom::After),
        (NEWER_SESSIONS, text) => position(&text).map(SessionsFrom::Before),
        _ => Err(bad()),
    }
}

/// Reads a token of a list of runs.
pub(crate) fn parse_runs(token: &str) -> Result<PageFrom<RunId>> {
    parse_ids(token, OLDER_RUNS, NEWER_RUNS, RunId::parse)
}

/// Reads a token of a list of waitpoints.
pub(crate) fn parse_waitpoints(token: &str) -> Result<PageFrom<WaitpointId>> {
    parse_ids(token, OLDER_WAITPOINTS, NEWER_WAITPOINTS, WaitpointId::parse)
}

fn parse_ids<Id>(token: &str, older: char, newer: char, parse: impl Fn(&str) -> Result<Id>) -> Result<PageFrom<Id>> {
    if token.is_empty() {
        return Ok(PageFrom::Start);
    }
    let (kind, id) = open(token)?;
    let id = parse(&id).map_err(|_| bad())?;
    match kind {
        kind if kind == older => Ok(PageFrom::After(id)),
        kind if kind == newer => Ok(PageFrom::Before(id)),
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
    use continuo_domain::EnvironmentId;
    use continuo_domain::run::NewRun;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_comes_back(ms: i64, body in "[a-zA-Z0-9]{1,30}") {
            let at = ListPosition { created_at: Timestamp(ms), id: SessionId::from_body(&body) };
            prop_assert_eq!(parse_sessions(&older_sessions(&at)).unwrap(), SessionsFrom::After(at.clone()));
            prop_assert_eq!(parse_sessions(&newer_sessions(&at)).unwrap(), SessionsFrom::Before(at));
            let (older, newer) = runs(&page(&[&body]));
            prop_assert_eq!(parse_runs(&older).unwrap(), PageFrom::After(RunId::from_body(&body)));
            prop_assert_eq!(parse_runs(&newer).unwrap(), PageFrom::Before(RunId::from_body(&body)));
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

    fn page(bodies: &[&str]) -> Page<Run> {
        let run = |body: &&str| {
            let environment = EnvironmentId::from_body("e");
            Run::new(NewRun::of_task(RunId::from_body(body), environment, "task", "{}".into()), 0, Timestamp(1))
        };
        Page { rows: bodies.iter().map(run).collect(), has_older: true, has_newer: true }
    }

    #[test]
    fn a_page_names_its_ends() {
        let (older, newer) = runs(&page(&["b", "a"]));
        assert_eq!(parse_runs(&older).unwrap(), PageFrom::After(RunId::from_body("a")));
        assert_eq!(parse_runs(&newer).unwrap(), PageFrom::Before(RunId::from_body("b")));
        let last = Page { has_older: false, has_newer: false, ..page(&["a"]) };
        assert_eq!(runs(&last), (String::new(), String::new()));
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let (run, _) = runs(&page(&["a"]));
        assert!(parse_sessions(&run).is_err() && parse_waitpoints(&run).is_err());
        assert_eq!(parse_sessions("").unwrap(), SessionsFrom::Start);
        assert_eq!(parse_runs("").unwrap(), PageFrom::Start);
    }
}
