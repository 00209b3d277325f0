//! Bodies: how much, how framed, and whether they are JSON at all.

use super::{ORIGIN, assert_refused};
use crate::support::http::{Body, Request, Take, exchange};
use crate::support::routes::{Payload, ROUTES, Route, World};
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};

fn error(text: &str) -> Value {
    json!({ "error": text })
}

/// A body of exactly so many bytes that says the same as the route's own.
fn padded(route: &Route, world: &World, bytes: usize) -> Vec<u8> {
    let mut body = route.body(world);
    body.resize(bytes, b' ');
    body
}

fn in_pieces(body: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    body.chunks(bytes).map(<[u8]>::to_vec).collect()
}

fn json_routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.is_json())
}

#[tokio::test]
async fn every_cap_lets_its_last_byte_in_and_no_more() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "bodies").await;
    for route in ROUTES {
        let Some(cap) = route.cap() else { continue };
        let what = format!("{} {}", route.method, route.path);
        // A request that changes nothing, whatever comes of it: its session, run or token is not there.
        let missing =
            World { session: "missing".into(), run: "run_0".into(), waitpoint: "waitpoint_0".into(), ..world.clone() };
        let request = route.request(&missing).header("Origin", ORIGIN);
        let (most, more) = (padded(route, &world, cap), padded(route, &world, cap + 1));
        let with = |body: Body| Request { body, ..request.clone() };
        for body in [Body::Sized(most.clone()), Body::Chunked(in_pieces(&most, 65_521))] {
            let answer = with(body).send(&node.url).await;
            let said = answer.json()["error"].as_str().unwrap_or_default().to_owned();
            assert_ne!(said, "Request body too large", "{what} takes {cap} bytes");
        }
        for body in
            [Body::Sized(more.clone()), Body::Chunked(in_pieces(&more, 65_521)), Body::Chunked(vec![more.clone()])]
        {
            assert_refused(&what, &with(body).send(&node.url).await, 413, &error("Request body too large"));
        }
        // The announcement is enough. Who asks whether to go on is answered at once.
        let announced = request.clone().header("Expect", "100-continue").bare("");
        let announced = announced.header("Content-Length", (cap + 1).to_string());
        assert_refused(&what, &announced.send(&node.url).await, 413, &error("Request body too large"));
    }
}

/// These never become a request: the connection's own parser answers and closes. Its answers have no body and no headers of ours.
#[tokio::test]
async fn framing_that_cannot_be_read_is_answered_and_the_connection_closed() {
    let node = TestNode::start().await;
    let path = "/api/v1/sessions";
    let head =
        |rest: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{rest}\r\n\r\n{{}}");
    for (what, bytes, status) in [
        ("a length in words", head("Content-Length: many"), 400),
        ("a length below nothing", head("Content-Length: -1"), 400),
        ("a length with a sign", head("Content-Length: +2"), 400),
        ("a length beyond any number", head("Content-Length: 99999999999999999999999"), 400),
        ("two lengths", head("Content-Length: 2\r\nContent-Length: 3"), 400),
        ("a coding that is not ours", head("Transfer-Encoding: gzip"), 400),
        ("no header line", head("nonsense"), 400),
        ("a header name with a space", head("X Y: 1"), 400),
        ("no version", format!("POST {path}\r\n\r\n"), 400),
        ("more than 100 headers", head(&"X-A: 1\r\n".repeat(101)), 431),
        ("a header of 1 MB", head(&format!("X-A: {}", "a".repeat(1 << 20))), 431),
        ("a URI over 64 kB", format!("GET {path}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(66_000)), 414),
    ] {
        let answer = exchange(&node.url, bytes.into_bytes(), false, Take::Whole).await.expect(what);
        assert_eq!((answer.status, answer.body.len(), answer.cut), (status, 0, false), "{what}");
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
}

#[tokio::test]
async fn no_body_and_no_json_are_told_apart() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "bodies").await;
    for route in json_routes() {
        let send = async |body: &[u8]| {
            let request = route.request(&world).header("Origin", ORIGIN);
            request.body(body).send(&node.url).await
        };
        if let Payload::Json(..) = route.payload {
            assert_refused(route.path, &send(b"").await, 400, &error("Request body is empty"));
            let chunked = route.request(&world).header("Origin", ORIGIN).chunked(Vec::new());
            assert_refused(route.path, &chunked.send(&node.url).await, 400, &error("Request body is empty"));
        }
        let texts: [&[u8]; 15] = [
            b"null",
            b"0",
            b"-0",
            b"0.0",
            b"0e9",
            b"false",
            b"\"\"",
            b" null ",
            b"{",
            b"nonsense",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"\0",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
        ];
        for text in texts {
            let what = format!("{} {}: {}", route.method, route.path, String::from_utf8_lossy(text));
            assert_refused(&what, &send(text).await, 400, &error("Invalid JSON"));
        }
        for (text, name) in [("[]", "array"), ("1", "number"), ("\"x\"", "string"), ("true", "boolean")] {
            let text_of = format!("Validation error: Expected object, received {name}");
            assert_refused(route.path, &send(text.as_bytes()).await, 400, &error(&text_of));
        }
    }
}

#[tokio::test]
async fn a_record_must_be_text() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "bodies").await;
    for route in ROUTES.iter().filter(|route| matches!(route.payload, Payload::Text(_))) {
        for body in [&b"\xff"[..], b"a\xc0\xafb", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf8\x88\x80\x80\x80"] {
            let answer = route.request(&world).header("Origin", ORIGIN).body(body).send(&node.url).await;
            let refusal = json!({ "ok": false, "error": "The record must be UTF-8 text" });
            assert_refused(route.path, &answer, 400, &refusal);
        }
    }
}

/// Size before path, path before body, body before what is stored.
#[tokio::test]
async fn of_two_reasons_the_earlier_one_is_told() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "bodies").await;
    let parameter = |path: &str| ["{session}", "{run}", "{waitpoint}", "{task}"].into_iter().find(|p| path.contains(p));
    for route in json_routes() {
        let Some(parameter) = parameter(route.path) else { continue };
        let path = route.path_with(&world, parameter, "a%00b");
        let request = Request { path, ..route.request(&world).header("Origin", ORIGIN) };
        let large = request.clone().header("Content-Length", "99999999").header("Expect", "100-continue").bare("");
        assert_refused(route.path, &large.send(&node.url).await, 413, &error("Request body too large"));
        for body in ["", "nonsense", "[]", "{}"] {
            let answer = request.clone().body(body).send(&node.url).await.json();
            assert_eq!(answer["error"], "Params Error", "{} with {body:?}", route.path);
        }
        let missing =
            World { session: "missing".into(), run: "run_0".into(), waitpoint: "waitpoint_0".into(), ..world.clone() };
        let answer = route.request(&missing).header("Origin", ORIGIN).body("nonsense").send(&node.url).await;
        assert_refused(route.path, &answer, 400, &error("Invalid JSON"));
    }
}
