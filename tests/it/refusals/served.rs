//! What is served at all: the list of routes is complete, and everything else is told in the same words.

use super::{ORIGIN, assert_readable, assert_refused};
use crate::support::http::Request;
use crate::support::routes::{self, ROUTES, Route, World};
use crate::support::{KEY, TestNode};
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn the_tests_know_every_path_of_the_gateway() {
    let source = include_str!("../../../gateway/src/paths.rs");
    let code = source.split("#[cfg(test)]").next().unwrap();
    let texts = code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split('"'));
    // Under these stands a sentence about what is not there.
    let is_served = |text: &&str| text.starts_with('/') && !matches!(*text, "/v1" | "/v1/{*rest}");
    let served: BTreeSet<&str> = texts.filter(is_served).collect();
    assert_eq!(served, routes::all().map(|route| route.path).chain([routes::OPENAPI]).collect());
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones_whoever_asks() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "served").await;
    for route in ROUTES {
        let expected = Route::methods(route.path);
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "get"] {
            if expected.contains(method) {
                continue;
            }
            let request = Request::new(method, &route.path(&world)).header("Origin", ORIGIN);
            let answer = request.send(&node.url).await;
            let what = format!("{method} {}", route.path);
            if method == "HEAD" {
                assert_eq!((answer.status, answer.body.len()), (405, 0), "{what}");
            } else {
                assert_refused(&what, &answer, 405, &json!({ "error": "Method not allowed" }));
            }
            let allowed: BTreeSet<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
            assert_eq!(allowed, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn preflights_need_no_credentials_on_any_path() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "served").await;
    let paths = routes::all().map(|route| route.path(&world));
    let others = ["/api/v1/schedules", "/", "/api/v1/sessions/", "/realtime/v1/sessions/%zz/in"].map(str::to_owned);
    for path in paths.chain(others) {
        let request = Request::new("OPTIONS", &path)
            .header("Origin", ORIGIN)
            .header("Access-Control-Request-Method", "PATCH")
            .header("Access-Control-Request-Headers", "authorization,x-part-id,x-anything");
        let answer = request.send(&node.url).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{path}");
        for (name, value) in [
            ("access-control-allow-origin", Some(ORIGIN)),
            ("access-control-allow-methods", Some("GET,HEAD,PUT,PATCH,POST,DELETE")),
            ("access-control-allow-headers", Some("authorization,x-part-id,x-anything")),
            ("access-control-max-age", Some("300")),
            ("access-control-allow-credentials", None),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        let varies: Vec<_> =
            answer.headers.iter().filter(|(name, _)| name == "vary").map(|(_, v)| v.as_str()).collect();
        assert_eq!(varies, ["Origin", "Access-Control-Request-Headers"], "{path}");
        let bare = Request::new("OPTIONS", &path).send(&node.url).await;
        assert_eq!((bare.status, bare.header("access-control-allow-origin")), (200, None), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_route_is_named() {
    let node = TestNode::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("POST", "/api/v1/schedules"),
        ("GET", "/api/v2/sessions"),
        ("DELETE", "/api/v1/sessions/a/b"),
        ("PUT", "/realtime/v1/sessions/a/in/append/more"),
        ("GET", "/api/v1/sessions/a/../b"),
        ("BREW", "//evil.example/"),
    ] {
        let asked = Request::new(method, &format!("{path}?secret=1")).header("Origin", ORIGIN).send(&node.url).await;
        let text = format!("{method} {path} is not provided by this server");
        assert_refused(path, &asked, 404, &json!({ "error": text }));
    }
    let long = format!("/nothing/{}", "n".repeat(5_000));
    let answer = Request::new("GET", &long).send(&node.url).await;
    assert!(answer.status == 404 && answer.body.len() < 300, "no more of a long path than says what was meant");
}

#[tokio::test]
async fn a_trailing_slash_leads_to_the_path_without_it() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "served").await;
    // A packet's path and a wildcard's rest may end in a slash of their own.
    for route in ROUTES.iter().filter(|route| !route.path.contains("{*")) {
        let path = route.path(&world);
        let request = Request::new(route.method, &format!("{path}/?a=b%20")).header("Origin", ORIGIN);
        let answer = request.send(&node.url).await;
        assert_eq!(answer.status, 301, "{path}");
        assert_eq!(answer.header("location"), Some(format!("{path}?a=b%20").as_str()));
        assert_readable(&path, &answer);
    }
}
