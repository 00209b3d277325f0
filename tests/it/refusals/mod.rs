//! The table of refusals of the REST surface, over the wire, row by row and on every route a row is about: status, body,
//! headers, and which of two reasons to refuse is told.

mod bodies;
mod callers;
mod fields;
mod paths;
mod served;
mod states;
mod streams;

use crate::support::http::Answer;
use serde_json::Value;

/// Where a browser's page comes from, in these tests.
const ORIGIN: &str = "https://app.example";

/// The answer is this refusal, and the page that asked may read it.
#[track_caller]
fn assert_refused(what: &str, answer: &Answer, status: u16, body: &Value) {
    assert_eq!((answer.status, answer.json()), (status, body.clone()), "{what}");
    assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{what}");
    assert_readable(what, answer);
}

/// The page that asked may read the answer and the headers that say more.
#[track_caller]
fn assert_readable(what: &str, answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN), "{what}");
    assert_eq!(answer.header("vary"), Some("Origin"), "{what}");
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.split(',').any(|name| name == "x-should-retry"), "{what}: {exposed}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{what}");
}
