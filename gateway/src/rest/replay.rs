//! `POST /api/v1/runs/{run}/replay`: a run like one that was, with what the caller wants otherwise.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{GetRunRequest, Run, TriggerRunRequest},
};
use http::StatusCode;
use serde_json::{json, value::RawValue};

use super::trigger::{delay_until, ttl_ms};
use crate::{
    Gateway,
    auth::Caller,
    body::{self, Capped, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    validate::Issues,
};

pub(crate) async fn replay<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<PAYLOAD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let run_id = params.get("run")?;
    let changes = body::json_or_empty_object(&body)?;
    // Once on its own: what is wrong with it is told before the run is looked for.
    changed(TriggerRunRequest::default(), changes)?;
    let request = caller.request(GetRunRequest { run_id });
    let run = gateway.api.get_run(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?.into_inner().run;
    let run = run.unwrap_or_default();
    if run.session_id.is_some() {
        return Err(Failure::unsupported(
            "run",
            "a run of a session is not replayed; end-and-continue starts its next one",
        ));
    }
    let request = changed(again(run), changes)?;
    let answer = gateway.api.trigger_run(caller.request(request)).await;
    let answer = answer.map_err(|s| Failure::of(&s, Route::Trigger))?.into_inner();
    Ok(json::response(StatusCode::OK, &json!({ "id": answer.run.unwrap_or_default().id })))
}

/// The same trigger once more. Its keys named that run, and its moment is past.
fn again(run: Run) -> TriggerRunRequest {
    let own_queue = format!("task/{}", run.task_identifier);
    TriggerRunRequest {
        queue: Some(run.queue).filter(|queue| *queue != own_queue && !queue.is_empty()),
        task_identifier: run.task_identifier,
        payload: run.payload,
        payload_type: run.payload_type,
        queue_concurrency_limit: run.queue_concurrency_limit,
        concurrency_key: run.concurrency_key,
        priority: run.priority,
        machine: run.machine,
        region: run.region,
        lock_to_version: run.version,
        max_attempts: Some(run.max_attempts).filter(|attempts| *attempts > 0),
        max_duration_s: run.max_duration_s,
        ttl_ms: run.ttl_ms,
        tags: run.tags,
        metadata_json: run.metadata_json,
        is_test: run.is_test,
        external_deployment_id: run.external_deployment_id,
        limits_json: run.limits_json,
        ..Default::default()
    }
}

fn changed(run: TriggerRunRequest, body: &RawValue) -> Result<TriggerRunRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let payload_type = object.string("payloadType");
    let payload = object.raw("payload").map(|raw| match payload_type.as_deref() {
        Some("application/super+json") => json::string(raw).unwrap_or_else(|| {
            object.problem("payload", "payload must be a SuperJSON string when payloadType is application/super+json");
            String::new()
        }),
        _ => raw.get().to_owned(),
    });
    let given_type = payload.is_some().then(|| payload_type.unwrap_or_default());
    let request = TriggerRunRequest {
        payload_type: given_type.unwrap_or(run.payload_type),
        payload: payload.unwrap_or(run.payload),
        metadata_json: object.object_text("metadata").or(run.metadata_json),
        tags: object.raw("tags").map(|_| object.string_or_strings("tags")).unwrap_or(run.tags),
        queue: object.string("queue").or(run.queue),
        concurrency_key: object.string_or_number("concurrencyKey").or(run.concurrency_key),
        machine: object.string("machine").or(run.machine),
        lock_to_version: object.string("version").or(run.lock_to_version),
        region: object.string("region").or(run.region),
        delay_until: delay_until(&object),
        ttl_ms: ttl_ms(&object).or(run.ttl_ms),
        idempotency_key: object.idempotency_key(),
        idempotency_key_ttl_ms: object.key_ttl_ms("idempotencyKeyTTL"),
        max_attempts: object.whole("maxAttempts").or(run.max_attempts),
        max_duration_s: object.number("maxDuration").map(|seconds| seconds.ceil() as u32).or(run.max_duration_s),
        priority: object.number("priority").map_or(run.priority, |n| n as i32),
        ..run
    };
    issues.finish()?;
    Ok(request)
}
