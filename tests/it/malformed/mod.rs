//! Malformed requests by the hundred, on every route, made from a seed by changing a request that is accepted.
//!
//! Requests that must be refused are about things whose every byte is compared before and after. Requests of which it is only
//! known that the server must bear them are about things in another environment.
//!
//! Another seed: `CONTINUO_TEST_SEED=<number>`.

mod bodies;
mod callers;
mod framing;
mod headers;
mod paths;
mod random;
mod stored;
mod streams;

use crate::support::http::{Answer, Request, Take, exchange, hang_up};
use crate::support::process::ServerProcess;
use crate::support::routes::{self, ROUTES, Route, World};
use crate::support::{KEY, OTHER_KEY};
use random::Random;
use std::time::Duration;

/// At least so many for each route.
const CASES_MIN: usize = 200;
/// So many requests that change nothing are sent at the same time.
const AT_ONCE: usize = 8;
const SEED: u64 = 20_260_801;

/// One malformed request.
struct Case {
    what: String,
    bytes: Vec<u8>,
    /// Else the server need only bear it.
    must_be_refused: bool,
    /// The client goes away after the last byte, and may miss the answer.
    hangs_up: bool,
    is_head: bool,
}

/// Collects the cases of a route.
struct Cases<'a> {
    route: &'a Route,
    /// What must stay as it is.
    kept: &'a World,
    /// What may change.
    scratch: &'a World,
    random: Random,
    cases: Vec<Case>,
}

impl Cases<'_> {
    /// Must be refused, unless the route only reads: then there is nothing to keep it from.
    fn refused(&mut self, what: impl Into<String>, request: &Request) {
        self.add(what, request, !matches!(self.route.method, "GET" | "HEAD"));
    }

    /// Must be refused, whatever the route does.
    fn denied(&mut self, what: impl Into<String>, request: &Request) {
        self.add(what, request, true);
    }

    /// May succeed.
    fn borne(&mut self, what: impl Into<String>, request: &Request) {
        self.add(what, request, false);
    }

    fn add(&mut self, what: impl Into<String>, request: &Request, must_be_refused: bool) {
        let is_head = request.method == "HEAD";
        self.raw(what, request.bytes(), must_be_refused, is_head);
    }

    fn raw(&mut self, what: impl Into<String>, bytes: Vec<u8>, must_be_refused: bool, is_head: bool) {
        self.cases.push(Case { what: what.into(), bytes, must_be_refused, hangs_up: false, is_head });
    }

    /// The client sends this and goes.
    fn broken_off(&mut self, what: impl Into<String>, bytes: Vec<u8>, must_be_refused: bool) {
        let is_head = self.route.method == "HEAD";
        self.cases.push(Case { what: what.into(), bytes, must_be_refused, hangs_up: true, is_head });
    }

    /// The accepted request about what must stay.
    fn of_kept(&self) -> Request {
        self.route.request(self.kept)
    }

    /// The accepted request about what may change.
    fn of_scratch(&self) -> Request {
        self.route.request(self.scratch)
    }
}

fn cases(route: &Route, kept: &World, scratch: &World, random: Random) -> Vec<Case> {
    let mut cases = Cases { route, kept, scratch, random, cases: Vec::new() };
    framing::add(&mut cases);
    callers::add(&mut cases);
    paths::add(&mut cases);
    headers::add(&mut cases);
    bodies::add(&mut cases);
    streams::add(&mut cases);
    // Routes with little to get wrong get more of what is wrong with any request.
    while cases.cases.len() < CASES_MIN {
        framing::add_noise(&mut cases);
    }
    cases.cases
}

fn seed() -> u64 {
    std::env::var("CONTINUO_TEST_SEED").map_or(SEED, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn malformed_requests_are_refused_and_change_nothing() {
    let seed = seed();
    let server = ServerProcess::start().await;
    let kept = World::build(&server.url, KEY, "kept").await;
    let mut before = stored::all_of(&kept).await;
    let mut found = Vec::new();
    for (n, route) in routes::all().enumerate() {
        let scratch = World::build(&server.url, OTHER_KEY, &format!("scratch-{n}")).await;
        let cases = cases(route, &kept, &scratch, Random::new(seed ^ n as u64));
        assert!(cases.len() >= CASES_MIN);
        let only_reads = matches!(route.method, "GET" | "HEAD");
        for some in cases.chunk_by(|a, b| only_reads || a.must_be_refused == b.must_be_refused) {
            // What changes nothing can be asked at once.
            for some in some.chunks(if only_reads || some[0].must_be_refused { AT_ONCE } else { 1 }) {
                for (case, answer) in some.iter().zip(send_all(&server.url, some).await) {
                    let what = format!("{} {} (seed {seed}): {}", route.method, route.path, case.what);
                    found.extend(problem(case, answer.as_ref()).map(|problem| format!("{what}: {problem}")));
                    if route.method == "DELETE" && answer.is_some_and(|answer| answer.status == 204) {
                        let create = ROUTES[0].request(&scratch).send(&server.url).await;
                        assert_eq!(create.status, 201, "there is something to delete again");
                    }
                }
            }
        }
        assert_unharmed(&server, &format!("{} {} (seed {seed})", route.method, route.path)).await;
        let after = stored::all_of(&kept).await;
        if after != before {
            let new = after.iter().filter(|thing| !before.contains(thing));
            let new: Vec<String> = new.map(|(path, text)| format!("{path}: {text:.400}")).collect();
            found.push(format!("after {} {} (seed {seed}):\n    {}", route.method, route.path, new.join("\n    ")));
            before = after;
        }
    }
    assert!(found.is_empty(), "{} of them:\n{}", found.len(), found.join("\n"));
}

async fn send_all(url: &str, cases: &[Case]) -> Vec<Option<Answer>> {
    let mut under_way = Vec::new();
    for case in cases {
        let (url, bytes, is_head, hangs_up) = (url.to_owned(), case.bytes.clone(), case.is_head, case.hangs_up);
        under_way.push(tokio::spawn(async move {
            match hangs_up {
                true => hang_up(&url, &bytes, is_head).await,
                false => exchange(&url, bytes, is_head, Take::Head).await,
            }
        }));
    }
    let mut answers = Vec::new();
    for one in under_way {
        answers.push(one.await.unwrap());
    }
    answers
}

/// What is wrong with an answer.
fn problem(case: &Case, answer: Option<&Answer>) -> Option<String> {
    let Some(answer) = answer else {
        return (!case.hangs_up).then(|| "no answer".to_owned());
    };
    let text = answer.text();
    let is_refusal = answer.status >= 400;
    let leak = INTERNALS.iter().find(|internal| is_refusal && text.contains(**internal));
    let problem = match answer.status {
        500.. => "an error of the server".to_owned(),
        ..300 if case.must_be_refused => "accepted".to_owned(),
        _ if is_refusal && text.len() > 8_192 => "a refusal is short".to_owned(),
        _ => format!("says {:?}", leak?),
    };
    Some(format!("{problem}: {} {text:.1000}", answer.status))
}

/// What only the inside would say.
const INTERNALS: [&str; 20] = [
    "panicked",
    ".rs:",
    "src/",
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "sqlite",
    "sqlx",
    "sea_orm",
    "serde",
    "hyper",
    "tonic",
    "tokio",
    "core::",
    "alloc::",
    "std::",
    "continuo_",
    "Err(",
    "Some(",
    "struct ",
];

async fn assert_unharmed(server: &ServerProcess, what: &str) {
    let asked = Request::new("GET", "/healthz");
    let answer = tokio::time::timeout(Duration::from_secs(5), asked.send(&server.url)).await;
    assert_eq!(answer.expect("at once").status, 200, "{what}");
    let log = server.log();
    let bad = log.lines().find(|line| line.contains("panicked") || line.contains("ERROR") || line.contains("PANIC"));
    assert_eq!(bad, None, "{what}");
}
