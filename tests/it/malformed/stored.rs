//! Everything an environment has stored, as its owner sees it.

use crate::support::http::Request;
use crate::support::routes::World;
use serde_json::Value;

/// Each thing with the path it was found under.
pub(super) async fn all_of(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let sessions = list(world, "/api/v1/sessions", &mut found).await;
    for id in sessions {
        let session = format!("/api/v1/sessions/{id}");
        for path in ["", "/runs", "/transcript"] {
            get(world, format!("{session}{path}"), &mut found).await;
        }
        for channel in ["in", "out", "channels/tools/in", "channels/tools/out", "channels/a/in"] {
            get(world, format!("/realtime/v1/sessions/{id}/{channel}/records"), &mut found).await;
        }
    }
    for id in list(world, "/api/v1/runs", &mut found).await {
        get(world, format!("/api/v3/runs/{id}"), &mut found).await;
        get(world, format!("/api/v1/runs/{id}/metadata"), &mut found).await;
    }
    for id in list(world, "/api/v1/waitpoints/tokens", &mut found).await {
        get(world, format!("/api/v1/waitpoints/tokens/{id}"), &mut found).await;
    }
    get(world, world.get_url.clone(), &mut found).await;
    assert!(found.len() > 10, "there is something to lose");
    found
}

async fn list(world: &World, path: &str, found: &mut Vec<(String, String)>) -> Vec<String> {
    let path = format!("{path}?page[size]=100");
    get(world, path, found).await;
    let page: Value = serde_json::from_str(&found.last().unwrap().1).unwrap();
    assert_eq!(page["pagination"], serde_json::json!({}), "all on one page");
    page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn get(world: &World, path: String, found: &mut Vec<(String, String)>) {
    let answer = Request::new("GET", &path).bearer(&world.key).send(&world.url).await;
    assert_eq!((answer.status, answer.cut), (200, false), "{path}: {}", answer.text());
    found.push((path, answer.text()));
}
