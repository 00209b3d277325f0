//! The document at `/openapi.json` names for every route the callers that the table knows.

use super::table::{Row, rows};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Each scheme, with those callers of the table that use it.
const SCHEMES: [(&str, &[&str]); 5] = [
    ("secretKey", &["root"]),
    ("runToken", &["run"]),
    ("streamToken", &["strm"]),
    ("personalToken", &["oper"]),
    ("publicToken", &["token", "type", "out", "chan"]),
];

/// A run may read what it replays, and trigger nothing.
const HALF_A_RUNS: &str = "replayRun";

/// The path of the document that this one is an example of: the one with most words in common.
fn described<'a>(paths: &'a Map<String, Value>, path: &str) -> Option<&'a str> {
    // The one parameter that takes slashes.
    let path = path.split('?').next()?.replace("/packets/a/b", "/packets/{packet}");
    let segments: Vec<&str> = path.split('/').collect();
    let in_common = |template: &str| {
        let given: Vec<&str> = template.split('/').collect();
        let fits = given.len() == segments.len()
            && given.iter().zip(&segments).all(|(a, b)| a == b || (a.starts_with('{') && !b.is_empty()));
        fits.then(|| given.iter().zip(&segments).filter(|(a, b)| a == b).count())
    };
    let best = paths.keys().filter_map(|template| Some((in_common(template)?, template)));
    best.max().map(|(_, template)| template.as_str())
}

fn may(row: &Row<'_>, callers: &[&str]) -> bool {
    // Two statuses stand for a caller who is let in, and is told something else.
    let is_let_in = |cell: &str| matches!(cell, "yes" | "own") || cell.contains('/');
    row.cells.iter().any(|(caller, cell)| callers.contains(caller) && is_let_in(cell))
}

#[test]
fn the_document_names_who_may() {
    let document: Value = serde_json::from_str(include_str!("../../../gateway/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut operations: BTreeMap<(&str, String), Vec<Row<'_>>> = BTreeMap::new();
    for row in rows() {
        let Some(path) = described(paths, row.path) else { continue };
        operations.entry((path, row.method.to_lowercase())).or_default().push(row);
    }
    assert!(operations.len() > 40, "the table is about them");
    for ((path, method), rows) in operations {
        let operation = &paths[path][&method];
        let named: Vec<&String> =
            operation["security"].as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap().keys()).collect();
        // Signed paths name nobody.
        if named.is_empty() {
            continue;
        }
        for (scheme, callers) in SCHEMES {
            let is_named = named.iter().any(|name| *name == scheme);
            let is_let_in = rows.iter().any(|row| may(row, callers));
            // Of scopes the table knows those of sessions and runs only, and of stream tokens that of `.out`.
            let is_beyond = scheme == "publicToken" || (scheme == "streamToken" && path.contains("{channel}"));
            let is_right = is_named == is_let_in || (is_named && is_beyond);
            let is_half = scheme == "runToken" && operation["operationId"] == HALF_A_RUNS;
            assert!(is_right || is_half, "{method} {path}: {scheme} is {is_named} there and {is_let_in} in the table");
        }
    }
}
