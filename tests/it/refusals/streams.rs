//! The refusals of the stream API: `{"code","message"}`, or what a failed condition wants to tell.

use super::{ORIGIN, assert_readable};
use crate::support::http::{Answer, Request};
use crate::support::routes::{STREAM_ROUTES, World};
use crate::support::{KEY, OTHER_KEY, TestNode};
use serde_json::{Value, json};

const ONE: &str = r#"{"records":[{"body":"b"}]}"#;

#[track_caller]
fn assert_code(what: &str, answer: &Answer, status: u16, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{what}: {body}");
    assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
    assert_eq!(body.as_object().unwrap().len(), 2, "{what}: {body}");
    assert_readable(what, answer);
}

/// The path of a stream of the world's session.
fn records(world: &World, stream: &str) -> String {
    format!("/v1/streams/{}%2F{stream}/records", world.session_id)
}

async fn send(node: &TestNode, request: Request) -> Answer {
    request.header("Origin", ORIGIN).send(&node.url).await
}

#[tokio::test]
async fn callers_and_methods() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "streams").await;
    let other = world.token_with(&["read:sessions:other", "write:sessions:other"]).await;
    for route in STREAM_ROUTES {
        let what = format!("{} {}", route.method, route.path);
        let anonymous = || Request { headers: Vec::new(), ..route.anonymous(&world) };
        assert_code(&what, &send(&node, anonymous()).await, 401, "authn");
        for nobody in ["", "tr_dev_AAAAAAAAAAAAAAAAAAAAAAAA", "a.b.c", "x"] {
            assert_code(&what, &send(&node, anonymous().bearer(nobody)).await, 401, "authn");
        }
        assert_code(&what, &send(&node, anonymous().bearer(&other)).await, 403, "permission_denied");
        assert_code(&what, &send(&node, anonymous().bearer(OTHER_KEY)).await, 404, "stream_not_found");
        let basin = anonymous().bearer(KEY).header("s2-basin", "another-basin");
        assert_code(&what, &send(&node, basin).await, 404, "basin_not_found");
        for method in ["PUT", "PATCH", "DELETE", "BREW"] {
            let answer = send(&node, Request { method: method.into(), ..anonymous() }).await;
            assert_code(&what, &answer, 405, "method_not_allowed");
            assert!(answer.header("allow").is_some(), "{what}");
        }
        for name in ["%00", "%ff", "%zz", "a%"] {
            let path = route.path_with(&world, "{stream}", name);
            let answer = send(&node, Request { path, ..anonymous().bearer(KEY) }).await;
            assert_code(&format!("{what}: {name}"), &answer, 400, "bad_path");
        }
        for name in
            ["nothing", "..", "%2e%2e", "session_a", "session_a%2Fboth", "session_missing%2Fout", "%F0%9F%98%80"]
        {
            let path = route.path_with(&world, "{stream}", name);
            let answer = send(&node, Request { path, ..anonymous().bearer(KEY) }).await;
            assert_code(&format!("{what}: {name}"), &answer, 404, "stream_not_found");
        }
    }
    for path in ["/v1", "/v1/streams", "/v1/streams/a/b/c", "/v1/basins", "/v1/streams/a"] {
        assert_code(path, &send(&node, Request::new("POST", path).bearer(KEY)).await, 404, "not_found");
    }
}

#[tokio::test]
async fn appends() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "streams").await;
    let append = |body: &str| Request::new("POST", &records(&world, "out")).bearer(KEY).body(body);
    for (body, status, code) in [
        ("", 400, "bad_json"),
        ("nonsense", 400, "bad_json"),
        ("[]", 400, "bad_json"),
        ("{}", 400, "bad_json"),
        (r#"{"records":[{"body":"\ud800"}]}"#, 400, "bad_json"),
        (r#"{"records":[]}"#, 422, "invalid"),
        (r#"{"records":[{"headers":[["","nonsense"]]}]}"#, 422, "invalid"),
        (r#"{"records":[{"headers":[["","trim"]],"body":"short"}]}"#, 422, "invalid"),
    ] {
        assert_code(body, &send(&node, append(body)).await, status, code);
    }
    for (name, value, status, code) in [
        ("Content-Type", "text/plain", 415, "bad_header"),
        ("Content-Encoding", "br", 415, "bad_header"),
        ("Content-Encoding", "gzip", 400, "bad_header"),
        ("Content-Encoding", "zstd", 400, "bad_header"),
        ("S2-Format", "base65", 400, "bad_header"),
        ("S2-Format", "\u{ff}", 400, "bad_header"),
        ("Content-Type", "application/protobuf", 400, "bad_proto"),
    ] {
        assert_code(value, &send(&node, append(ONE).header(name, value)).await, status, code);
    }
    let not_base64 = append(r#"{"records":[{"body":"%"}]}"#).header("S2-Format", "base64");
    assert_code("base64", &send(&node, not_base64).await, 422, "invalid");
    let large = append("").bare("").header("Content-Length", (8 * 1_048_576 + 1).to_string());
    assert_code("large", &send(&node, large.header("Expect", "100-continue")).await, 413, "invalid");

    let tail = world.json("GET", &format!("{}/tail", records(&world, "out")), "").await["tail"]["seq_num"].clone();
    let mismatch = send(&node, append(r#"{"records":[{"body":"b"}],"match_seq_num":999}"#)).await;
    assert_eq!((mismatch.status, mismatch.json()), (412, json!({ "seq_num_mismatch": tail })));
    let fenced = send(&node, append(r#"{"records":[{"body":"b"}],"fencing_token":"nobody"}"#)).await;
    assert_eq!(fenced.status, 412);
    assert!(fenced.json()["fencing_token_mismatch"].is_string(), "{}", fenced.text());
    for answer in [&mismatch, &fenced] {
        assert_readable("a failed condition", answer);
    }
}

#[tokio::test]
async fn reads() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "streams").await;
    let read = |query: &str| Request::new("GET", &format!("{}?{query}", records(&world, "out"))).bearer(KEY);
    for (query, status, code) in [
        ("seq_num=-1", 400, "bad_query"),
        ("seq_num=x", 400, "bad_query"),
        ("seq_num=99999999999999999999999", 400, "bad_query"),
        ("seq_num=1.5", 400, "bad_query"),
        ("count=x", 400, "bad_query"),
        ("bytes=-1", 400, "bad_query"),
        ("wait=x", 400, "bad_query"),
        ("clamp=maybe", 400, "bad_query"),
        ("seq_num=1&timestamp=1", 422, "invalid"),
        ("timestamp=5&until=5", 422, "invalid"),
    ] {
        assert_code(query, &send(&node, read(query)).await, status, code);
    }
    let tail = world.json("GET", &format!("{}/tail", records(&world, "out")), "").await;
    for query in ["", "seq_num=999"] {
        let past = send(&node, read(query)).await;
        assert_eq!(past.status, 416, "{query}: {}", past.text());
        assert_eq!(past.json()["tail"]["seq_num"], tail["tail"]["seq_num"]);
        assert_readable(query, &past);
    }
    for accept in ["application/json", "application/protobuf", "text/event-stream"] {
        let none = send(&node, read("seq_num=0&count=0").header("Accept", accept)).await;
        assert_eq!((none.status, none.cut), (200, false), "nothing may be asked for, as {accept}");
    }
    let token = Request::new("GET", &records(&world, "in")).bearer(&world.token);
    assert_code("in", &send(&node, token).await, 403, "permission_denied");
    let nothing: Value = send(&node, read("seq_num=0&count=1")).await.json();
    assert_eq!(nothing["records"].as_array().unwrap().len(), 1, "so that the others can be bad");
}

#[tokio::test]
async fn a_public_token_appends_without_conditions_and_commands() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "streams").await;
    let elsewhere = world.token_with(&["write:sessions:other"]).await;
    let append = |token: &str, body: &str| {
        let request =
            Request::new("POST", &records(&world, "in")).bearer(token).header("Content-Type", "application/json");
        request.header("S2-Format", "base64").body(body)
    };
    for (what, body) in [
        ("match_seq_num", r#"{"records":[{"body":"YQ=="}],"match_seq_num":0}"#),
        ("fencing_token", r#"{"records":[{"body":"YQ=="}],"fencing_token":""}"#),
        ("a trim", r#"{"records":[{"headers":[["","dHJpbQ=="]],"body":"AAAAAAAAAAA="}]}"#),
    ] {
        for (token, message) in [
            (&world.token, "Conditions and commands require secret key authentication"),
            (&elsewhere, "The token does not cover this stream"),
        ] {
            let answer = send(&node, append(token, body)).await;
            assert_code(what, &answer, 403, "permission_denied");
            assert_eq!(answer.json()["message"], message, "{what}");
        }
    }
    let plain = send(&node, append(&world.token, r#"{"records":[{"body":"YQ=="}]}"#)).await;
    assert_eq!(plain.status, 200, "so that the others can be bad: {}", plain.text());
    let tail = plain.json()["tail"]["seq_num"].as_u64().unwrap();
    let whole =
        send(&node, append(KEY, &format!(r#"{{"records":[{{"body":"YQ=="}}],"match_seq_num":{tail}.0}}"#))).await;
    assert_eq!((whole.status, &whole.json()["start"]["seq_num"]), (200, &json!(tail)), "{}", whole.text());
}
