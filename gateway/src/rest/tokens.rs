//! Tokens for clients that sign, or ask to have signed, what they hand out.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{CreatePublicTokenRequest, GetClaimsRequest},
};
use http::StatusCode;
use serde_json::{json, value::RawValue};

use crate::{
    Gateway,
    auth::KeyHolder,
    body::{self, Capped, MEDIUM_BYTES_MAX},
    error::{Failure, Route},
    json, time,
    validate::{Issues, Object, type_name},
};

pub(crate) async fn claims<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
) -> Result<Response, Failure> {
    let request = caller.request(GetClaimsRequest {});
    let answer = gateway.api.get_claims(request).await.map_err(|s| Failure::of(&s, Route::Tokens))?;
    Ok(json::response(StatusCode::OK, &json!({ "sub": answer.get_ref().sub, "pub": true })))
}

pub(crate) async fn create_public<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = caller.request(create_request(body::json(&body)?)?);
    let answer = gateway.api.create_public_token(request).await.map_err(|s| Failure::of(&s, Route::Tokens))?;
    Ok(json::response(StatusCode::OK, &json!({ "token": answer.get_ref().token })))
}

fn create_request(body: &RawValue) -> Result<CreatePublicTokenRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    object.required("scopes");
    let request = CreatePublicTokenRequest {
        scopes: object.strings("scopes"),
        expires_at: expires_at(&object),
        one_time_use: object.boolean("oneTimeUse").unwrap_or(false),
        realtime_json: object.object_text("realtime"),
        session: None,
    };
    issues.finish()?;
    Ok(request)
}

/// A duration from now, or the second it ends at.
pub(super) fn expires_at(object: &Object<'_>) -> Option<prost_types::Timestamp> {
    const NAME: &str = "expirationTime";
    let ms = match type_name(object.raw(NAME)?) {
        "number" => object.number(NAME).map(|seconds| (seconds * 1_000.0) as i64),
        _ => object.string(NAME).and_then(|text| {
            let moment = time::parse_moment_ms(&text);
            if moment.is_none() {
                object.problem(NAME, "Invalid expiration time");
            }
            moment
        }),
    };
    ms.map(time::from_ms)
}
