//! `POST /api/v1/tasks/{task}/trigger`.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{Debounce, IdempotencyKeyOptions, TriggerRunRequest},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{deployment_id, run_json::STORED, token_headers};
use crate::{
    Gateway,
    auth::Caller,
    body::{self, Capped, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json::{self, Entries},
    paths::Params,
    time,
    validate::{Issues, Object, type_name},
};

/// Most named limits, and most gates, that a run may ask for.
const CONCURRENCY_MAX: usize = 2;
const GATES_MAX: usize = 3;

pub(crate) async fn trigger<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<PAYLOAD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = request(params.get("task")?, body::json(&body)?)?;
    let answer = gateway.api.trigger_run(caller.request(request)).await;
    let answer = answer.map_err(|s| Failure::of(&s, Route::Trigger))?.into_inner();
    let id = answer.run.unwrap_or_default().id;
    let scopes = [format!("read:runs:{id}"), format!("write:inputStreams:{id}")];
    let mut response = json::response(StatusCode::OK, &json!({ "id": id, "isCached": answer.is_cached }));
    response.headers_mut().extend(token_headers(&caller, &answer.public_access_token, &scopes));
    Ok(response)
}

fn request(task_identifier: String, body: &RawValue) -> Result<TriggerRunRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let options = object.object("options").unwrap_or_else(|| issues.empty_object());
    let payload_type = options.string("payloadType").unwrap_or_default();
    let queue = options.object("queue");
    // How long the payload is shows by itself; the field is read so that nonsense is told.
    let _ = options.whole("payloadSize");
    let request = TriggerRunRequest {
        task_identifier,
        payload: payload(&object, &payload_type),
        payload_type,
        queue: queue.as_ref().map(|queue| queue.required_string("name")),
        queue_concurrency_limit: queue.as_ref().and_then(|queue| queue.whole("concurrencyLimit")),
        concurrency_key: options.string_or_number("concurrencyKey"),
        priority: options.number("priority").map_or(0, |n| n as i32),
        machine: options.string("machine"),
        region: options.string("region"),
        lock_to_version: options.string("lockToVersion"),
        max_attempts: options.whole("maxAttempts"),
        max_duration_s: options.number("maxDuration").map(|seconds| seconds.ceil() as u32),
        ttl_ms: ttl_ms(&options),
        delay_until: delay_until(&options),
        idempotency_key: options.idempotency_key(),
        idempotency_key_ttl_ms: options.key_ttl_ms("idempotencyKeyTTL"),
        tags: options.string_or_strings("tags"),
        metadata_json: metadata(&options),
        is_test: options.boolean("test").unwrap_or(false),
        parent_run_id: options.string("parentRunId"),
        resume_parent_on_completion: options.boolean("resumeParentOnCompletion").unwrap_or(false),
        parent_lease: None,
        external_deployment_id: deployment_id(&options),
        batch_id: options.string("parentBatch"),
        bulk_action_id: options.string("bulkActionId"),
        idempotency_key_options: options.object("idempotencyKeyOptions").map(|user| IdempotencyKeyOptions {
            key: user.required_string("key"),
            scope: user.required_string("scope"),
        }),
        debounce: options.object("debounce").map(|debounce| self::debounce(&debounce)),
        limits_json: limits(&options),
    };
    issues.finish()?;
    Ok(request)
}

/// A queue to pass beside the run's own.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gate {
    queue: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<String>,
}

/// What a run asks for beside its own queue.
#[derive(Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    concurrency: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates: Vec<Gate>,
}

fn limits(options: &Object<'_>) -> Option<String> {
    let concurrency = options.string_or_strings("concurrency");
    let gates = options.raw("gates").map_or_else(Vec::new, |raw| {
        serde_json::from_str(raw.get()).unwrap_or_else(|_| {
            options.problem(
                "gates",
                "Expected an array of objects with queue and, if it splits the queue, concurrencyKey",
            );
            Vec::new()
        })
    });
    if concurrency.len() > CONCURRENCY_MAX {
        options.problem("concurrency", "Array must contain at most 2 element(s)");
    }
    if gates.len() > GATES_MAX {
        options.problem("gates", "Array must contain at most 3 element(s)");
    }
    let asks_for_nothing = concurrency.is_empty() && gates.is_empty();
    (!asks_for_nothing).then(|| serde_json::to_string(&Limits { concurrency, gates }).unwrap_or_default())
}

fn debounce(object: &Object<'_>) -> Debounce {
    let is_trailing = match object.raw("mode") {
        Some(_) => object.one_of("mode", &[("leading", false), ("trailing", true)]).unwrap_or_default(),
        None => false,
    };
    let duration = |name: &str| {
        let ms = time::parse_duration_ms(&object.string(name)?);
        if ms.is_none() {
            object.problem(name, "Invalid duration");
        }
        ms
    };
    Debounce {
        key: object.required_string("key"),
        delay_ms: object.required("delay").and_then(|()| duration("delay")).unwrap_or_default(),
        is_trailing,
        max_delay_ms: duration("maxDelay"),
    }
}

/// Of type `application/json` the payload is the JSON value itself; of any other it is the content of a string.
fn payload(object: &Object<'_>, payload_type: &str) -> String {
    let raw = object.raw("payload");
    let text = raw.and_then(json::string);
    match payload_type {
        "" | "application/json" => raw.map(|raw| raw.get().to_owned()).unwrap_or_default(),
        STORED if text.as_deref().unwrap_or_default().is_empty() => {
            let message = "payload must be a non-empty string when options.payloadType is application/store";
            object.problem("payload", message);
            String::new()
        }
        _ => text.unwrap_or_default(),
    }
}

pub(super) fn ttl_ms(options: &Object<'_>) -> Option<u64> {
    match type_name(options.raw("ttl")?) {
        "number" => options.whole("ttl").map(|seconds| u64::from(seconds) * 1_000),
        _ => {
            let ms = time::parse_duration_ms(&options.string("ttl")?);
            if ms.is_none() {
                options.problem("ttl", "Invalid duration");
            }
            ms
        }
    }
}

pub(super) fn delay_until(options: &Object<'_>) -> Option<prost_types::Timestamp> {
    let moment = match type_name(options.raw("delay")?) {
        "number" => options.date_ms("delay"),
        _ => {
            let ms = time::parse_moment_ms(&options.string("delay")?);
            if ms.is_none() {
                options.problem("delay", "Invalid duration or date");
            }
            ms
        }
    };
    moment.map(time::from_ms)
}

/// An object, or a string that holds one; of the SDK's own format, the object in it.
fn metadata(options: &Object<'_>) -> Option<String> {
    let raw = options.raw("metadata").filter(|raw| raw.get() != "null")?;
    let text = match type_name(raw) {
        "string" => options.string("metadata"),
        _ => options.object_text("metadata"),
    };
    match options.string("metadataType").as_deref() {
        None | Some("application/json") => text,
        Some("application/super+json") => {
            let text = text?;
            let inner = Entries::parse(&text).and_then(|wrapped| wrapped.get("json")).map(|json| json.get().to_owned());
            inner.or(Some(text))
        }
        Some(_) => {
            options.problem("metadataType", "must be application/json or application/super+json");
            None
        }
    }
}
