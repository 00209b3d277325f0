//! Who may do what, over HTTP: every route, with every kind of credential, on what is there and on what is not.

mod described;
mod table;

use self::table::{Row, rows};
use crate::support::rest::Rest;
use crate::support::worker::Worker;
use crate::support::{OTHER_KEY, TestNode, create_request, token};
use continuo_proto::v1::admin_service_client::AdminServiceClient;
use continuo_proto::v1::{CreateApiKeyRequest, ListEnvironmentsRequest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A body that the route accepts.
fn body(row: &Row<'_>, world: &World) -> String {
    let last = row.path.rsplit('/').next().unwrap();
    let body = match (row.method, last) {
        ("POST", "sessions") => json!({
            "type": "t", "externalId": "made", "taskIdentifier": "any", "triggerConfig": { "basePayload": {} },
        }),
        ("POST", "end-and-continue") => json!({ "callingRunId": world.former_run, "reason": "manual" }),
        ("POST", "reschedule") => json!({ "delay": "1h" }),
        ("POST", "tags") => json!({ "tags": ["t"] }),
        ("PUT", "metadata") => json!({ "metadata": { "a": 1 } }),
        ("POST", "wait") if row.path.contains("session-streams") => json!({ "session": "mine", "io": "in" }),
        ("POST", "duration") => json!({ "date": "2020-01-01T00:00:00.000Z" }),
        ("POST", "records") => json!({ "records": [{ "body": "x" }] }),
        ("POST", "public-tokens") => json!({ "scopes": ["read:sessions:mine"] }),
        ("POST", "jwt") => json!({ "claims": { "scopes": ["read:sessions:mine"] } }),
        ("POST" | "PUT" | "PATCH", _) => json!({}),
        _ => return String::new(),
    };
    body.to_string()
}

/// What stands in a path for its parameter.
struct Place {
    value: String,
    is_there: bool,
    is_name: bool,
}

impl Place {
    fn new(value: &str, is_there: bool, is_name: bool) -> Self {
        Self { value: value.to_owned(), is_there, is_name }
    }
}

struct World {
    node: TestNode,
    callers: BTreeMap<&'static str, Rest>,
    session: String,
    former_run: String,
    run: String,
    waitpoint: String,
    _worker: Worker,
}

impl World {
    async fn new() -> Self {
        let node = TestNode::start_with(|config| {
            config.worker.lease_ms = 600_000;
            config.keys.admin_key = Some("admin".to_owned().into());
        })
        .await;
        let (root, client) = (node.rest(), node.client().await);
        let mine = client.create(Some("mine")).await;
        let (session, former_run) = (mine.session.unwrap().id, mine.run_id);
        let swap = json!({ "callingRunId": former_run, "reason": "manual" }).to_string();
        let swapped = root.post("/api/v1/sessions/mine/end-and-continue", swap).await.json();
        let run = swapped["runId"].as_str().unwrap().to_owned();
        client.create(Some("elsewhere")).await;
        create(&root, "made").await;
        let mut worker = Worker::connect(&client, 2).await;
        let (one, two) = (worker.take().await, worker.take().await);
        let is_mine = one.run.as_ref().unwrap().id == run;
        let (own, others) = if is_mine { (one, two) } else { (two, one) };

        let put = root.call("PUT", "/realtime/v1/sessions/mine/out", &[], "").await;
        let token = |scopes: &[&str]| node.rest_as(&token::scoped(scopes));
        let callers = BTreeMap::from([
            ("root", root.clone()),
            ("admin", node.rest_as(&additional_key(&node, &["admin"]).await)),
            ("key", node.rest_as(&additional_key(&node, &["read:sessions:mine", "write:sessions:mine"]).await)),
            ("other", node.rest_as(OTHER_KEY)),
            ("token", node.rest_as(&mine.public_access_token)),
            ("under", token(&["read:sessions:his", "write:sessions:his", "admin:sessions:his"])),
            ("type", token(&["read:sessions", "write:sessions", "admin:sessions", "read:runs", "write:runs"])),
            ("out", token(&["read:sessions:mine:out", "write:sessions:mine:out", "admin:sessions:mine:out"])),
            ("chan", token(&["read:sessions:mine:channels:tools", "write:sessions:mine:channels:tools"])),
            ("run", node.rest_as(&own.run_token)),
            ("run2", node.rest_as(&others.run_token)),
            ("strm", node.rest_as(put.header("x-s2-access-token").unwrap())),
            ("late", node.rest_as(&token::expired(&["admin"]))),
            ("none", Rest::new(&node.url, None)),
            ("oper", node.rest_as("admin")),
        ]);
        let made = root.post("/api/v1/waitpoints/tokens", "{}").await.json();
        let waitpoint = made["id"].as_str().unwrap().to_owned();
        Self { node, callers, session, former_run, run, waitpoint, _worker: worker }
    }

    /// Both names of what a route is about, and both of something that is not there.
    fn places(&self, path: &str) -> Vec<Place> {
        let by_id =
            |there: &str, missing: &str| vec![Place::new(there, true, false), Place::new(missing, false, false)];
        if path.contains("{session}") {
            let mut places = by_id(&self.session, "session_missing");
            places.extend([Place::new("mine", true, true), Place::new("missing", false, true)]);
            places
        } else if path.contains("{stream}") {
            by_id(&format!("{}%2Fout", self.session), "session_missing%2Fout")
        } else if path.contains("{run}") {
            by_id(&self.run, "run_missing")
        } else if path.contains("{waitpoint}") {
            by_id(&self.waitpoint, "waitpoint_missing")
        } else {
            vec![Place::new("", true, false)]
        }
    }
}

/// A session of this environment that nobody has asked for yet.
async fn create(rest: &Rest, name: &str) -> Value {
    let task = create_request(None).task_identifier + " of nobody";
    let body = json!({
        "type": "t", "externalId": name, "taskIdentifier": task, "triggerConfig": { "basePayload": {} },
    });
    rest.post("/api/v1/sessions", body.to_string()).await.json()
}

async fn additional_key(node: &TestNode, scopes: &[&str]) -> String {
    let mut admin = AdminServiceClient::connect(node.url.clone()).await.unwrap();
    let environments = admin.list_environments(as_admin(ListEnvironmentsRequest {})).await.unwrap().into_inner();
    let dev = environments.environments.into_iter().find(|e| e.id == token::ENVIRONMENT).unwrap();
    let scopes = scopes.iter().map(|s| (*s).to_owned()).collect();
    let request = CreateApiKeyRequest { environment_id: dev.id, name: "additional".into(), scopes };
    admin.create_api_key(as_admin(request)).await.unwrap().into_inner().secret
}

fn as_admin<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer admin".parse().unwrap());
    request
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_table_says() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for row in rows() {
        for (caller, cell) in &row.cells {
            for place in world.places(row.path) {
                let expected = row.expected(cell, &place);
                let mut path = row.path.to_owned();
                for parameter in ["{session}", "{stream}", "{run}", "{waitpoint}"] {
                    path = path.replace(parameter, &place.value);
                }
                if row.method == "DELETE" && expected == row.success {
                    // What goes is another one each time.
                    let fresh = create(&world.node.rest(), "fresh").await;
                    let value = if place.is_name { "fresh" } else { fresh["id"].as_str().unwrap() };
                    path = path.replace(&place.value, value);
                }
                let found = world.callers[caller].status(row.method, &path, body(&row, &world)).await;
                if found != expected {
                    wrong.push(format!("{caller:5} {} {path}: {found}, and not {expected}", row.method));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_route_there_is() {
    let source = include_str!("../../gateway/src/paths.rs").split("#[cfg(test)]").next().unwrap();
    let routes = source.split('"').filter(|text| text.starts_with('/') && !text.contains(char::is_whitespace));
    let rows = rows();
    for route in routes {
        let is_row = |row: &Row<'_>| {
            let (mut pattern, mut path) = (route.split('/'), row.path.split('/'));
            loop {
                match (pattern.next(), path.next()) {
                    (None, None) => return true,
                    (Some(rest), Some(_)) if rest.starts_with("{*") => return true,
                    (Some(parameter), Some(_)) if parameter.starts_with('{') => {}
                    (Some(word), Some(same)) if word == same => {}
                    _otherwise => return false,
                }
            }
        };
        assert!(rows.iter().any(is_row), "{route} is not in the table");
    }
}
