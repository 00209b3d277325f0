//! Signed URLs for snapshots and packets.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{
        BlobTarget, PresignGetRequest, PresignGetResponse, PresignPutRequest, RunField, RunValue, blob_target::Target,
    },
};
use http::StatusCode;
use serde::Serialize;

use crate::{
    Gateway,
    auth::{Caller, KeyHolder},
    base_url::BaseUrl,
    error::{Failure, Route},
    json,
    paths::Params,
    validate::{Issue, Step},
};

pub(crate) async fn put_snapshot<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    base: BaseUrl,
    params: Params,
) -> Result<Response, Failure> {
    to_put(&gateway, &caller, &base, Target::Session(params.session()?)).await
}

pub(crate) async fn get_snapshot<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    base: BaseUrl,
    params: Params,
) -> Result<Response, Failure> {
    to_get(&gateway, &caller, &base, Target::Session(params.session()?)).await
}

pub(crate) async fn put_packet<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    base: BaseUrl,
    params: Params,
) -> Result<Response, Failure> {
    to_put(&gateway, &caller, &base, Target::Packet(params.get("packet")?)).await
}

pub(crate) async fn get_packet<A: Api>(
    State(gateway): State<Gateway<A>>,
    KeyHolder(caller): KeyHolder,
    base: BaseUrl,
    params: Params,
) -> Result<Response, Failure> {
    to_get(&gateway, &caller, &base, Target::Packet(params.get("packet")?)).await
}

pub(crate) async fn get_run_packet<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    base: BaseUrl,
    params: Params,
) -> Result<Response, Failure> {
    let field = match params.get("field")?.as_str() {
        "payload" => RunField::Payload,
        "output" => RunField::Output,
        _ => {
            let issue = Issue::new("invalid_enum_value", vec![Step::key("field")], "Expected 'payload' | 'output'");
            return Err(Failure::params(vec![issue]));
        }
    };
    to_get(&gateway, &caller, &base, of_run(params.get("run")?, field)).await
}

/// Where a value of a run that lies in a packet can be fetched; none when no URL can be made now.
pub(super) async fn run_value_url<A: Api>(
    gateway: &Gateway<A>,
    caller: &Caller,
    base: &BaseUrl,
    run_id: &str,
    field: RunField,
) -> Option<String> {
    let answer = presigned(gateway, caller, of_run(run_id.to_owned(), field)).await.ok()?;
    Some(base.join(&answer.url_path))
}

fn of_run(run_id: String, field: RunField) -> Target {
    Target::Run(RunValue { run_id, field: field.into() })
}

async fn to_put<A: Api>(
    gateway: &Gateway<A>,
    caller: &Caller,
    base: &BaseUrl,
    target: Target,
) -> Result<Response, Failure> {
    let request = caller.request(PresignPutRequest { target: Some(BlobTarget { target: Some(target) }) });
    let answer = gateway.api.presign_put(request).await.map_err(|s| Failure::of(&s, Route::PresignPut))?.into_inner();
    Ok(signed(base, &answer.url_path, answer.storage_path.as_deref()))
}

async fn to_get<A: Api>(
    gateway: &Gateway<A>,
    caller: &Caller,
    base: &BaseUrl,
    target: Target,
) -> Result<Response, Failure> {
    let answer = presigned(gateway, caller, target).await?;
    Ok(signed(base, &answer.url_path, answer.storage_path.as_deref()))
}

async fn presigned<A: Api>(
    gateway: &Gateway<A>,
    caller: &Caller,
    target: Target,
) -> Result<PresignGetResponse, Failure> {
    let request = caller.request(PresignGetRequest { target: Some(BlobTarget { target: Some(target) }) });
    let answer = gateway.api.presign_get(request).await.map_err(|s| Failure::of(&s, Route::PresignGet))?;
    Ok(answer.into_inner())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signed<'a> {
    presigned_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_path: Option<&'a str>,
}

fn signed(base: &BaseUrl, url_path: &str, storage_path: Option<&str>) -> Response {
    json::response(StatusCode::OK, &Signed { presigned_url: base.join(url_path), storage_path })
}
