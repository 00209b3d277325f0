//! Page tokens: opaque to callers, versioned for us. In the clear: `2`, which list and way, the position; then hex, so that
//! nobody is tempted to make one, and a checksum over that and the environment: a token that was cut, changed or taken elsewhere
//! is refused, not followed to some other place. It guards nothing: a position tells no secret.

use continuo_domain::channel::ChannelKey;
use continuo_domain::run::Run;
use continuo_domain::session::{ListPosition, PageFrom as SessionsFrom};
use continuo_domain::waitpoint::Waitpoint;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp, Violation, WaitpointId};
use continuo_ports::run_store::{Page, PageFrom};
use continuo_ports::worker_store::WorkerPosition;

const VERSION: char = '2';
/// Hex digits of the checksum.
const SUM_DIGITS: usize = 8;
const OLDER_SESSIONS: char = 'o';
const NEWER_SESSIONS: char = 'n';
const OLDER_RUNS: char = 'r';
const NEWER_RUNS: char = 'R';
const OLDER_WAITPOINTS: char = 'w';
const NEWER_WAITPOINTS: char = 'W';
const CHANNELS: char = 'c';
const OLDER_WORKERS: char = 'k';

/// Where older sessions go on.
pub(crate) fn older_sessions(environment: &EnvironmentId, position: &ListPosition) -> String {
    seal(environment, OLDER_SESSIONS, &in_the_clear(position))
}

/// Where newer sessions go on.
pub(crate) fn newer_sessions(environment: &EnvironmentId, position: &ListPosition) -> String {
    seal(environment, NEWER_SESSIONS, &in_the_clear(position))
}

/// Where older runs go on, and where newer ones do; empty where there are none.
pub(crate) fn runs(environment: &EnvironmentId, page: &Page<Run>) -> (String, String) {
    let ids = |run: Option<&Run>| run.map(|run| run.spec.id.as_str().to_owned());
    sides(page, ids, |is_older, id| seal(environment, if is_older { OLDER_RUNS } else { NEWER_RUNS }, id))
}

/// Where older waitpoints go on, and where newer ones do; empty where there are none.
pub(crate) fn waitpoints(environment: &EnvironmentId, page: &Page<Waitpoint>) -> (String, String) {
    let ids = |waitpoint: Option<&Waitpoint>| waitpoint.map(|waitpoint| waitpoint.id.as_str().to_owned());
    sides(page, ids, |is_older, id| seal(environment, if is_older { OLDER_WAITPOINTS } else { NEWER_WAITPOINTS }, id))
}

/// Where older workers go on.
pub(crate) fn older_workers(environment: &EnvironmentId, position: &WorkerPosition) -> String {
    seal(environment, OLDER_WORKERS, &format!("{}.{}", position.connected_at.0, position.id))
}

fn sides<T>(
    page: &Page<T>,
    id: impl Fn(Option<&T>) -> Option<String>,
    seal: impl Fn(bool, &str) -> String,
) -> (String, String) {
    let next = id(page.rows.last().filter(|_| page.has_older)).map(|id| seal(true, &id));
    let previous = id(page.rows.first().filter(|_| page.has_newer)).map(|id| seal(false, &id));
    (next.unwrap_or_default(), previous.unwrap_or_default())
}

/// Where the channels of a session go on.
pub(crate) fn channels(environment: &EnvironmentId, last: &ChannelKey) -> String {
    seal(environment, CHANNELS, &last.to_string())
}

/// Reads a token of a list of channels. None is the first page.
pub(crate) fn parse_channels(environment: &EnvironmentId, token: &str) -> Result<Option<ChannelKey>> {
    if token.is_empty() {
        return Ok(None);
    }
    match open(environment, token)? {
        (CHANNELS, text) => ChannelKey::parse(&text).map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

/// Reads a token of a list of sessions. None is the newest page.
pub(crate) fn parse_sessions(environment: &EnvironmentId, token: &str) -> Result<SessionsFrom> {
    if token.is_empty() {
        return Ok(SessionsFrom::Start);
    }
    match open(environment, token)? {
        (OLDER_SESSIONS, text) => position(&text).map(SessionsFrom::After),
        (NEWER_SESSIONS, text) => position(&text).map(SessionsFrom::Before),
        _ => Err(bad()),
    }
}

/// Reads a token of a list of runs.
pub(crate) fn parse_runs(environment: &EnvironmentId, token: &str) -> Result<PageFrom<RunId>> {
    parse_ids(environment, token, [OLDER_RUNS, NEWER_RUNS], RunId::parse)
}

/// Reads a token of a list of waitpoints.
pub(crate) fn parse_waitpoints(environment: &EnvironmentId, token: &str) -> Result<PageFrom<WaitpointId>> {
    parse_ids(environment, token, [OLDER_WAITPOINTS, NEWER_WAITPOINTS], WaitpointId::parse)
}

/// Reads a token of a list of workers. None is the newest page.
pub(crate) fn parse_workers(environment: &EnvironmentId, token: &str) -> Result<Option<WorkerPosition>> {
    if token.is_empty() {
        return Ok(None);
    }
    let (OLDER_WORKERS, text) = open(environment, token)? else { return Err(bad()) };
    let (ms, id) = text.split_once('.').ok_or_else(bad)?;
    let connected_at = Timestamp(ms.parse().map_err(|_| bad())?);
    Ok(Some(WorkerPosition { connected_at, id: id.to_owned() }))
}

fn parse_ids<Id>(
    environment: &EnvironmentId,
    token: &str,
    [older, newer]: [char; 2],
    parse: impl Fn(&str) -> Result<Id>,
) -> Result<PageFrom<Id>> {
    if token.is_empty() {
        return Ok(PageFrom::Start);
    }
    let (kind, id) = open(environment, token)?;
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

fn seal(environment: &EnvironmentId, kind: char, text: &str) -> String {
    let clear = format!("{VERSION}{kind}{text}");
    let hex: String = clear.bytes().map(|b| format!("{b:02x}")).collect();
    let sum = sum(environment, &hex);
    hex + &sum
}

fn open(environment: &EnvironmentId, token: &str) -> Result<(char, String)> {
    let hex = token.len().checked_sub(SUM_DIGITS).and_then(|end| token.get(..end)).ok_or_else(bad)?;
    if token[hex.len()..] != sum(environment, hex) {
        return Err(bad());
    }
    let digits: Vec<u8> =
        hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>().ok_or_else(bad)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    let clear = String::from_utf8(bytes).map_err(|_| bad())?;
    let mut chars = clear.chars();
    match (chars.next(), chars.next()) {
        (Some(VERSION), Some(kind)) if rest.is_empty() => Ok((kind, chars.collect())),
        _ => Err(bad()),
    }
}

fn sum(environment: &EnvironmentId, hex: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(environment.as_str().as_bytes());
    hasher.update(hex.as_bytes());
    format!("{:08x}", hasher.finalize())
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

    fn here() -> EnvironmentId {
        EnvironmentId::from_body("here")
    }

    proptest! {
        #[test]
        fn a_position_comes_back(ms: i64, body in "[a-zA-Z0-9]{1,30}") {
            let at = ListPosition { created_at: Timestamp(ms), id: SessionId::from_body(&body) };
            let older = older_sessions(&here(), &at);
            prop_assert_eq!(parse_sessions(&here(), &older).unwrap(), SessionsFrom::After(at.clone()));
            let newer = newer_sessions(&here(), &at);
            prop_assert_eq!(parse_sessions(&here(), &newer).unwrap(), SessionsFrom::Before(at));
            let (older, newer) = runs(&here(), &page(&[&body]));
            prop_assert_eq!(parse_runs(&here(), &older).unwrap(), PageFrom::After(RunId::from_body(&body)));
            prop_assert_eq!(parse_runs(&here(), &newer).unwrap(), PageFrom::Before(RunId::from_body(&body)));
            let last = ChannelKey::parse(&format!("session_{body}/channels/{body}.x-/out")).unwrap();
            prop_assert_eq!(parse_channels(&here(), &channels(&here(), &last)).unwrap(), Some(last));
        }

        #[test]
        fn a_worker_may_be_called_anything(ms: i64, id in ".{1,128}") {
            let at = WorkerPosition { connected_at: Timestamp(ms), id };
            prop_assert_eq!(parse_workers(&here(), &older_workers(&here(), &at)).unwrap(), Some(at));
        }

        #[test]
        fn anything_else_is_refused(garbage in ".+") {
            let (sessions, runs) = (parse_sessions(&here(), &garbage).err(), parse_runs(&here(), &garbage).err());
            let (waitpoints, workers) = (parse_waitpoints(&here(), &garbage).err(), parse_workers(&here(), &garbage).err());
            let channels = parse_channels(&here(), &garbage).err();
            for outcome in [sessions, runs, waitpoints, workers, channels] {
                prop_assert!(outcome.unwrap().to_string().starts_with("page_token: "));
            }
        }

        #[test]
        fn a_changed_token_is_refused(ms: i64, at in 0_usize..60, digit in "[0-9a-f]", cut in 1_usize..20) {
            let position = ListPosition { created_at: Timestamp(ms), id: SessionId::from_body("abc") };
            let token = older_sessions(&here(), &position);
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &digit);
            prop_assert_eq!(parse_sessions(&here(), &changed).is_err(), changed != token);
            prop_assert!(parse_sessions(&here(), &token[..token.len() - cut]).is_err());
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
        let (older, newer) = runs(&here(), &page(&["b", "a"]));
        assert_eq!(parse_runs(&here(), &older).unwrap(), PageFrom::After(RunId::from_body("a")));
        assert_eq!(parse_runs(&here(), &newer).unwrap(), PageFrom::Before(RunId::from_body("b")));
        let last = Page { has_older: false, has_newer: false, ..page(&["a"]) };
        assert_eq!(runs(&here(), &last), (String::new(), String::new()));
    }

    #[test]
    fn a_token_of_another_list_or_environment_is_refused() {
        let (run, _) = runs(&here(), &page(&["a"]));
        assert!(parse_sessions(&here(), &run).is_err() && parse_waitpoints(&here(), &run).is_err());
        assert!(parse_channels(&here(), &run).is_err());
        let channel = channels(&here(), &ChannelKey::parse("session_a/in").unwrap());
        assert!(parse_runs(&here(), &channel).is_err());
        assert!(parse_channels(&EnvironmentId::from_body("there"), &channel).is_err());
        assert!(parse_workers(&here(), &run).is_err());
        assert!(parse_runs(&EnvironmentId::from_body("there"), &run).is_err());
        assert_eq!(parse_sessions(&here(), "").unwrap(), SessionsFrom::Start);
        assert_eq!(parse_runs(&here(), "").unwrap(), PageFrom::Start);
    }
}
