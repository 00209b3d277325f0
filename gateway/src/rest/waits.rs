//! A run waits: on a channel, on a token, for a time. These routes take keys and the run's own token only.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{Direction, SuspendOnWaitpointRequest, WaitForDurationRequest, WaitOnChannelRequest},
};
use http::StatusCode;
use serde_json::{json, value::RawValue};

use super::waitpoint_tags;
use crate::{
    Gateway,
    auth::KeyHolder,
    body::{self, Capped, MEDIUM_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    time,
    validate::Issues,
};

pub(crate) async fn on_channel<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    params: Params,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let mut request = on_channel_request(params.get("run")?, body::json(&body)?)?;
    request.tags = waitpoint_tags(request.tags)?;
    let answer = gateway.api.wait_on_channel(caller.request(request)).await;
    let answer = answer.map_err(|s| Failure::of(&s, Route::WaitOnChannel))?.into_inner();
    let id = answer.waitpoint.unwrap_or_default().id;
    Ok(json::response(StatusCode::OK, &json!({ "waitpointId": id, "isCached": answer.is_cached })))
}

fn on_channel_request(run_id: String, body: &RawValue) -> Result<WaitOnChannelRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let words = [("out", Direction::Out), ("in", Direction::In)];
    let request = WaitOnChannelRequest {
        run_id,
        session: object.required_string("session"),
        direction: object.one_of("io", &words).unwrap_or_default().into(),
        // Below zero means that nothing was seen.
        last_seq_num: object.number("lastSeqNum").filter(|n| *n >= 0.0).map(|n| n as u64),
        timeout_at: object.string("timeout").and_then(|text| future(&text)),
        idempotency_key: object.idempotency_key(),
        idempotency_key_ttl_ms: object.key_ttl_ms("idempotencyKeyTTL"),
        tags: object.string_or_strings("tags"),
    };
    issues.finish()?;
    Ok(request)
}

/// A timeout. What cannot be read, or is over already, is no timeout.
pub(super) fn future(text: &str) -> Option<prost_types::Timestamp> {
    time::parse_moment_ms(text).filter(|ms| *ms > time::now_ms()).map(time::from_ms)
}

/// Has no body.
pub(crate) async fn on_token<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    params: Params,
) -> Result<Response, Failure> {
    let (run_id, waitpoint_id) = (params.get("run")?, params.get("waitpoint")?);
    let request = caller.request(SuspendOnWaitpointRequest { run_id, waitpoint_id, lease: None });
    gateway.api.suspend_on_waitpoint(request).await.map_err(|s| Failure::of(&s, Route::Suspend))?;
    Ok(json::response(StatusCode::OK, &json!({ "success": true })))
}

pub(crate) async fn for_duration<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    params: Params,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = for_duration_request(params.get("run")?, body::json(&body)?)?;
    let until = request.until;
    let answer = gateway.api.wait_for_duration(caller.request(request)).await;
    let waitpoint = answer.map_err(|s| Failure::of(&s, Route::Suspend))?.into_inner().waitpoint.unwrap_or_default();
    // With an idempotency key the waitpoint may be an older one with a time of its own.
    let wait_until = time::iso_opt(&waitpoint.timeout_at.or(until));
    Ok(json::response(StatusCode::OK, &json!({ "waitUntil": wait_until, "waitpoint": { "id": waitpoint.id } })))
}

fn for_duration_request(run_id: String, body: &RawValue) -> Result<WaitForDurationRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    object.required("date");
    let request = WaitForDurationRequest {
        run_id,
        until: object.date_ms("date").map(time::from_ms),
        idempotency_key: object.idempotency_key(),
        idempotency_key_ttl_ms: object.key_ttl_ms("idempotencyKeyTTL"),
    };
    issues.finish()?;
    Ok(request)
}
