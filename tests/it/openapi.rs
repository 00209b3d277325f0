//! The document at `/openapi.json`: it describes what is served, all of it and nothing else, and anybody may have it. Whether
//! its words are true is asked by `tests/clients/openapi`, of a live server.

use crate::support::TestNode;
use crate::support::http::{Answer, Request};
use crate::support::routes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ORIGIN: &str = "https://app.example";
/// Beside the gateway's own.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

fn document() -> Value {
    serde_json::from_str(include_str!("../../gateway/openapi.json")).unwrap()
}

#[test]
fn every_route_is_described_and_no_other() {
    let document = document();
    let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let of_path = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
        let names = item.as_object().unwrap().keys().filter(|key| methods.contains(&key.as_str()));
        names.map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    let described: BTreeSet<_> = document["paths"].as_object().unwrap().iter().flat_map(of_path).collect();
    // OpenAPI has no way to say that a parameter takes the rest of a path.
    let served = routes::all().map(|route| (route.method.to_owned(), route.path.replace("{*", "{")));
    let others = PROBES.into_iter().chain([routes::OPENAPI]).map(|path| ("GET".to_owned(), path.to_owned()));
    assert_eq!(described, served.chain(others).collect());
}

async fn get(node: &TestNode, method: &str, known: Option<&str>) -> Answer {
    let mut request = Request::new(method, routes::OPENAPI).header("Origin", ORIGIN);
    if let Some(tag) = known {
        request = request.header("If-None-Match", tag);
    }
    let answer = request.send(&node.url).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    answer
}

#[tokio::test]
async fn anybody_may_have_it_and_is_told_whether_it_changed() {
    let node = TestNode::start().await;
    let whole = get(&node, "GET", None).await;
    assert_eq!((whole.status, whole.header("cache-control")), (200, Some("public, no-cache")));
    assert!(whole.header("content-type").unwrap().starts_with("application/json"));
    let mut expected = document();
    expected["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    assert_eq!(whole.json(), expected);
    let tag = whole.header("etag").unwrap();
    let known = get(&node, "GET", Some(tag)).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(tag)));
    let other = get(&node, "GET", Some("\"another\"")).await;
    assert_eq!((other.status, other.body), (200, whole.body.clone()));
    let head = get(&node, "HEAD", None).await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(tag)));
    let wrong = get(&node, "POST", None).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET,HEAD")));
}

#[test]
fn its_limits_are_those_of_the_table() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md")).unwrap();
    let mut limits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with('|') && line.contains("` in `")) {
        let cells: Vec<&str> = row.trim_matches('|').rsplitn(3, '|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').split_once("` in `").unwrap().0;
        let digits = cells[1].chars().filter(char::is_ascii_digit).collect();
        limits.entry(name.to_owned()).or_default().push(digits);
    }
    let mut named = 0;
    each_object(&document(), &mut |thing| {
        let Some(text) = thing.get("description").and_then(Value::as_str) else { return };
        let values = ["maxLength", "maxItems", "maximum"].map(|keyword| thing.get(keyword).map(Value::to_string));
        let of_schema = thing.get("schema").map(|schema| schema["maximum"].to_string());
        let words = text.replace(' ', "");
        for name in text.split('`').filter(|word| word.ends_with("_MAX")) {
            let limits = limits.get(name).unwrap_or_else(|| panic!("{name} is in docs/limits.md"));
            let is_said = |limit: &String| {
                values.iter().flatten().chain(&of_schema).any(|value| value == limit) || words.contains(limit)
            };
            assert!(limits.iter().any(is_said), "{name} is {limits:?}: {text}");
            named += 1;
        }
    });
    assert!(named > 30, "they are there");
}

fn each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            look(object);
            object.values().for_each(|value| each_object(value, look));
        }
        Value::Array(items) => items.iter().for_each(|value| each_object(value, look)),
        _ => {}
    }
}
