//! Lists over REST: who may, which sessions, and where the cursors lead.

use crate::support::{KEY, TestNode, token::scoped};
use serde_json::json;

/// Scopes, the tasks in the filter, and how many of the two sessions come back; none is a refusal.
const TABLE: [(&[&str], &str, Option<usize>); 20] = [
    (&["read:sessions"], "", Some(2)),
    (&["read:sessions"], "other", Some(1)),
    (&["read:tasks"], "", Some(2)),
    (&["read:tasks"], "chat,other", Some(2)),
    (&["read:all"], "", Some(2)),
    (&["*:all"], "", Some(2)),
    (&["admin"], "", Some(2)),
    (&["read:tasks:chat"], "chat", Some(1)),
    (&["read:tasks:chat"], "", None),
    (&["read:tasks:chat"], "other", None),
    (&["read:tasks:chat"], "chat,other", None),
    (&["read:tasks:chat", "read:tasks:other"], "chat,other", Some(2)),
    (&["read:tasks:chat", "read:tasks:other"], "", None),
    (&["read:sessions:a"], "", None),
    (&["read:sessions:a"], "chat", None),
    (&["write:sessions"], "", None),
    (&["admin:sessions"], "", None),
    (&["admin:all"], "", None),
    (&["read"], "", None),
    (&[], "", None),
];

#[tokio::test]
async fn a_list_shows_what_the_scopes_cover_or_is_refused() {
    let node = TestNode::start().await;
    for (name, task) in [("a", "chat"), ("b", "other")] {
        let body = json!({
            "type": "t", "externalId": name, "taskIdentifier": task, "triggerConfig": { "basePayload": {} },
        });
        assert_eq!(node.rest().post("/api/v1/sessions", body.to_string()).await.status, 201);
    }
    for (scopes, tasks, expected) in TABLE {
        let rest = node.rest_as(&scoped(scopes));
        let together = format!("?filter[taskIdentifier]={tasks}");
        let apart: Vec<_> = tasks.split(',').map(|task| format!("filter[taskIdentifier]={task}")).collect();
        for query in [together, format!("?{}", apart.join("&"))] {
            let answer = rest.get(&format!("/api/v1/sessions{query}")).await;
            let found = (answer.status == 200).then(|| answer.json()["data"].as_array().unwrap().len());
            assert_eq!(found, expected, "{scopes:?} {query} {}", answer.text());
            assert!(found.is_some() || answer.status == 403, "{scopes:?} {query}");
        }
    }
}

#[tokio::test]
async fn a_page_of_several_statuses_holds_them_all() {
    let node = TestNode::start().await;
    let rest = node.rest_as(KEY);
    for (name, expires_at) in [("open", json!(null)), ("closed", json!(null)), ("expired", json!(1))] {
        let mut body = json!({
            "type": "t", "externalId": name, "taskIdentifier": "chat", "triggerConfig": { "basePayload": {} },
        });
        if !expires_at.is_null() {
            body["expiresAt"] = expires_at;
        }
        rest.post("/api/v1/sessions", body.to_string()).await;
    }
    rest.post("/api/v1/sessions/closed/close", "").await;
    for (query, expected) in [
        ("filter[status]=ACTIVE,CLOSED", &["closed", "open"][..]),
        ("filter[status]=ACTIVE&filter[status]=EXPIRED", &["expired", "open"]),
        ("filter[status]=%20EXPIRED%20,,CLOSED", &["expired", "closed"]),
    ] {
        let page = rest.get(&format!("/api/v1/sessions?{query}")).await.json();
        let names: Vec<_> = page["data"].as_array().unwrap().iter().map(|s| s["externalId"].clone()).collect();
        assert_eq!(names, expected, "{query}");
    }
}

#[tokio::test]
async fn a_backward_page_holds_the_nearest_newer_ones_and_its_cursors_lead_on() {
    let node = TestNode::start().await;
    let rest = node.rest();
    for n in 1..=11 {
        node.client().await.create(Some(&format!("c{n:02}"))).await;
    }
    let page = async |query: String| {
        let page = rest.get(&format!("/api/v1/sessions?{query}")).await.json();
        let names: Vec<_> = page["data"].as_array().unwrap().iter().map(|s| s["externalId"].clone()).collect();
        let cursor = |key: &str| page["pagination"][key].as_str().map(str::to_owned);
        (names, cursor("previous"), cursor("next"))
    };
    // The page that begins with c07: its cursor back stands at c07.
    let next = page("page[size]=4".into()).await.2.unwrap();
    let (names, at_c07, _) = page(format!("page[size]=1&page[after]={next}")).await;
    assert_eq!(names, ["c07"]);

    let before = async |cursor: &str| page(format!("page[size]=3&page[before]={cursor}")).await;
    let (names, at_c10, at_c08) = before(&at_c07.unwrap()).await;
    assert_eq!(names, ["c10", "c09", "c08"]);
    let (at_c10, at_c08) = (at_c10.unwrap(), at_c08.unwrap());
    assert_eq!(before(&at_c10).await.0, ["c11"], "the cursor back stands at c10");
    assert_eq!(before(&at_c10).await.1, None, "nothing is newer");
    let after = async |cursor: &str| page(format!("page[size]=3&page[after]={cursor}")).await.0;
    assert_eq!(after(&at_c08).await, ["c07", "c06", "c05"], "the cursor on stands at c08");
    // Whichever cursor it is, the parameter says the way.
    assert_eq!(after(&at_c10).await, ["c09", "c08", "c07"]);
    assert_eq!(before(&at_c08).await.0, ["c11", "c10", "c09"]);
}
