//! Runs, waits, waitpoint tokens, public tokens.

use continuo_gateway::Options;
use continuo_proto::v1::*;
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::{
    common::{Answer, call, call_with, gateway, request, send},
    peer::{Peer, violations},
};

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

const T0: i64 = 1_767_225_600;

fn run() -> Run {
    Run {
        id: "run_1".into(),
        status: "COMPLETED".into(),
        task_identifier: "chat".into(),
        attempt_count: 2,
        payload: r#"{"z": 1.0}"#.into(),
        payload_type: "application/json".into(),
        output: Some(r#"{"json":{"d":"2026"},"meta":{}}"#.into()),
        output_type: Some("application/super+json".into()),
        tags: vec!["t".into()],
        metadata_json: Some(r#"{"b": 1.0}"#.into()),
        duration_ms: 12,
        created_at: at(T0),
        updated_at: at(T0),
        started_at: at(T0),
        finished_at: at(T0 + 1),
        ttl_ms: Some(5_400_000),
        ..Default::default()
    }
}

async fn retrieve(run: Run) -> Answer {
    let peer = Peer::key();
    peer.answer(GetRunResponse { run: Some(run), ..Default::default() });
    let answer = call(&peer, "GET", "/api/v3/runs/run_1", "").await;
    assert_eq!((answer.status, peer.the::<GetRunRequest>().run_id.as_str()), (200, "run_1"));
    answer
}

#[tokio::test]
async fn a_run_in_full() {
    assert_eq!(
        retrieve(run()).await.text(),
        r#"{"id":"run_1","status":"COMPLETED","taskIdentifier":"chat","isQueued":false,"isExecuting":false,"isWaiting":false,"isCompleted":true,"isSuccess":true,"isFailed":false,"isCancelled":false,"isTest":false,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z","startedAt":"2026-01-01T00:00:00.000Z","finishedAt":"2026-01-01T00:00:01.000Z","ttl":"1h30m","tags":["t"],"costInCents":0,"baseCostInCents":0,"durationMs":12,"metadata":{"b": 1.0},"depth":0,"triggerFunction":"trigger","attemptCount":2,"payload":{"z": 1.0},"output":{"d":"2026"},"relatedRuns":{}}"#
    );
}

#[tokio::test]
async fn what_lies_in_the_packet_store_is_told_by_its_url() {
    let stored = || Some("application/store".to_owned());
    let kept = Run {
        payload: "trigger/in.json".into(),
        payload_type: "application/store".into(),
        output: Some("run_1/out.json".into()),
        output_type: stored(),
        ..run()
    };
    let peer = Peer::key();
    peer.answer(GetRunResponse { run: Some(kept), ..Default::default() });
    peer.answer(PresignGetResponse { url_path: "/blobs/g".into(), storage_path: None, expires_at: None });
    let answer = call_with(&peer, "GET", "/api/v3/runs/run_1", &[("host", "h")], "").await.json();
    assert_eq!((&answer["payload"], &answer["output"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&answer["payloadPresignedUrl"], &answer["outputPresignedUrl"]),
        (&json!("http://h/blobs/g"), &json!("http://h/blobs/g"))
    );
    let asked: Vec<_> = peer.all::<PresignGetRequest>().into_iter().filter_map(|r| r.target?.target).collect();
    let of_run = |field: RunField| blob_target::Target::Run(RunValue { run_id: "run_1".into(), field: field.into() });
    assert_eq!(asked, [of_run(RunField::Payload), of_run(RunField::Output)]);
    for field in ["payload", "output"] {
        let one = call_with(&peer, "GET", &format!("/api/v1/runs/run_1/packets/{field}"), &[("host", "h")], "").await;
        assert_eq!((one.status, one.json()), (200, json!({ "presignedUrl": "http://h/blobs/g" })));
    }
    assert_eq!(call(&peer, "GET", "/api/v1/runs/run_1/packets/other", "").await.status, 400);
}

#[tokio::test]
async fn every_status_in_booleans() {
    // queued, executing, waiting, completed, success, failed, cancelled
    for (status, expected) in [
        ("QUEUED", [1, 0, 0, 0, 0, 0, 0]),
        ("DELAYED", [1, 0, 0, 0, 0, 0, 0]),
        ("DEQUEUED", [0, 1, 0, 0, 0, 0, 0]),
        ("EXECUTING", [0, 1, 0, 0, 0, 0, 0]),
        ("WAITING", [0, 0, 1, 0, 0, 0, 0]),
        ("COMPLETED", [0, 0, 0, 1, 1, 0, 0]),
        ("FAILED", [0, 0, 0, 1, 0, 1, 0]),
        ("CANCELED", [0, 0, 0, 1, 0, 1, 1]),
        ("CRASHED", [0, 0, 0, 1, 0, 1, 0]),
        ("SYSTEM_FAILURE", [0, 0, 0, 1, 0, 1, 0]),
        ("EXPIRED", [0, 0, 0, 1, 0, 1, 0]),
        ("TIMED_OUT", [0, 0, 0, 1, 0, 1, 0]),
    ] {
        let printed = retrieve(Run { status: status.into(), ..run() }).await.json();
        let names = ["isQueued", "isExecuting", "isWaiting", "isCompleted", "isSuccess", "isFailed", "isCancelled"];
        let found = names.map(|name| i32::from(printed[name].as_bool().unwrap()));
        assert_eq!(found, expected, "{status}");
        assert_eq!(printed.get("expiredAt").is_some(), status == "EXPIRED");
    }
}

#[tokio::test]
async fn failures_and_texts() {
    let error = RunError { name: "Error".into(), message: "no".into(), stack_trace: Some("at x".into()) };
    let failed = Run {
        status: "FAILED".into(),
        error: Some(error),
        payload: "hello".into(),
        payload_type: "text/plain".into(),
        output: None,
        ..run()
    };
    let printed = retrieve(failed).await.json();
    assert_eq!(printed["error"], json!({ "message": "no", "name": "Error", "stackTrace": "at x" }));
    assert_eq!((&printed["payload"], printed.get("output")), (&json!("hello"), None));
    let empty = retrieve(Run { payload: String::new(), ..run() }).await.json();
    assert_eq!(empty.get("payload"), None);
    let broken = retrieve(Run { payload: "{".into(), ..run() }).await.json();
    assert_eq!(broken["payload"], "{");
}

#[tokio::test]
async fn lists_of_runs() {
    let peer = Peer::key();
    peer.answer(ListRunsResponse { runs: vec![run()], next_page_token: "n".into(), previous_page_token: "p".into() });
    let query = "filter[status]=QUEUED,FAILED&filter[taskIdentifier]=chat&filter[tag]=t&filter[version]=v1,v2\
                 &filter[queue]=task/chat,q&filter[machine]=micro&filter[region]=eu&filter[batch]=batch_1\
                 &filter[bulkAction]=bulk_1&filter[schedule]=sched_1&filter[isTest]=false\
                 &filter[createdAt][from]=1767225600000&filter[createdAt][to]=1767225601000&page[size]=5&page[after]=x";
    let answer = call(&peer, "GET", &format!("/api/v1/runs?{query}"), "").await;
    let printed = answer.json();
    assert_eq!(printed["pagination"], json!({ "next": "n", "previous": "p" }));
    assert_eq!(printed["data"][0]["env"], json!({ "id": "env_1", "name": "env_1" }));
    assert_eq!((printed["data"][0].get("payload"), printed["data"][0].get("relatedRuns")), (None, None));
    let expected = ListRunsRequest {
        statuses: vec!["QUEUED".into(), "FAILED".into()],
        task_identifiers: vec!["chat".into()],
        session: None,
        tags: vec!["t".into()],
        page_size: 5,
        page_token: "x".into(),
        versions: vec!["v1".into(), "v2".into()],
        queues: vec!["task/chat".into(), "q".into()],
        machines: vec!["micro".into()],
        regions: vec!["eu".into()],
        batch_id: Some("batch_1".into()),
        bulk_action_id: Some("bulk_1".into()),
        parent_run_id: None,
        is_test: Some(false),
        created_from: at(T0),
        created_to: at(T0 + 1),
        schedule_id: Some("sched_1".into()),
    };
    assert_eq!(peer.the::<ListRunsRequest>(), expected);
    assert_eq!(call(&Peer::key(), "GET", "/api/v1/runs?filter[isTest]=maybe", "").await.status, 400);
}

#[tokio::test]
async fn relatives_are_shown_beside_a_run() {
    let peer = Peer::key();
    let child = |id: &str| Run { id: id.into(), depth: 1, parent_waits: true, ..run() };
    peer.answer(GetRunResponse {
        run: Some(child("run_1")),
        root: Some(Run { id: "run_root".into(), ..run() }),
        parent: Some(Run { id: "run_parent".into(), ..run() }),
        children: vec![child("run_child")],
    });
    let printed = call(&peer, "GET", "/api/v3/runs/run_1", "").await.json();
    let related = &printed["relatedRuns"];
    assert_eq!((&related["root"]["id"], &related["parent"]["id"]), (&json!("run_root"), &json!("run_parent")));
    assert_eq!(related["children"][0]["id"], "run_child");
    assert_eq!((&printed["depth"], &printed["triggerFunction"]), (&json!(1), &json!("triggerAndWait")));
}

#[tokio::test]
async fn a_run_is_replayed_with_changes() {
    let peer = Peer::key();
    let original = Run {
        idempotency_key: Some("k".into()),
        queue: "task/chat".into(),
        max_attempts: 3,
        version: Some("v1".into()),
        ..run()
    };
    peer.answer(GetRunResponse { run: Some(original), ..Default::default() });
    peer.answer(TriggerRunResponse { run: Some(Run { id: "run_2".into(), ..run() }), ..Default::default() });
    let path = "/api/v1/runs/run_1/replay";
    assert_eq!(call(&peer, "POST", path, "").await.text(), r#"{"id":"run_2"}"#);
    let expected = TriggerRunRequest {
        task_identifier: "chat".into(),
        payload: r#"{"z": 1.0}"#.into(),
        payload_type: "application/json".into(),
        lock_to_version: Some("v1".into()),
        max_attempts: Some(3),
        ttl_ms: Some(5_400_000),
        tags: vec!["t".into()],
        metadata_json: Some(r#"{"b": 1.0}"#.into()),
        ..Default::default()
    };
    assert_eq!(peer.the::<TriggerRunRequest>(), expected, "but for its keys and its delay");
    let changes = r#"{"payload":{"n":1},"tags":[],"queue":"q","priority":2}"#;
    assert_eq!(call(&peer, "POST", path, changes).await.status, 200);
    let changed = peer.all::<TriggerRunRequest>().pop().unwrap();
    assert_eq!((changed.payload.as_str(), changed.tags.len(), changed.priority), (r#"{"n":1}"#, 0, 2));
    assert_eq!(changed.queue.as_deref(), Some("q"));
    peer.answer(GetRunResponse {
        run: Some(Run { session_id: Some("session_1".into()), ..run() }),
        ..Default::default()
    });
    assert_eq!(call(&peer, "POST", path, "").await.status, 422, "a session's run goes on with its session");
}

#[tokio::test]
async fn a_delayed_run_is_rescheduled() {
    let peer = Peer::key();
    peer.answer(RescheduleRunResponse { run: Some(run()) });
    let path = "/api/v1/runs/run_1/reschedule";
    let answer = call(&peer, "POST", path, r#"{"delay":"2030-01-01T00:00:00.000Z"}"#).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("run_1")));
    assert_eq!(peer.the::<RescheduleRunRequest>().delay_until, at(1_893_456_000));
    for body in ["{}", r#"{"delay":"soon"}"#] {
        assert_eq!(call(&peer, "POST", path, body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn branches_are_not_mixed_up() {
    let status = async |key: &str, branch: Option<&str>| {
        let mut request = request("GET", "/api/v1/runs", &[], "");
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        if let Some(branch) = branch {
            request.headers_mut().insert("x-trigger-branch", branch.parse().unwrap());
        }
        let answer = send(gateway(&Peer::key(), Options::default()), request).await;
        let error = answer.json().get("error").map_or("", |text| text.as_str().unwrap()).to_owned();
        (answer.status, error)
    };
    let ok = (200, String::new());
    let no_branch = (401, "No matching branch env".to_owned());
    assert_eq!(status("tr_dev_x", None).await, ok);
    assert_eq!(status("tr_dev_x", Some("default")).await, ok);
    assert_eq!(status("tr_dev_x", Some("feature")).await, no_branch);
    assert_eq!(status("tr_prod_x", Some("feature")).await, ok, "a deployment's key names no branch");
    assert_eq!(status("tr_preview_x", Some("feature")).await, no_branch);
    let required = "x-trigger-branch header required for preview env".to_owned();
    assert_eq!(status("tr_preview_x", None).await, (401, required));
}

#[tokio::test]
async fn cancel_and_tags() {
    let peer = Peer::key();
    peer.answer(CancelRunResponse { run: Some(run()) });
    assert_eq!(call(&peer, "POST", "/api/v2/runs/run_1/cancel", "").await.text(), r#"{"id":"run_1"}"#);
    let answer = call(&peer, "POST", "/api/v1/runs/run_1/tags", r#"{"tags":["a","b"]}"#).await;
    assert_eq!(answer.json(), json!({ "message": "Successfully set 2 new tags." }));
    assert_eq!(peer.the::<AddRunTagsRequest>().tags, ["a", "b"]);
    let answer = call(&peer, "POST", "/api/v1/runs/run_1/tags", "{}").await;
    assert_eq!(answer.json(), json!({ "error": "Validation error: Required at \"tags\"" }));
    for (field, status) in [("tags", 422), ("tags[1]", 400)] {
        peer.refuse(violations(&[(field, "is wrong")]));
        assert_eq!(call(&peer, "POST", "/api/v1/runs/run_1/tags", r#"{"tags":["a","b"]}"#).await.status, status);
    }
}

#[tokio::test]
async fn metadata_is_replaced_or_changed() {
    let peer = Peer::key();
    peer.answer(GetRunResponse { run: Some(run()), ..Default::default() });
    peer.answer(UpdateRunMetadataResponse { run: Some(run()) });
    let path = "/api/v1/runs/run_1/metadata";
    assert_eq!(call(&peer, "GET", path, "").await.text(), r#"{"metadata":{"b": 1.0}}"#);
    assert_eq!(call(&peer, "PUT", path, r#"{"metadata":{"z": 1.0}}"#).await.text(), r#"{"metadata":{"b": 1.0}}"#);
    let operations = r#"{"operations":[{"type":"set","key":"n","value":2.50},{"type":"delete","key":"m"}],
        "parentOperations":[{"type":"append","key":"l","value":"x"}],"rootOperations":[{"type":"increment","key":"n","value":1}]}"#;
    assert_eq!(call(&peer, "PUT", path, operations).await.status, 200);
    let sent = peer.all::<UpdateRunMetadataRequest>();
    let operation = |verb: MetadataVerb, key: &str, value: Option<&str>| MetadataOperation {
        verb: verb.into(),
        key: key.into(),
        value_json: value.map(str::to_owned),
    };
    assert_eq!((sent[0].metadata_json.as_deref(), sent[0].operations.len()), (Some(r#"{"z": 1.0}"#), 0));
    let expected = UpdateRunMetadataRequest {
        run_id: "run_1".into(),
        metadata_json: None,
        operations: vec![operation(MetadataVerb::Set, "n", Some("2.50")), operation(MetadataVerb::Delete, "m", None)],
        parent_operations: vec![operation(MetadataVerb::Append, "l", Some(r#""x""#))],
        root_operations: vec![operation(MetadataVerb::Increment, "n", Some("1"))],
    };
    assert_eq!(sent[1], expected);
    assert_eq!(call(&peer, "PUT", path, "{}").await.text(), r#"{"metadata":{"b": 1.0}}"#);
    for body in [r#"{"operations":1}"#, r#"{"operations":[{"type":"odd","key":"n","value":1}]}"#] {
        assert_eq!(call(&peer, "PUT", path, body).await.status, 400, "{body}");
    }
}

async fn triggered(body: &str) -> TriggerRunRequest {
    let peer = Peer::key();
    let run = Run { id: "run_9".into(), ..Default::default() };
    peer.answer(TriggerRunResponse {
        run: Some(run),
        is_cached: true,
        public_access_token: "jwt".into(),
        waitpoint: None,
    });
    let answer = call(&peer, "POST", "/api/v1/tasks/my%2Ftask/trigger", body).await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"id":"run_9","isCached":true}"#), "{body}");
    assert_eq!(answer.header("x-trigger-jwt"), Some("jwt"));
    let claims: Value = serde_json::from_str(answer.header("x-trigger-jwt-claims").unwrap()).unwrap();
    assert_eq!(
        claims,
        json!({ "sub": "env_1", "pub": true, "scopes": ["read:runs:run_9", "write:inputStreams:run_9"] })
    );
    let request = peer.the::<TriggerRunRequest>();
    assert_eq!(request.task_identifier, "my/task");
    request
}

#[tokio::test]
async fn trigger_reads_every_option() {
    let request = triggered(
        r#"{"payload":{"z": 1.0},"context":{},"options":{"queue":{"name":"q","concurrencyLimit":2},"concurrencyKey":7,"priority":3,
            "machine":"micro","region":"eu","lockToVersion":"v","maxAttempts":3,"maxDuration":9.5,"ttl":"10m",
            "delay":"2030-01-01T00:00:00.000Z","idempotencyKey":"k","idempotencyKeyTTL":"30s","tags":"t","metadata":{"m": 1.0},
            "test":true,"parentRunId":"run_0","gates":[{"queue":"g"},{"queue":"h","concurrencyKey":"k"}],"concurrency":["a","b"],"payloadSize":10,"resumeParentOnCompletion":true,
            "externalDeploymentId":" d ","parentBatch":"batch_1","bulkActionId":"bulk_1",
            "idempotencyKeyOptions":{"key":"mine","scope":"run"},
            "debounce":{"key":"d","delay":"5s","mode":"trailing","maxDelay":"1m"}}}"#,
    )
    .await;
    assert_eq!(
        request,
        TriggerRunRequest {
            task_identifier: "my/task".into(),
            payload: r#"{"z": 1.0}"#.into(),
            payload_type: String::new(),
            queue: Some("q".into()),
            queue_concurrency_limit: Some(2),
            concurrency_key: Some("7".into()),
            priority: 3,
            machine: Some("micro".into()),
            region: Some("eu".into()),
            lock_to_version: Some("v".into()),
            max_attempts: Some(3),
            max_duration_s: Some(10),
            ttl_ms: Some(600_000),
            delay_until: at(1_893_456_000),
            idempotency_key: Some("k".into()),
            idempotency_key_ttl_ms: Some(30_000),
            tags: vec!["t".into()],
            metadata_json: Some(r#"{"m": 1.0}"#.into()),
            is_test: true,
            parent_run_id: Some("run_0".into()),
            resume_parent_on_completion: true,
            parent_lease: None,
            external_deployment_id: Some("d".into()),
            batch_id: Some("batch_1".into()),
            bulk_action_id: Some("bulk_1".into()),
            idempotency_key_options: Some(IdempotencyKeyOptions { key: "mine".into(), scope: "run".into() }),
            debounce: Some(Debounce {
                key: "d".into(),
                delay_ms: 5_000,
                is_trailing: true,
                max_delay_ms: Some(60_000)
            }),
            limits_json: Some(
                r#"{"concurrency":["a","b"],"gates":[{"queue":"g"},{"queue":"h","concurrencyKey":"k"}]}"#.into()
            ),
        }
    );
    let nothing = triggered(r#"{"options":{"gates":[],"concurrency":[]}}"#).await;
    assert_eq!(nothing.limits_json, None);
}

#[tokio::test]
async fn trigger_refuses_limits_and_gates_that_are_none() {
    let peer = Peer::key();
    for options in [
        r#"{"gates":[{"queue":"a"},{"queue":"b"},{"queue":"c"},{"queue":"d"}]}"#,
        r#"{"gates":[{}]}"#,
        r#"{"gates":{"queue":"a"}}"#,
        r#"{"concurrency":["a","b","c"]}"#,
        r#"{"concurrency":7}"#,
    ] {
        let answer = call(&peer, "POST", "/api/v1/tasks/t/trigger", &format!(r#"{{"options":{options}}}"#)).await;
        assert_eq!(answer.status, 400, "{options}: {}", answer.text());
    }
}

#[tokio::test]
async fn payloads_by_type() {
    for (body, payload) in [
        (r#"{"payload":"{\"json\":1}","options":{"payloadType":"application/super+json"}}"#, r#"{"json":1}"#),
        (r#"{"payload":"text","options":{"payloadType":"text/plain"}}"#, "text"),
        (r#"{"payload":"text","options":{"payloadType":"application/json"}}"#, r#""text""#),
        (r#"{"payload":"text"}"#, r#""text""#),
        (r#"{"payload":null}"#, "null"),
        (r#"{"payload":{"a":1},"options":{"payloadType":"application/super+json"}}"#, ""),
        (r#"{"payload":"packets/x","options":{"payloadType":"application/store"}}"#, "packets/x"),
        ("{}", ""),
    ] {
        assert_eq!(triggered(body).await.payload, payload, "{body}");
    }
    assert_eq!(triggered(r#"{"options":{"ttl":60,"metadata":"{\"a\":1}"}}"#).await.ttl_ms, Some(60_000));
    assert_eq!(triggered(r#"{"options":{"metadata":"{\"a\":1}"}}"#).await.metadata_json.as_deref(), Some(r#"{"a":1}"#));
    let wrapped = r#"{"options":{"metadata":"{\"json\":{\"a\":1}}","metadataType":"application/super+json"}}"#;
    assert_eq!(triggered(wrapped).await.metadata_json.as_deref(), Some(r#"{"a":1}"#));
    let before = triggered(r#"{"options":{"delay":"1h"}}"#).await.delay_until.unwrap().seconds;
    assert!(before > T0);
}

#[tokio::test]
async fn trigger_refuses_what_it_cannot_read() {
    for (body, error) in [
        (
            r#"{"payload":"","options":{"payloadType":"application/store"}}"#,
            r#"payload must be a non-empty string when options.payloadType is application/store at "payload""#,
        ),
        (r#"{"options":{"ttl":"soon"}}"#, r#"Invalid duration at "options.ttl""#),
        (r#"{"options":{"delay":"soon"}}"#, r#"Invalid duration or date at "options.delay""#),
        (r#"{"options":{"queue":{}}}"#, r#"Required at "options.queue.name""#),
        (r#"{"options":[]}"#, r#"Expected object, received array at "options""#),
        (
            r#"{"options":{"debounce":{"delay":"later","mode":"odd"}}}"#,
            "Invalid enum value. Expected 'leading' | 'trailing', received 'odd' at \"options.debounce.mode\"; \
             Required at \"options.debounce.key\"; Invalid duration at \"options.debounce.delay\"",
        ),
        (
            r#"{"options":{"metadata":{},"metadataType":"x"}}"#,
            r#"must be application/json or application/super+json at "options.metadataType""#,
        ),
        (r#"{"options":{"idempotencyKeyTTL":"1w"}}"#, r#"Invalid at "options.idempotencyKeyTTL""#),
    ] {
        let answer = call(&Peer::key(), "POST", "/api/v1/tasks/t/trigger", body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, json!({ "error": format!("Validation error: {error}") })),
            "{body}"
        );
    }
}

const WAIT: &str = "/api/v1/runs/run_1/session-streams/wait";

#[tokio::test]
async fn waiting_on_a_channel() {
    let peer = Peer::key();
    let waitpoint = Waitpoint { id: "waitpoint_1".into(), ..Default::default() };
    peer.answer(WaitOnChannelResponse { waitpoint: Some(waitpoint), is_cached: true });
    let body = r#"{"session":"s","io":"out","timeout":"2030-01-01T00:00:00.000Z","idempotencyKey":"k","idempotencyKeyTTL":"1h","tags":["a"],"lastSeqNum":4}"#;
    let answer = call(&peer, "POST", WAIT, body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "waitpointId": "waitpoint_1", "isCached": true })));
    let expected = WaitOnChannelRequest {
        run_id: "run_1".into(),
        session: "s".into(),
        direction: Direction::Out.into(),
        last_seq_num: Some(4),
        timeout_at: at(1_893_456_000),
        idempotency_key: Some("k".into()),
        idempotency_key_ttl_ms: Some(3_600_000),
        tags: vec!["a".into()],
    };
    assert_eq!(peer.the::<WaitOnChannelRequest>(), expected);
}

#[tokio::test]
async fn timeouts_that_are_none() {
    for timeout in ["soon", "2020-01-01", "0s", "99999y", ""] {
        let peer = Peer::key();
        let body = format!(r#"{{"session":"s","io":"in","timeout":"{timeout}","lastSeqNum":-1,"tags":"one"}}"#);
        assert_eq!(call(&peer, "POST", WAIT, &body).await.status, 200);
        let request = peer.the::<WaitOnChannelRequest>();
        assert_eq!(
            (request.timeout_at, request.last_seq_num, request.tags),
            (None, None, vec!["one".to_owned()]),
            "{timeout}"
        );
    }
    let peer = Peer::key();
    call(&peer, "POST", WAIT, r#"{"session":"s","io":"in","timeout":"1h"}"#).await;
    assert!(peer.the::<WaitOnChannelRequest>().timeout_at.unwrap().seconds > T0);
}

#[tokio::test]
async fn waits_that_are_wrong() {
    let error = async |body: &str| {
        let answer = call(&Peer::key(), "POST", WAIT, body).await;
        (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
    };
    let tags: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let (status, text) = error(&json!({ "session": "s", "io": "in", "tags": tags }).to_string()).await;
    assert_eq!((status, text.as_str()), (422, "Waitpoints can only have 10 tags, you're trying to set 11."));
    let (status, text) = error(r#"{"io":"both","lastSeqNum":"1"}"#).await;
    let expected = "Validation error: Required at \"session\"; Invalid enum value. Expected 'out' | 'in', received 'both' at \"io\"; \
                    Expected number, received string at \"lastSeqNum\"";
    assert_eq!((status, text.as_str()), (400, expected));
    let long_key = json!({ "session": "s", "io": "in", "idempotencyKey": "k".repeat(2_049) });
    let (status, text) = error(&long_key.to_string()).await;
    let expected = r#"Validation error: idempotencyKey must be 2048 characters or less at "idempotencyKey""#;
    assert_eq!((status, text.as_str()), (400, expected));
}

#[tokio::test]
async fn suspending() {
    let peer = Peer::key();
    let answer = call_with(
        &peer,
        "POST",
        "/engine/v1/runs/run_1/waitpoints/tokens/waitpoint_1/wait",
        &[("content-length", "0")],
        "",
    )
    .await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"success":true}"#));
    let request = peer.the::<SuspendOnWaitpointRequest>();
    assert_eq!((request.run_id.as_str(), request.waitpoint_id.as_str(), request.lease), ("run_1", "waitpoint_1", None));

    let waitpoint = Waitpoint { id: "waitpoint_2".into(), timeout_at: at(T0), ..Default::default() };
    peer.answer(WaitForDurationResponse { waitpoint: Some(waitpoint) });
    let path = "/engine/v1/runs/run_1/wait/duration";
    let answer = call(&peer, "POST", path, r#"{"date":"2030-01-01T00:00:00.000Z","idempotencyKey":"k"}"#).await;
    assert_eq!(answer.json(), json!({ "waitUntil": "2026-01-01T00:00:00.000Z", "waitpoint": { "id": "waitpoint_2" } }));
    assert_eq!(peer.the::<WaitForDurationRequest>().until, at(1_893_456_000));
    peer.answer(WaitForDurationResponse::default());
    let answer = call(&peer, "POST", path, r#"{"date":"2030-01-01T00:00:00.000Z"}"#).await;
    assert_eq!(answer.json()["waitUntil"], "2030-01-01T00:00:00.000Z");
    assert_eq!(
        call(&peer, "POST", path, "{}").await.json(),
        json!({ "error": "Validation error: Required at \"date\"" })
    );
}

#[tokio::test]
async fn waitpoint_tokens() {
    let peer = Peer::key();
    let waitpoint = Waitpoint {
        id: "waitpoint_1".into(),
        tags: vec!["t".into()],
        created_at: at(T0),
        timeout_at: at(T0 + 1),
        idempotency_key: Some("k".into()),
        callback_token: Some("tr_wait_x".into()),
        ..Default::default()
    };
    let (created, token) = (Some(waitpoint.clone()), "jwt".to_owned());
    peer.answer(CreateWaitpointResponse { waitpoint: created, is_cached: false, public_access_token: token });
    let options = Options { public_base_url: Some("https://c.example/".into()), ..Options::default() };
    let router = gateway(&peer, options);
    let answer = send(router.clone(), request("POST", "/api/v1/waitpoints/tokens", &[], r#"{"tags":"t"}"#)).await;
    let url = "https://c.example/api/v1/waitpoints/tokens/waitpoint_1/callback/tr_wait_x";
    assert_eq!(answer.json(), json!({ "id": "waitpoint_1", "isCached": false, "url": url }));
    assert_eq!(answer.header("x-trigger-jwt"), Some("jwt"));
    assert!(answer.header("x-trigger-jwt-claims").unwrap().contains("write:waitpoints:waitpoint_1"));

    let item = json!({ "id": "waitpoint_1", "url": url, "status": "WAITING", "tags": ["t"], "createdAt": "2026-01-01T00:00:00.000Z",
        "timeoutAt": "2026-01-01T00:00:01.000Z", "idempotencyKey": "k" });
    peer.answer(ListWaitpointsResponse {
        waitpoints: vec![waitpoint.clone()],
        next_page_token: String::new(),
        previous_page_token: "p".into(),
    });
    let path = "/api/v1/waitpoints/tokens?filter[status]=WAITING,COMPLETED&filter[idempotencyKey]=k&filter[tags]=a,b\
                &filter[createdAt][from]=1767225600000&filter[createdAt][to]=1767225601000&page[size]=3&page[before]=x";
    let answer = send(router, request("GET", path, &[], "")).await;
    assert_eq!(answer.json(), json!({ "data": [item], "pagination": { "previous": "p" } }));
    let expected = ListWaitpointsRequest {
        page_size: 3,
        page_token: "x".into(),
        kinds: vec!["MANUAL".into()],
        statuses: vec!["WAITING".into(), "COMPLETED".into()],
        idempotency_key: Some("k".into()),
        tags: vec!["a".into(), "b".into()],
        created_from: at(T0),
        created_to: at(T0 + 1),
    };
    assert_eq!(peer.the::<ListWaitpointsRequest>(), expected);

    for (is_error, status) in [(false, "COMPLETED"), (true, "TIMED_OUT")] {
        let complete = Waitpoint {
            completed_at: at(T0),
            output: Some("{}".into()),
            output_type: Some("application/json".into()),
            output_is_error: is_error,
            ..waitpoint.clone()
        };
        peer.answer(GetWaitpointResponse { waitpoint: Some(complete) });
        let path = "/api/v1/waitpoints/tokens/waitpoint_1";
        let printed = call_with(&peer, "GET", path, &[("host", "h:1")], "").await.json();
        assert_eq!((&printed["status"], &printed["outputIsError"]), (&json!(status), &json!(is_error)));
        assert_eq!((&printed["output"], &printed["outputType"]), (&json!("{}"), &json!("application/json")));
        assert_eq!(printed["url"], format!("http://h:1{path}/callback/tr_wait_x"));
    }
}

#[tokio::test]
async fn whoever_has_the_url_completes_the_token() {
    let path = "/api/v1/waitpoints/tokens/waitpoint_1/callback/tr_wait_x";
    for (body, output, output_type) in
        [(r#"{"z": 1.0}"#, Some(r#"{"z": 1.0}"#), ""), ("plain", Some("plain"), "text/plain"), ("", None, "")]
    {
        let peer = Peer::key();
        let mut request = request("POST", path, &[("origin", "https://elsewhere.example")], body);
        request.headers_mut().remove("authorization");
        let answer = send(gateway(&peer, Options::default()), request).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"success":true}"#));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://elsewhere.example"));
        assert_eq!(peer.authorizations(), ["Bearer tr_wait_x"], "nothing but the token of the URL");
        let sent = peer.the::<CompleteWaitpointRequest>();
        assert_eq!((sent.output.as_deref(), sent.output_type.as_str()), (output, output_type), "{body}");
    }
    let peer = Peer::key();
    let with_a_key = call(&peer, "POST", "/api/v1/waitpoints/tokens/waitpoint_1/callback/tr_dev_x", "{}").await;
    assert_eq!((with_a_key.status, peer.authorizations().len()), (401, 0), "a key has no place in a URL");
}

#[tokio::test]
async fn completing_keeps_the_data_as_it_is() {
    for (body, output) in [
        (r#"{"data":{"z": 1.0}}"#, Some(r#"{"z": 1.0}"#)),
        ("{}", None),
        ("", None),
        (r#"{"data":null}"#, Some("null")),
    ] {
        let peer = Peer::key();
        let answer = call(&peer, "POST", "/api/v1/waitpoints/tokens/waitpoint_1/complete", body).await;
        assert_eq!(answer.text(), r#"{"success":true}"#);
        let request = peer.the::<CompleteWaitpointRequest>();
        assert_eq!((request.output.as_deref(), request.is_error), (output, false), "{body}");
    }
}

#[tokio::test]
async fn tokens() {
    let peer = Peer::key();
    peer.answer(GetClaimsResponse { sub: "env_1".into() }).answer(CreatePublicTokenResponse { token: "jwt".into() });
    assert_eq!(call(&peer, "POST", "/api/v1/auth/jwt/claims", "").await.json(), json!({ "sub": "env_1", "pub": true }));
    let path = "/api/v1/auth/public-tokens";
    let body =
        r#"{"scopes":["read:all"],"expirationTime":1767225600,"oneTimeUse":true,"realtime":{"skipColumns": ["a"]}}"#;
    assert_eq!(call(&peer, "POST", path, body).await.text(), r#"{"token":"jwt"}"#);
    let expected = CreatePublicTokenRequest {
        scopes: vec!["read:all".into()],
        expires_at: at(T0),
        one_time_use: true,
        realtime_json: Some(r#"{"skipColumns": ["a"]}"#.into()),
        session: None,
    };
    assert_eq!(peer.the::<CreatePublicTokenRequest>(), expected);
    for text in ["15m", "1hr", "2 days"] {
        call(&peer, "POST", path, &format!(r#"{{"scopes":["a"],"expirationTime":"{text}"}}"#)).await;
        assert!(peer.all::<CreatePublicTokenRequest>().pop().unwrap().expires_at.unwrap().seconds > T0, "{text}");
    }
    let answer = call(&peer, "POST", path, r#"{"expirationTime":"soon"}"#).await;
    let text = r#"Validation error: Required at "scopes"; Invalid expiration time at "expirationTime""#;
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })));
}
