//! `continuo move`: from one machine into a cluster, as processes. What a channel keeps is in the tests of the import, what a
//! row keeps in those of the copy.

use crate::support::postgres::PostgresDatabase;
use crate::support::process::{Ended, ServerProcess, run};
use crate::support::rest::Rest;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{ADMIN_KEY, KEY, s2_endpoint};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const CREATE: &str = r#"{"type":"chat.agent","externalId":"chat-1","taskIdentifier":"t","tags":["a"],"triggerConfig":{"basePayload":{}}}"#;
const SNAPSHOT: &str = r#"{"turns":[1,2,3]}"#;

/// A data directory with a conversation in it, and no server on it any more.
async fn old_directory() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old").to_str().unwrap().to_owned();
    let server = ServerProcess::start_with(&[("CONTINUO_DATA_DIR", &path)]).await;
    let rest = Rest::new(&server.url, Some(KEY));
    assert_eq!(rest.status("POST", "/api/v1/sessions", CREATE).await, 201);
    for (part_id, text) in [("p-1", "hello"), ("p-2", "are you there?")] {
        assert_eq!(say(&rest, part_id, text).await, 200);
    }
    for n in 0..5 {
        let path = "/realtime/v1/sessions/chat-1/out/append";
        assert_eq!(rest.status("POST", path, format!("answer {n}")).await, 200);
    }
    let url = rest.call("PUT", "/api/v1/sessions/chat-1/snapshot-url", &[], "").await.json();
    let url = url["presignedUrl"].as_str().unwrap().strip_prefix(&server.url).unwrap().to_owned();
    let put = Rest::new(&server.url, None).call("PUT", &url, &[("content-type", "application/json")], SNAPSHOT).await;
    assert_eq!(put.status, 200, "{}", put.text());
    server.stop().await;
    (dir, path)
}

async fn say(rest: &Rest, part_id: &str, text: &'static str) -> u16 {
    rest.call("POST", "/realtime/v1/sessions/chat-1/in/append", &[("x-part-id", part_id)], text).await.status
}

/// What a client sees of the conversation.
async fn seen(rest: &Rest) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in [
        "/api/v1/sessions/chat-1",
        "/api/v1/sessions/chat-1/runs",
        "/realtime/v1/sessions/chat-1/in/records",
        "/realtime/v1/sessions/chat-1/out/records",
    ] {
        let answer = rest.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        seen.push(answer.json());
    }
    seen
}

/// The settings of a replica, and of the move.
fn cluster<'a>(
    database: &'a PostgresDatabase,
    bucket: &'a S3Server,
    s2: &'a str,
    master_key: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("CONTINUO_DATABASE_URL", &database.url),
        ("CONTINUO_S2_ENDPOINT", s2),
        ("CONTINUO_S2_BASIN_PREFIX", "moving"),
        ("CONTINUO_BLOBS_S3_ENDPOINT", &bucket.endpoint),
        ("CONTINUO_BLOBS_S3_BUCKET", BUCKET),
        ("CONTINUO_BLOBS_S3_ACCESS_KEY", ACCESS_KEY),
        ("CONTINUO_BLOBS_S3_SECRET_KEY", SECRET_KEY),
        ("CONTINUO_MASTER_KEY", master_key),
        ("CONTINUO_ADMIN_KEY", ADMIN_KEY),
    ]
}

fn master_key(directory: &str) -> String {
    std::fs::read_to_string(Path::new(directory).join("master.key")).unwrap().trim().to_owned()
}

fn assert_refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains(sentence) && ended.stderr.trim().lines().count() == 1, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_moves_and_goes_on() {
    let (_dir, old) = old_directory().await;
    let before = {
        let server = ServerProcess::start_with(&[("CONTINUO_DATA_DIR", &old)]).await;
        let seen = seen(&Rest::new(&server.url, Some(KEY))).await;
        server.stop().await;
        seen
    };
    let (database, bucket, s2) = (PostgresDatabase::migrated().await, S3Server::start().await, s2_endpoint());
    let key = master_key(&old);
    let settings = cluster(&database, &bucket, &s2, &key);
    for _ in 0..2 {
        let moved = run(&["move", "--from", &old], &settings).await;
        assert_eq!(moved.code, 0, "{}", moved.stderr);
        assert!(moved.stdout.starts_with("moved 2 channels with "), "{}", moved.stdout);
        assert!(moved.stdout.contains(" 1 blobs and "), "{}", moved.stdout);
    }
    let refused = run(&["serve"], &[("CONTINUO_DATA_DIR", &old)]).await;
    assert_refused(&refused, "was moved into a cluster");

    let server = ServerProcess::start_with(&settings).await;
    let rest = Rest::new(&server.url, Some(KEY));
    assert_eq!(seen(&rest).await, before);
    assert_eq!(say(&rest, "p-1", "hello").await, 200);
    assert_eq!(say(&rest, "p-1", "another text").await, 409);
    assert_eq!(seen(&rest).await, before, "a part id from before the move is known");
    let url = rest.get("/api/v1/sessions/chat-1/snapshot-url").await.json();
    let url = url["presignedUrl"].as_str().unwrap().strip_prefix(&server.url).unwrap().to_owned();
    assert_eq!(Rest::new(&server.url, None).get(&url).await.text(), SNAPSHOT);
    assert_eq!(say(&rest, "p-3", "still here").await, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_is_refused_and_left_as_it_is() {
    let (dir, old) = old_directory().await;
    let (database, bucket, s2) = (PostgresDatabase::migrated().await, S3Server::start().await, s2_endpoint());
    let key = master_key(&old);
    let settings = cluster(&database, &bucket, &s2, &key);
    let empty = dir.path().join("empty").to_str().unwrap().to_owned();
    let other_key = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
    for (from, name, value, sentence) in [
        (&empty, "CONTINUO_LOG", "off", "is no data directory of Continuo"),
        (&old, "CONTINUO_DATA_DIR", &*old, "are both"),
        (&old, "CONTINUO_MASTER_KEY", other_key, "were sealed with another master key: set CONTINUO_MASTER_KEY"),
        (&old, "CONTINUO_S2_ENDPOINT", "", "a move goes into a cluster: set CONTINUO_DATABASE_URL and"),
        (&old, "CONTINUO_BLOBS_S3_ENDPOINT", "", "blobs.s3"),
    ] {
        let mut settings = settings.clone();
        settings.retain(|(given, _)| *given != name);
        settings.push((name, value));
        assert_refused(&run(&["move", "--from", from], &settings).await, sentence);
    }
    let server = ServerProcess::start_with(&[("CONTINUO_DATA_DIR", &old)]).await;
    let busy = run(&["move", "--from", &old], &settings).await;
    assert_refused(&busy, "is in use by another process");
    seen(&Rest::new(&server.url, Some(KEY))).await;
    server.stop().await;
}
