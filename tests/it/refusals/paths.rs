//! Paths, queries and headers: what cannot be read, and what names nothing.

use super::{ORIGIN, assert_readable, assert_refused};
use crate::support::http::{Answer, Request};
use crate::support::routes::{Callers, ROUTES, Route, World};
use crate::support::{KEY, TestNode};
use serde_json::json;

/// The answer names the place and the parameter.
#[track_caller]
fn assert_place(what: &str, answer: &Answer, error: &str, parameter: &str) {
    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"], error, "{what}: {body}");
    let issue = &body["details"][0];
    assert_eq!(issue["path"], json!([parameter]), "{what}: {body}");
    assert!(issue["code"].is_string() && issue["message"].as_str().is_some_and(|m| !m.is_empty()), "{what}: {body}");
    assert_eq!(body["details"].as_array().unwrap().len(), 1, "{what}: {body}");
    assert_readable(what, answer);
}

/// The route's request with something else in place of a parameter.
fn with_parameter(route: &Route, world: &World, parameter: &str, raw: &str) -> Request {
    let path = route.path_with(world, parameter, raw);
    Request { path, ..route.request(world).header("Origin", ORIGIN) }
}

#[tokio::test]
async fn a_parameter_that_cannot_be_read_is_named_on_every_route() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "paths").await;
    let unreadable = ["a%", "%2", "a%zz", "%%", "%ff", "%c0%af", "%ed%a0%80", "a%00b"];
    let places = [
        ("{session}", "session", &["%01", "a%0Ab", "%7f"][..]),
        ("{run}", "run", &[]),
        ("{waitpoint}", "waitpoint", &[]),
        ("{task}", "task", &[]),
        ("{*packet}", "packet", &["a/%2e%2e/b", "a%2F..%2Fb", ".", "a/..", "%01"]),
        ("{channel}", "channel", &["a%20b", "a%2Fb", "%F0%9F%98%80"]),
        ("{field}", "field", &["payloads", "PAYLOAD", "error"]),
        ("{io}", "io", &["both", "IN", "%00", "out%20", ":in"]),
    ];
    for route in ROUTES.iter().filter(|route| route.callers != Callers::UrlHolders) {
        for (parameter, name, more) in places.iter().filter(|(parameter, ..)| route.path.contains(parameter)) {
            for raw in unreadable.iter().chain(*more) {
                let answer = with_parameter(route, &world, parameter, raw).send(&node.url).await;
                let what = format!("{} {} with {raw}", route.method, route.path);
                match route.method {
                    "HEAD" => assert_eq!(answer.status, 400, "{what}"),
                    _ => assert_place(&what, &answer, "Params Error", name),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_long_word_is_repeated_in_part() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "paths").await;
    let word = "é".repeat(3_000);
    let encoded = "%C3%A9".repeat(3_000);
    for path in [format!("/realtime/v1/sessions/paths/{encoded}"), format!("/api/v1/sessions?filter[status]={encoded}")]
    {
        let answer = Request::new("GET", &path).bearer(KEY).send(&node.url).await;
        let message = answer.json()["details"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(&format!("received '{}…'", &word[..200])), "{message}");
    }
}

#[tokio::test]
async fn what_is_not_there_has_each_routes_own_words() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "paths").await;
    let read = (json!({ "error": "Not found" }), Some("false"));
    let act = (json!({ "error": "Resource not found" }), None);
    let change = (json!({ "error": "Session not found" }), None);
    let run = (json!({ "error": "Run not found" }), None);
    let later = (json!({ "error": "Not found" }), Some("true"));
    let waitpoint = (json!({ "error": "Waitpoint not found" }), None);
    for route in ROUTES {
        let expected = match (route.method, route.path) {
            (_, path) if path.contains("/runs/{run}") => match path {
                "/api/v3/runs/{run}" => &later,
                "/api/v2/runs/{run}/cancel" => &act,
                _ => &run,
            },
            ("GET", path) if path.contains("{waitpoint}") => &read,
            (_, path) if path.contains("{waitpoint}") => &waitpoint,
            ("PATCH" | "DELETE", _) | ("POST", "/api/v1/sessions/{session}/close") => &change,
            ("PUT", "/realtime/v1/sessions/{session}/{io}") => continue,
            ("PUT", "/realtime/v1/sessions/{session}/channels/{channel}/{io}") => continue,
            ("HEAD", _) => continue,
            ("GET", path) if path.contains("{session}") => &read,
            (_, path) if path.contains("{session}") => &act,
            _ => continue,
        };
        let missing = World {
            session: "session_missing".into(),
            run: "run_missing".into(),
            waitpoint: "waitpoint_missing".into(),
            ..world.clone()
        };
        let mut request = route.request(&missing).header("Origin", ORIGIN);
        if route.method == "PATCH" {
            request = request.body("{}");
        }
        let answer = request.send(&node.url).await;
        let what = format!("{} {}", route.method, route.path);
        assert_refused(&what, &answer, 404, &expected.0);
        assert_eq!(answer.retry(), expected.1, "{what}");
    }
    // By name it may come yet, so it can be subscribed to; for the rest a name is as good as an id.
    for (method, path, status) in [
        ("GET", "/api/v1/sessions/missing", 404),
        ("HEAD", "/realtime/v1/sessions/missing/out", 200),
        ("HEAD", "/realtime/v1/sessions/session_missing/out", 404),
        ("GET", "/realtime/v1/sessions/missing/out/records", 200),
        ("POST", "/realtime/v1/sessions/missing/in/append", 404),
    ] {
        let answer = Request::new(method, path).bearer(KEY).body("x").send(&node.url).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    for io in ["in", "out", "channels/tools/in"] {
        for name in ["missing", "session_missing"] {
            let path = format!("/realtime/v1/sessions/{name}/{io}");
            let answer = Request::new("PUT", &path).bearer(KEY).header("Origin", ORIGIN).send(&node.url).await;
            assert_eq!((answer.status, answer.text().as_str()), (404, "Session not found"), "{path}");
            assert_readable(&path, &answer);
        }
    }
}

#[tokio::test]
async fn queries_name_what_is_wrong() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "paths").await;
    let get = async |path: &str, query: &str| {
        Request::new("GET", &format!("{path}?{query}")).bearer(KEY).header("Origin", ORIGIN).send(&node.url).await
    };
    let lists = ["/api/v1/sessions", "/api/v1/runs", "/api/v1/waitpoints/tokens"];
    let cursor = format!("page[after]={}", "A".repeat(2_000));
    for path in lists {
        for (query, name) in [
            ("page[size]=0", "page[size]"),
            ("page[size]=101", "page[size]"),
            ("page[size]=-1", "page[size]"),
            ("page[size]=x", "page[size]"),
            ("page[size]=1.5", "page[size]"),
            ("page[size]=", "page[size]"),
            ("page[size]=99999999999999999999", "page[size]"),
            ("page[after]=nonsense", "page[after]"),
            ("page[after]=%00", "page[after]"),
            ("page[before]=nonsense", "page[before]"),
            (cursor.as_str(), "page[after]"),
        ] {
            assert_place(&format!("{path}?{query}"), &get(path, query).await, "Query Error", name);
        }
        // The SDK's way back sends both to the other lists, where the way back counts.
        if path != "/api/v1/sessions" {
            assert_place(path, &get(path, "page[after]=a&page[before]=b").await, "Query Error", "page[before]");
            continue;
        }
        let both = get(path, "page[after]=a&page[before]=b").await;
        let text = "Cannot pass both page[after] and page[before] on the same request";
        let details = json!([{ "code": "custom", "path": ["page[after]"], "message": text }]);
        assert_refused(path, &both, 400, &json!({ "error": "Query Error", "details": details }));
    }
    for (path, query, name) in [
        ("/api/v1/sessions", "filter[status]=OPEN", "filter[status]"),
        ("/api/v1/sessions", "filter[status]=ACTIVE,OPEN", "filter[status]"),
        ("/api/v1/sessions", "filter[createdAt][from]=yesterday", "filter[createdAt][from]"),
        ("/api/v1/sessions", "filter[createdAt][to]=1.5", "filter[createdAt][to]"),
        ("/api/v1/runs", "filter[status]=NOPE", "filter[status]"),
        ("/api/v1/sessions/paths/transcript", "limit=0", "limit"),
        ("/api/v1/sessions/paths/transcript", "limit=1001", "limit"),
        ("/api/v1/sessions/paths/transcript", "limit=x", "limit"),
    ] {
        assert_place(&format!("{path}?{query}"), &get(path, query).await, "Query Error", name);
    }
    for channel in ["out", "in", "channels/tools/out"] {
        for after in ["-1", "x", "", "1.0", "+1", "0x1", "%00", "1%202", "%EF%BC%91"] {
            let path = format!("/realtime/v1/sessions/{}/{channel}/records", world.session);
            let answer = get(&path, &format!("afterEventId={after}")).await;
            assert_place(&format!("{path} after {after}"), &answer, "Query Error", "afterEventId");
        }
    }
}

#[tokio::test]
async fn headers_name_what_is_wrong() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "paths").await;
    for channel in ["out", "in", "channels/tools/out"] {
        let path = format!("/realtime/v1/sessions/paths/{channel}");
        for (value, text) in [
            ("10abc", "Invalid timeout seconds"),
            ("", "Invalid timeout seconds"),
            ("1.5", "Invalid timeout seconds"),
            ("1e2", "Invalid timeout seconds"),
            ("0x10", "Invalid timeout seconds"),
            ("\u{ff}", "Invalid timeout seconds"),
            ("0", "Timeout seconds must be greater than 0"),
            ("-5", "Timeout seconds must be greater than 0"),
            ("-99999999999999999999", "Timeout seconds must be greater than 0"),
            ("601", "Timeout seconds must be less than 600"),
            ("99999999999999999999", "Timeout seconds must be less than 600"),
        ] {
            for method in ["GET", "HEAD"] {
                let request = Request::new(method, &path).bearer(KEY).header("Origin", ORIGIN);
                let answer = request.header("Timeout-Seconds", value).send(&node.url).await;
                let expected = if method == "HEAD" { "" } else { text };
                assert_eq!((answer.status, answer.text().as_str()), (400, expected), "{method} {path}: {value}");
                assert_readable(&path, &answer);
            }
        }
        let long = "p".repeat(1_025);
        let request = Request::new("POST", &format!("{path}/append")).bearer(KEY).header("Origin", ORIGIN);
        let answer = request.header("X-Part-Id", long).body("x").send(&node.url).await;
        assert_place(&path, &answer, "Headers Error", "X-Part-Id");
    }
}
