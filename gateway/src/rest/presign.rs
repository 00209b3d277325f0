//! Signed URLs for snapshots and packets.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{BlobTarget, PresignGetRequest, PresignPutRequest, blob_target::Target},
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

/// Where a packet can be fetched; none for a caller who may not, or when no URL can be made now.
pub(super) async fn packet_url<A: Api>(
    gateway: &Gateway<A>,
    caller: &Caller,
    base: &BaseUrl,
    path: &str,
) -> Option<String> {
    let target = Some(BlobTarget { target: Some(Target::Packet(path.to_owned())) });
    let answer = gateway.api.presign_get(caller.request(PresignGetRequest { target })).await.ok()?;
    Some(base.join(&answer.get_ref().url_path))
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
    let request = caller.request(PresignGetRequest { target: Some(BlobTarget { target: Some(target) }) });
    let answer = gateway.api.presign_get(request).await.map_err(|s| Failure::of(&s, Route::PresignGet))?.into_inner();
    Ok(signed(base, &answer.url_path, answer.storage_path.as_deref()))
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
