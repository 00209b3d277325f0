//! Pages: sizes, and cursors that are not this list's own.

use crate::support::http::{Answer, Request};
use crate::support::routes::World;
use crate::support::{KEY, OTHER_KEY, TestNode};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const LISTS: [&str; 3] = ["/api/v1/sessions", "/api/v1/runs", "/api/v1/waitpoints/tokens"];

async fn list(world: &World, path: &str, query: &str) -> Answer {
    Request::new("GET", &format!("{path}?{query}")).bearer(&world.key).send(&world.url).await
}

async fn next(world: &World, path: &str) -> String {
    let page = list(world, path, "page[size]=1").await.json();
    page["pagination"]["next"].as_str().unwrap_or_else(|| panic!("{path}: {page}")).to_owned()
}

/// Two sessions with a run and a waitpoint each, in either environment.
async fn worlds(node: &TestNode) -> (World, World) {
    World::build(&node.url, KEY, "first").await;
    World::build(&node.url, OTHER_KEY, "first").await;
    (World::build(&node.url, KEY, "second").await, World::build(&node.url, OTHER_KEY, "second").await)
}

#[tokio::test]
async fn page_sizes() {
    let node = TestNode::start().await;
    let (world, _) = worlds(&node).await;
    for path in LISTS {
        for size in ["1", "100", "+1", " 2 ", "01"] {
            assert_eq!(
                list(&world, path, &format!("page[size]={}", size.replace(' ', "%20"))).await.status,
                200,
                "{path} {size:?}"
            );
        }
        let mut seen = BTreeSet::new();
        let mut query = "page[size]=1".to_owned();
        loop {
            let page: Value = list(&world, path, &query).await.json();
            let items = page["data"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{path}: {page}");
            assert!(seen.insert(items[0]["id"].as_str().unwrap().to_owned()), "{path}: each once");
            let Some(next) = page["pagination"]["next"].as_str() else { break };
            query = format!("page[size]=1&page[after]={next}");
        }
        assert_eq!(seen.len(), 2, "{path}");
    }
}

#[tokio::test]
async fn a_cursor_that_is_not_the_lists_own() {
    let node = TestNode::start().await;
    let (world, other) = worlds(&node).await;
    for path in LISTS {
        let own = next(&world, path).await;
        assert_eq!(
            list(&world, path, &format!("page[after]={own}")).await.status,
            200,
            "so that the others can be bad"
        );
        let first = list(&world, path, "page[size]=1").await.json();
        for empty in ["page[after]=", "page[before]=", "page[after]=&page[before]="] {
            let page = list(&world, path, &format!("page[size]=1&{empty}")).await.json();
            assert_eq!(page["data"], first["data"], "{path}: {empty} is as if it were not given");
        }
        let mut bad = vec![
            own[..own.len() - 1].to_owned(),
            own[1..].to_owned(),
            own[..own.len() / 2].to_owned(),
            format!("{own}{own}"),
            format!("{own}A"),
            own.to_uppercase(),
            world.session_id.clone(),
            world.run.clone(),
            "0".into(),
            "%00".into(),
            "%ff".into(),
            "A".repeat(4_000),
        ];
        for foreign in LISTS.iter().filter(|foreign| **foreign != path) {
            bad.push(next(&world, foreign).await);
        }
        for (n, byte) in own.bytes().enumerate().step_by(7) {
            let mut altered = own.clone().into_bytes();
            altered[n] = if byte == b'x' { b'y' } else { b'x' };
            let altered = String::from_utf8(altered).unwrap();
            bad.push(altered);
        }
        // Another environment's position says nothing here.
        bad.push(next(&other, path).await);
        for cursor in bad {
            let answer = list(&world, path, &format!("page[after]={cursor}")).await;
            assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("Query Error")), "{path}: {cursor:.80}");
            assert_eq!(answer.json()["details"][0]["path"], json!(["page[after]"]), "{path}: {cursor:.80}");
        }
    }
}
