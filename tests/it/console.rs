//! The console as a browser gets it: which files there are, under which headers, and that nothing else is served there.

use crate::docs::sources;
use crate::gateway_alone::gateway_before;
use crate::support::http::{Answer, Request};
use crate::support::{KEY, TestNode};
use std::collections::BTreeSet;
use std::io::Read;

/// The files that the page is made of, and the docs with what lists them.
fn files() -> BTreeSet<String> {
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway/console/dist");
    let dist = std::fs::read_dir(dist).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let docs = sources().into_iter().chain(["index.json".to_owned()]).map(|path| format!("docs/{path}"));
    dist.chain(docs).collect()
}

async fn get(node: &TestNode, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = Request::new("GET", path);
    headers.iter().fold(request, |request, (name, value)| request.header(name, *value)).send(&node.url).await
}

#[tokio::test]
async fn the_page_and_its_files_come_without_a_key_and_under_a_strict_policy() {
    let node = TestNode::start().await;
    for name in files().iter().map(String::as_str).chain([""]) {
        let answer = get(&node, &format!("/console/{name}"), &[("Origin", "https://app.example")]).await;
        assert_eq!(answer.status, 200, "{name}");
        let policy = answer.header("content-security-policy").unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|found| found == rule), "{name}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{name}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "no other page reads {name}");
        let expected = match name.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "json" => "application/json",
            "txt" | "proto" => "text/plain; charset=utf-8",
            "md" => "text/markdown; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), Some(expected), "{name}");
        let caching = answer.header("cache-control").unwrap();
        let is_hashed = name.contains('-') && !name.starts_with("docs/");
        assert_eq!(caching, if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" }, "{name}");
    }
}

#[tokio::test]
async fn a_file_is_sent_once_and_small() {
    let node = TestNode::start().await;
    for name in files().iter().map(String::as_str).chain([""]) {
        let path = format!("/console/{name}");
        let plain = get(&node, &path, &[("Accept-Encoding", "br, gzip;q=0")]).await;
        assert_eq!(plain.header("content-encoding"), None, "{name}");
        let small = get(&node, &path, &[("Accept-Encoding", "br, gzip, deflate")]).await;
        assert_eq!(small.header("content-encoding"), Some("gzip"), "{name}");
        assert!(small.body.len() < plain.body.len(), "{name}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&small.body[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body, "{name}");

        let tag = plain.header("etag").unwrap();
        let again = get(&node, &path, &[("If-None-Match", &format!("\"other\", {tag}"))]).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
        assert_eq!(again.header("etag"), Some(tag));
        assert_eq!(get(&node, &path, &[("If-None-Match", "\"other\"")]).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn nothing_else_is_served_there() {
    let node = TestNode::start().await;
    let moved = get(&node, "/console", &[]).await;
    assert_eq!((moved.status, moved.header("location")), (301, Some("/console/")));
    for path in [
        "/console/nothing.js",
        "/console/..%2Findex.html",
        "/console/%2e%2e/Cargo.toml",
        "/console/src/main.tsx",
        "/console/docs",
        "/console/docs/nothing.md",
        "/console/docs/docs",
        "/console/docs/Cargo.toml",
        "/console/docs/..%2F..%2FREADME.md",
        "/console/docs/docs%2f..%2fCargo.toml",
    ] {
        let answer = get(&node, path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().ends_with("is not provided by this server"), "{path}");
    }
    for path in ["/console", "/console/", "/console/index.html", "/console/docs/README.md"] {
        let answer = Request::new("POST", path).send(&node.url).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{path}");
        assert_eq!(answer.json()["error"], "Method not allowed");
    }
    let head = Request::new("HEAD", "/console/").send(&node.url).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_gateway_alone_has_none_since_it_serves_no_grpc_web() {
    let node = TestNode::start().await;
    let (mut gateway, url) = gateway_before(&node).await;
    let answer = Request::new("GET", "/console/index.html").bearer(KEY).send(&url).await;
    assert_eq!(answer.status, 404);
    gateway.kill().await.unwrap();
}
