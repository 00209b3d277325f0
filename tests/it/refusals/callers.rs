//! Who calls comes first: before the size and the body are looked at, before anything is looked up. What a caller may not do is
//! told in the same words whether or not the thing exists.

use super::{ORIGIN, assert_readable, assert_refused};
use crate::support::http::{Request, Take, exchange};
use crate::support::routes::{Callers, ROUTES, Route, World};
use crate::support::token::{claims, signed, signed_as, unsigned};
use crate::support::{KEY, OTHER_KEY, TestNode};
use serde_json::{Value, json};

fn with_callers() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.callers != Callers::UrlHolders)
}

fn forbidden() -> Value {
    json!({ "error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization" })
}

#[tokio::test]
async fn nobody_known_is_401_on_every_route_before_the_body_is_read() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let good = claims(&["read:sessions:callers", "write:sessions:callers"], 600);
    let with = |change: fn(&mut Value)| {
        let mut claims = good.clone();
        change(&mut claims);
        signed(KEY, &claims)
    };
    let is_fine = Request::new("GET", "/api/v1/sessions/callers").bearer(&with(|_| {})).send(&node.url).await;
    assert_eq!(is_fine.status, 200, "so that the others can be bad");
    let no_token = "Public Access Token is invalid";
    let nobody = "Invalid Public Access Token";
    let credentials = [
        ("nothing", None, "Invalid or Missing API key"),
        ("empty", Some(String::new()), "Invalid or Missing API key"),
        ("an unknown key", Some("tr_dev_AAAAAAAAAAAAAAAAAAAAAAAA".to_owned()), "Invalid API key"),
        ("no key", Some("a.b.c".to_owned()), "Invalid API key"),
        ("8 kB of it", Some("x".repeat(8_000)), "Invalid API key"),
        ("expired", Some(with(|c| c["exp"] = json!(1_700_000_000))), no_token),
        ("without an end", Some(with(|c| drop(c.as_object_mut().unwrap().remove("exp")))), no_token),
        ("another issuer", Some(with(|c| c["iss"] = json!("https://evil.example"))), no_token),
        ("another audience", Some(with(|c| c["aud"] = json!("https://evil.example"))), no_token),
        ("another key", Some(signed(OTHER_KEY, &good)), no_token),
        ("another algorithm", Some(signed_as("HS384", KEY, &good)), no_token),
        ("an algorithm with two keys", Some(signed_as("RS256", KEY, &good)), no_token),
        ("no algorithm but a signature", Some(signed_as("none", KEY, &good)), no_token),
        ("no algorithm", Some(unsigned(&good)), no_token),
        ("cut short", Some(with(|_| {}).trim_end_matches(|c| c != '.').to_owned() + "AAAA"), no_token),
        ("no such environment", Some(with(|c| c["sub"] = json!("nowhere"))), nobody),
        ("no environment", Some(with(|c| drop(c.as_object_mut().unwrap().remove("sub")))), nobody),
    ];
    for route in with_callers() {
        for (what, credential, text) in &credentials {
            // Announces more than any route takes, and sends none of it.
            let mut request = Request::new(route.method, &route.path(&world)).header("Origin", ORIGIN).bare("");
            request = request.header("Content-Length", if route.cap().is_some() { "999999999" } else { "0" });
            if let Some(token) = credential {
                request = request.bearer(token);
            }
            let answer = request.send(&node.url).await;
            let what = format!("{} {}: {what}", route.method, route.path);
            match route.method {
                "HEAD" => assert_eq!(answer.status, 401, "{what}"),
                _ => assert_refused(&what, &answer, 401, &json!({ "error": text })),
            }
            assert_readable(&what, &answer);
        }
    }
}

#[tokio::test]
async fn a_token_without_usable_scopes_may_nothing() {
    let node = TestNode::start().await;
    World::build(&node.url, KEY, "callers").await;
    let mut claims = claims::<&str>(&[], 600);
    for scopes in
        [json!(null), json!([]), json!([""]), json!(["read"]), json!(["nonsense"]), json!(["READ:ALL"]), json!([":::"])]
    {
        claims["scopes"] = scopes;
        let request = Request::new("GET", "/api/v1/sessions/callers").bearer(&signed(KEY, &claims));
        let answer = request.header("Origin", ORIGIN).send(&node.url).await;
        assert_refused(&claims["scopes"].to_string(), &answer, 403, &forbidden());
    }
}

#[tokio::test]
async fn a_public_token_is_no_key() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let admin = world.token_with(&["admin"]).await;
    for route in ROUTES.iter().filter(|route| route.callers == Callers::Keys) {
        let answer = route.anonymous(&world).bearer(&admin).header("Origin", ORIGIN).send(&node.url).await;
        assert_refused(route.path, &answer, 401, &json!({ "error": "Invalid API key" }));
    }
}

#[tokio::test]
async fn a_url_that_does_not_count_says_no_more() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let refusal = json!({ "error": "The URL is invalid or has expired" });
    let altered = |url: &str| url.replace("tr_blob_", "tr_blob_A");
    for (method, path) in [
        ("PUT", world.get_url.clone()),
        ("GET", world.put_url.clone()),
        ("PUT", altered(&world.put_url)),
        ("GET", altered(&world.get_url)),
        ("GET", world.get_url[..world.get_url.len() - 1].to_owned()),
        ("GET", "/blobs/nothing".to_owned()),
        ("GET", format!("/blobs/{KEY}")),
        ("GET", format!("/blobs/{}", "A".repeat(9_000))),
    ] {
        let answer = Request::new(method, &path).header("Origin", ORIGIN).send(&node.url).await;
        assert_refused(&path, &answer, 403, &refusal);
    }
}

/// The routes about one session that take public tokens, with a token that has a scope, but not the one that is asked for.
#[tokio::test]
async fn under_scoped_is_the_same_403_for_what_is_there_and_what_is_not() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let other = world.token_with(&["read:sessions:other", "write:sessions:other", "admin:sessions:other"]).await;
    let about_a_session = |r: &&Route| r.callers == Callers::Anyone && r.path.contains("{session}");
    for route in ROUTES.iter().filter(about_a_session) {
        let mut seen = Vec::new();
        for name in ["callers", world.session_id.as_str(), "missing", "session_missing"] {
            let path = route.path(&World { session: name.to_owned(), ..world.clone() });
            let request = Request { path, ..route.anonymous(&world) };
            let answer = request.bearer(&other).header("Origin", ORIGIN).send(&node.url).await;
            assert_readable(route.path, &answer);
            seen.push((answer.status, answer.text()));
        }
        let what = format!("{} {}", route.method, route.path);
        assert!(seen.iter().all(|answer| *answer == seen[0]), "{what}: {seen:?}");
        assert_eq!(seen[0].0, 403, "{what}");
        // `.out` is not for public tokens at all, whatever their scopes.
        let is_json = serde_json::from_str::<Value>(&seen[0].1).ok();
        if route.method != "HEAD" && !(route.io == "out" && route.method == "POST") {
            assert_eq!(is_json, Some(forbidden()), "{what}");
        }
    }
    for (method, path, body) in [
        ("GET", "/api/v3/runs/{run}", ""),
        ("GET", "/api/v1/runs/{run}/metadata", ""),
        ("PUT", "/api/v1/runs/{run}/metadata", r#"{"metadata":{}}"#),
        ("POST", "/api/v1/runs/{run}/tags", r#"{"tags":"t"}"#),
        ("POST", "/api/v2/runs/{run}/cancel", ""),
        ("GET", "/api/v1/waitpoints/tokens/{waitpoint}", ""),
        ("POST", "/api/v1/waitpoints/tokens/{waitpoint}/complete", "{}"),
    ] {
        for (run, waitpoint) in [(world.run.as_str(), world.waitpoint.as_str()), ("run_missing", "waitpoint_missing")] {
            let path = path.replace("{run}", run).replace("{waitpoint}", waitpoint);
            let request = Request::new(method, &path).bearer(&other).header("Origin", ORIGIN).body(body);
            assert_refused(&path, &request.send(&node.url).await, 403, &forbidden());
        }
    }
}

#[tokio::test]
async fn the_session_token_stays_off_what_the_run_writes_and_the_key_reads() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let call = async |method: &str, path: &str| {
        let path = format!("/realtime/v1/sessions/callers/{path}");
        Request::new(method, &path).bearer(&world.token).header("Origin", ORIGIN).body("x").send(&node.url).await
    };
    let not_ok = |text: &str| json!({ "ok": false, "error": text });
    let appending = not_ok("Appending to the out channel requires secret key authentication");
    assert_refused("append", &call("POST", "out/append").await, 403, &appending);
    let reading = not_ok("Reading the in channel requires secret key authentication");
    assert_refused("subscribe", &call("GET", "in").await, 403, &reading);
    assert_refused("records", &call("GET", "in/records").await, 403, &reading);
    let initializing = call("PUT", "out").await;
    assert_eq!(
        (initializing.status, initializing.text().as_str()),
        (403, "Initializing the out channel requires secret key authentication")
    );
    assert_readable("initialize", &initializing);
    assert_eq!(call("HEAD", "in").await.status, 403);
    assert_eq!(call("GET", "out/records").await.status, 200);
}

#[tokio::test]
async fn a_run_that_may_not_be_read_is_not_moved_either() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    let made = world.json("POST", "/api/v1/tasks/task/trigger", r#"{"options":{"delay":"1d"}}"#).await;
    let run = made["id"].as_str().unwrap();
    let path = format!("/api/v1/runs/{run}/reschedule");
    let reschedule = async |token: &str| {
        let request = Request::new("POST", &path).bearer(token).header("Origin", ORIGIN);
        request.body(r#"{"delay":"2090-01-01T00:00:00.000Z"}"#).send(&node.url).await
    };
    let delayed_until = async || world.json("GET", &format!("/api/v3/runs/{run}"), "").await["delayedUntil"].clone();
    let before = delayed_until().await;
    let (write, read) = (format!("write:runs:{run}"), format!("read:runs:{run}"));
    for scope in [&write, &read] {
        let token = world.token_with(&[scope]).await;
        assert_refused(scope, &reschedule(&token).await, 403, &forbidden());
        assert_eq!(delayed_until().await, before, "{scope}");
    }
    let moved = reschedule(&world.token_with(&[&write, &read]).await).await;
    assert_eq!((moved.status, &moved.json()["delayedUntil"]), (200, &json!("2090-01-01T00:00:00.000Z")));
}

#[tokio::test]
async fn another_environment_does_not_exist() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "callers").await;
    for route in with_callers().filter(|r| r.path.contains("{run}") || r.path.contains("{waitpoint}")) {
        let answer = route.anonymous(&world).bearer(OTHER_KEY).send(&node.url).await;
        assert_eq!(answer.status, 404, "{} {}", route.method, route.path);
    }
    let about_a_session = |r: &&Route| r.path.contains("{session}") && !r.path.contains("{run}");
    for route in with_callers().filter(about_a_session) {
        let by_id = World { session: world.session_id.clone(), ..world.clone() };
        let request = Request { path: route.path(&by_id), ..route.anonymous(&world) };
        let bytes = request.bearer(OTHER_KEY).bytes();
        let answer = exchange(&node.url, bytes, route.method == "HEAD", Take::Head).await.unwrap();
        assert_eq!(answer.status, 404, "{} {}", route.method, route.path);
    }
}
