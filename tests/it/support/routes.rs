//! Every REST route, each with a request that is accepted, and the things such requests are about.

use super::ADMIN_KEY;
use super::http::{Answer, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Keys, and public tokens with the scope.
    Anyone,
    /// Keys alone.
    Keys,
    /// Whoever has the signed URL.
    UrlHolders,
    /// Whoever has the URL that completes a waitpoint.
    CallbackHolders,
    /// Whoever administers the server.
    Operator,
}

/// What the body of a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Not read.
    None,
    /// JSON of at most so many bytes. `{session}`, `{run}` and `{waitpoint}` stand for the things of a [`World`].
    Json(&'static str, usize),
    /// As `Json`, where no body stands for `{}`.
    JsonOrNothing(&'static str, usize),
    /// Any text of at most so many bytes.
    Text(usize),
    /// Any bytes.
    Bytes,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// As the gateway spells it.
    pub(crate) path: &'static str,
    /// The direction, where the path names one.
    pub(crate) io: &'static str,
    pub(crate) callers: Callers,
    pub(crate) payload: Payload,
}

const KIB: usize = 1_024;
const CREATE: &str = r#"{"type":"t","externalId":"{session}","taskIdentifier":"task","triggerConfig":{"basePayload":{"a":1},"machine":"micro","queue":"q","concurrency":["c"],"concurrencyKey":"k","tags":["t"],"maxAttempts":1,"maxDuration":9,"lockToVersion":"v","externalDeploymentId":"d","region":"r","idleTimeoutInSeconds":9,"ttl":"10m"},"tags":["a"],"metadata":{"m":1},"expiresAt":"2090-01-01T00:00:00.000Z"}"#;
const TRIGGER: &str = r#"{"payload":{"p":1},"context":{},"options":{"queue":{"name":"q","concurrencyLimit":3},"concurrencyKey":"k","priority":1,"machine":"micro","region":"r","lockToVersion":"v","maxAttempts":2,"maxDuration":9,"ttl":"1h","delay":"1h","idempotencyKeyTTL":"1h","tags":["t"],"metadata":{"m":1},"test":true,"payloadType":"application/json"}}"#;
const OPERATIONS: &str = r#"{"metadata":{"a":1},"operations":[{"type":"set","key":"k","value":1},{"type":"append","key":"$.l.m","value":2},{"type":"increment","key":"n","value":3}]}"#;

macro_rules! route {
    ($method:literal $path:literal $callers:ident $payload:expr) => {
        Route { method: $method, path: $path, io: "", callers: Callers::$callers, payload: $payload }
    };
    ($method:literal $path:literal $io:literal $payload:expr) => {
        Route { method: $method, path: $path, io: $io, callers: Callers::Anyone, payload: $payload }
    };
}

use Payload::{Bytes, Json, JsonOrNothing, None as No, Text};

/// All of them. A test compares this with what the gateway serves.
pub(crate) const ROUTES: &[Route] = &[
    route!("POST" "/api/v1/sessions" Keys Json(CREATE, 32 * KIB)),
    route!("GET" "/api/v1/sessions" Anyone No),
    route!("GET" "/api/v1/sessions/{session}" Anyone No),
    route!("PATCH" "/api/v1/sessions/{session}" Anyone Json(r#"{"tags":["b"],"metadata":{"m":2},"externalId":"{session}"}"#, 32 * KIB)),
    route!("DELETE" "/api/v1/sessions/{session}" Anyone No),
    route!("POST" "/api/v1/sessions/{session}/close" Anyone JsonOrNothing(r#"{"reason":"r","callingRunId":"{run}"}"#, KIB)),
    route!("POST" "/api/v1/sessions/{session}/end-and-continue" Anyone Json(r#"{"callingRunId":"{run}","reason":"manual","externalDeploymentId":"d"}"#, KIB)),
    route!("GET" "/api/v1/sessions/{session}/runs" Anyone No),
    route!("PUT" "/api/v1/sessions/{session}/snapshot-url" Anyone No),
    route!("GET" "/api/v1/sessions/{session}/snapshot-url" Anyone No),
    route!("GET" "/api/v1/sessions/{session}/transcript" Keys No),
    route!("PUT" "/api/v2/packets/{*packet}" Keys No),
    route!("GET" "/api/v1/packets/{*packet}" Keys No),
    route!("PUT" "/blobs/{token}" UrlHolders Bytes),
    route!("GET" "/blobs/{token}" UrlHolders No),
    route!("GET" "/api/v1/runs" Anyone No),
    route!("GET" "/api/v3/runs/{run}" Anyone No),
    route!("POST" "/api/v2/runs/{run}/cancel" Anyone No),
    route!("GET" "/api/v1/runs/{run}/packets/{field}" Anyone No),
    route!("GET" "/api/v1/runs/{run}/metadata" Anyone No),
    route!("PUT" "/api/v1/runs/{run}/metadata" Anyone Json(OPERATIONS, 8 * KIB * KIB)),
    route!("POST" "/api/v1/runs/{run}/reschedule" Anyone Json(r#"{"delay":"1h"}"#, 10 * KIB)),
    route!("POST" "/api/v1/runs/{run}/replay" Anyone JsonOrNothing(r#"{"payload":{"p":2}}"#, 8 * KIB * KIB)),
    route!("POST" "/api/v1/runs/{run}/tags" Anyone Json(r#"{"tags":["t"]}"#, 10 * KIB)),
    route!("POST" "/api/v1/runs/{run}/session-streams/wait" Keys Json(r#"{"session":"{session}","io":"in","timeout":"1h","idempotencyKey":"k","idempotencyKeyTTL":"1h","tags":["t"],"lastSeqNum":99}"#, 10 * KIB)),
    route!("POST" "/engine/v1/runs/{run}/waitpoints/tokens/{waitpoint}/wait" Keys No),
    route!("POST" "/engine/v1/runs/{run}/wait/duration" Keys Json(r#"{"date":"2090-01-01T00:00:00.000Z","idempotencyKey":"k","idempotencyKeyTTL":"1h"}"#, 10 * KIB)),
    route!("POST" "/api/v1/tasks/{task}/trigger" Anyone Json(TRIGGER, 8 * KIB * KIB)),
    route!("POST" "/api/v1/waitpoints/tokens" Anyone Json(r#"{"timeout":"1h","idempotencyKeyTTL":"1h","tags":["t"]}"#, 10 * KIB)),
    route!("GET" "/api/v1/waitpoints/tokens" Anyone No),
    route!("GET" "/api/v1/waitpoints/tokens/{waitpoint}" Anyone No),
    route!("POST" "/api/v1/waitpoints/tokens/{waitpoint}/complete" Anyone JsonOrNothing(r#"{"data":{"d":1}}"#, 8 * KIB * KIB)),
    route!("POST" "/api/v1/auth/jwt/claims" Keys No),
    route!("POST" "/api/v1/auth/public-tokens" Keys Json(r#"{"scopes":["read:sessions:x"],"expirationTime":"5m","oneTimeUse":false}"#, 10 * KIB)),
    route!("GET" "/realtime/v1/sessions/{session}/{io}" "out" No),
    route!("HEAD" "/realtime/v1/sessions/{session}/{io}" "out" No),
    route!("PUT" "/realtime/v1/sessions/{session}/{io}" "in" No),
    route!("POST" "/realtime/v1/sessions/{session}/{io}/append" "in" Text(KIB * KIB)),
    route!("POST" "/realtime/v1/sessions/{session}/{io}/append" "out" Text(KIB * KIB)),
    route!("GET" "/realtime/v1/sessions/{session}/{io}/records" "out" No),
    route!("GET" "/realtime/v1/sessions/{session}/channels/{channel}/{io}" "out" No),
    route!("HEAD" "/realtime/v1/sessions/{session}/channels/{channel}/{io}" "in" No),
    route!("PUT" "/realtime/v1/sessions/{session}/channels/{channel}/{io}" "in" No),
    route!("POST" "/realtime/v1/sessions/{session}/channels/{channel}/{io}/append" "out" Text(KIB * KIB)),
    route!("GET" "/realtime/v1/sessions/{session}/channels/{channel}/{io}/records" "in" No),
];

/// Those with credentials of their own, which keys are none of.
pub(crate) const OTHER_ROUTES: &[Route] = &[
    route!("POST" "/api/v1/waitpoints/tokens/{waitpoint}/callback/{token}" CallbackHolders Bytes),
    route!("GET" "/api/v2/whoami" Operator No),
    route!("POST" "/api/v1/projects/{project}/{environment}/jwt" Operator Json(r#"{"claims":{"scopes":["read:sessions:x"]},"expirationTime":"5m"}"#, 10 * KIB)),
];

/// Where the routes are described. Takes nothing that could be malformed, from anybody.
pub(crate) const OPENAPI: &str = "/openapi.json";

/// Every route there is that asks for something.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(STREAM_ROUTES).chain(OTHER_ROUTES)
}

/// The stream API: a protocol of its own, with its own form of refusals.
pub(crate) const STREAM_ROUTES: &[Route] = &[
    route!("POST" "/v1/streams/{stream}/records" "out" Json(r#"{"records":[{"body":"b","headers":[["h","v"]]},{"body":"c"}]}"#, 8 * KIB * KIB)),
    route!("GET" "/v1/streams/{stream}/records" "out" No),
    route!("GET" "/v1/streams/{stream}/records/tail" "in" No),
];

impl Route {
    /// The path about the things of a world.
    pub(crate) fn path(&self, world: &World) -> String {
        self.fill(self.path, world)
    }

    /// As [`Route::path`], with this text where a parameter stands.
    pub(crate) fn path_with(&self, world: &World, parameter: &str, raw: &str) -> String {
        // Marked first, so that what is put in is not filled in turn.
        self.fill(&self.path.replacen(parameter, "\u{1}", 1), world).replace('\u{1}', raw)
    }

    fn fill(&self, path: &str, world: &World) -> String {
        let token = if self.method == "PUT" { &world.put_url } else { &world.get_url };
        let stream = format!("{}%2F{}", world.session_id, self.io);
        let path = path.replace("/blobs/{token}", token).replace("{stream}", &stream);
        path.replace("{io}", self.io).replace("{*packet}", "a/b").fill(world)
    }

    /// The methods of a path, as the tests know them. What answers GET answers HEAD.
    pub(crate) fn methods(path: &str) -> BTreeSet<&'static str> {
        let known = all().filter(|route| route.path == path).map(|route| route.method);
        known.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] }).collect()
    }

    /// The body, if the route reads one.
    pub(crate) fn body(&self, world: &World) -> Vec<u8> {
        match self.payload {
            Payload::None => Vec::new(),
            Payload::Json(text, _) | Payload::JsonOrNothing(text, _) => text.to_owned().fill(world).into(),
            Payload::Text(_) => br#"{"kind":"message","payload":{"text":"Hello"}}"#.to_vec(),
            Payload::Bytes => br#"{"version":1,"savedAt":1,"messages":[]}"#.to_vec(),
        }
    }

    /// Most bytes of a body.
    pub(crate) fn cap(&self) -> Option<usize> {
        match self.payload {
            Payload::Json(_, cap) | Payload::JsonOrNothing(_, cap) | Payload::Text(cap) => Some(cap),
            Payload::None | Payload::Bytes => None,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self.payload, Payload::Json(..) | Payload::JsonOrNothing(..))
    }

    /// Does it answer with events?
    pub(crate) fn is_subscription(&self) -> bool {
        self.method == "GET" && self.path.ends_with("/{io}")
    }

    /// A request with this path and nobody's name.
    pub(crate) fn anonymous(&self, world: &World) -> Request {
        let request = Request::new(self.method, &self.path(world)).body(self.body(world));
        if self.is_subscription() { request.header("Timeout-Seconds", "1") } else { request }
    }

    /// A request that is accepted.
    pub(crate) fn request(&self, world: &World) -> Request {
        let request = self.anonymous(world);
        match self.callers {
            Callers::UrlHolders | Callers::CallbackHolders => request,
            Callers::Operator => request.bearer(ADMIN_KEY),
            Callers::Anyone | Callers::Keys => request.bearer(&world.key),
        }
    }
}

trait Fill {
    fn fill(self, world: &World) -> String;
}

impl Fill for String {
    fn fill(self, world: &World) -> String {
        self.replace("{session}", &world.session)
            .replace("{channel}", "tools")
            .replace("{run}", &world.run)
            .replace("{waitpoint}", &world.waitpoint)
            .replace("{task}", "task")
            .replace("{field}", "payload")
            .replace("callback/{token}", &format!("callback/{}", world.callback))
            .replace("{project}", "proj_dev")
            .replace("{environment}", "dev")
    }
}

/// Things that requests are about.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) key: String,
    /// By the caller's own name.
    pub(crate) session: String,
    pub(crate) session_id: String,
    /// The session's own token.
    pub(crate) token: String,
    pub(crate) run: String,
    pub(crate) waitpoint: String,
    /// What completes it, behind `callback/` in its URL.
    pub(crate) callback: String,
    /// Paths of signed URLs of the snapshot.
    pub(crate) put_url: String,
    pub(crate) get_url: String,
}

impl World {
    /// A session with records on every channel, a snapshot, a run and a token to wait for.
    pub(crate) async fn build(url: &str, key: &str, name: &str) -> Self {
        let mut world = Self {
            url: url.to_owned(),
            key: key.to_owned(),
            session: name.to_owned(),
            session_id: String::new(),
            token: String::new(),
            run: String::new(),
            waitpoint: String::new(),
            callback: String::new(),
            put_url: String::new(),
            get_url: String::new(),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let body = json!({ "type": "t", "externalId": name, "taskIdentifier": "task",
            "triggerConfig": { "basePayload": { "a": 1 } }, "tags": ["kept"], "metadata": { "n": 1.0 } });
        let made = world.json("POST", "/api/v1/sessions", &body.to_string()).await;
        world.session_id = text(&made["id"]);
        world.token = text(&made["publicAccessToken"]);
        world.run = text(&made["runId"]);
        let made = world.json("POST", "/api/v1/waitpoints/tokens", "{}").await;
        (world.waitpoint, world.callback) = (text(&made["id"]), text(&made["url"]));
        world.callback = world.callback.rsplit('/').next().unwrap().to_owned();
        for (method, field) in [("PUT", 0), ("GET", 1)] {
            let path = format!("/api/v1/sessions/{name}/snapshot-url");
            let signed = text(&world.json(method, &path, "").await["presignedUrl"]);
            let path = signed.strip_prefix("http://localhost").unwrap().to_owned();
            *[&mut world.put_url, &mut world.get_url][field] = path;
        }
        let snapshot = Request::new("PUT", &world.put_url).body(r#"{"version":1,"savedAt":1,"messages":[{"id":"m"}]}"#);
        assert_eq!(snapshot.send(url).await.status, 200);
        for channel in ["in", "out", "channels/tools/in", "channels/tools/out"] {
            // The last one says that the turn is over, so that a reader who asks for it need not wait.
            for text in ["one 😀", r#"{"kind":"two"}"#, r#"{"type":"trigger:turn-complete"}"#] {
                world.json("POST", &format!("/realtime/v1/sessions/{name}/{channel}/append"), text).await;
            }
        }
        world
    }

    /// With the key.
    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        Request::new(method, path).bearer(&self.key).body(body).send(&self.url).await
    }

    /// The answer to a call that succeeds.
    pub(crate) async fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.call(method, path, body).await;
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// A public token with these scopes.
    pub(crate) async fn token_with(&self, scopes: &[&str]) -> String {
        let body = json!({ "scopes": scopes }).to_string();
        let made = self.json("POST", "/api/v1/auth/public-tokens", &body).await;
        made["token"].as_str().unwrap().to_owned()
    }
}
