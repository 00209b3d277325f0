//! Waitpoint tokens: made by a run or a key, completed by whoever holds the token.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{CompleteWaitpointRequest, CreateWaitpointRequest, GetWaitpointRequest, ListWaitpointsRequest, Waitpoint},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{List, Pagination, token_headers, waitpoint_tags, waits::future};
use crate::{
    Gateway,
    auth::Caller,
    base_url::BaseUrl,
    body::{self, Capped, MEDIUM_BYTES_MAX, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json, paths,
    paths::Params,
    query::{Page, Query},
    time,
    validate::Issues,
};

pub(crate) async fn create<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    base: BaseUrl,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let mut request = create_request(body::json(&body)?)?;
    request.tags = waitpoint_tags(request.tags)?;
    let answer = gateway.api.create_waitpoint(caller.request(request)).await;
    let answer = answer.map_err(|s| Failure::of(&s, Route::CreateWaitpoint))?.into_inner();
    let id = answer.waitpoint.unwrap_or_default().id;
    let url = url(&base, &id);
    let scopes = [format!("write:waitpoints:{id}")];
    let mut response = json::response(StatusCode::OK, &json!({ "id": id, "isCached": answer.is_cached, "url": url }));
    response.headers_mut().extend(token_headers(&caller, &answer.public_access_token, &scopes));
    Ok(response)
}

pub(crate) async fn list<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    query: Query,
    base: BaseUrl,
) -> Result<Response, Failure> {
    let Page { size, token, cursor, .. } = query.page()?;
    let request = caller.request(ListWaitpointsRequest { page_size: size, page_token: token });
    let answer = gateway.api.list_waitpoints(request).await.map_err(|s| Failure::of(&s, Route::List(cursor)))?;
    let answer = answer.into_inner();
    let item = |waitpoint| WaitpointItem::in_list(waitpoint, &base);
    let data: Vec<_> = answer.waitpoints.iter().map(item).collect();
    let pagination = Pagination { next: answer.next_page_token, previous: String::new() };
    Ok(json::response(StatusCode::OK, &List { data, pagination }))
}

pub(crate) async fn get<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    base: BaseUrl,
) -> Result<Response, Failure> {
    let request = caller.request(GetWaitpointRequest { waitpoint_id: params.get("waitpoint")? });
    let answer = gateway.api.get_waitpoint(request).await.map_err(|s| Failure::of(&s, Route::ReadWaitpoint))?;
    let waitpoint = answer.into_inner().waitpoint.unwrap_or_default();
    Ok(json::response(StatusCode::OK, &WaitpointItem::full(&waitpoint, &base)))
}

pub(crate) async fn complete<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<PAYLOAD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let waitpoint_id = params.get("waitpoint")?;
    let output = output(body::json_or_empty_object(&body)?)?;
    let request = CompleteWaitpointRequest { waitpoint_id, output, ..Default::default() };
    let answer = gateway.api.complete_waitpoint(caller.request(request)).await;
    answer.map_err(|s| Failure::of(&s, Route::CompleteWaitpoint))?;
    Ok(json::response(StatusCode::OK, &json!({ "success": true })))
}

fn create_request(body: &RawValue) -> Result<CreateWaitpointRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let request = CreateWaitpointRequest {
        timeout_at: object.string("timeout").and_then(|text| future(&text)),
        idempotency_key: object.idempotency_key(),
        idempotency_key_ttl_ms: object.key_ttl_ms("idempotencyKeyTTL"),
        tags: object.string_or_strings("tags"),
    };
    issues.finish()?;
    Ok(request)
}

fn output(body: &RawValue) -> Result<Option<String>, Failure> {
    let issues = Issues::default();
    let data = issues.object(body).raw("data").map(|data| data.get().to_owned());
    issues.finish()?;
    Ok(data)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitpointItem<'a> {
    id: &'a str,
    url: String,
    status: &'static str,
    tags: &'a [String],
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_is_error: Option<bool>,
}

impl<'a> WaitpointItem<'a> {
    fn full(waitpoint: &'a Waitpoint, base: &BaseUrl) -> Self {
        Self {
            output: waitpoint.output.as_deref(),
            output_type: waitpoint.output_type.as_deref(),
            output_is_error: Some(waitpoint.output_is_error),
            ..Self::in_list(waitpoint, base)
        }
    }

    fn in_list(waitpoint: &'a Waitpoint, base: &BaseUrl) -> Self {
        let status = match (&waitpoint.completed_at, waitpoint.output_is_error) {
            (None, _) => "WAITING",
            (Some(_), true) => "TIMED_OUT",
            (Some(_), false) => "COMPLETED",
        };
        Self {
            id: &waitpoint.id,
            url: url(base, &waitpoint.id),
            status,
            tags: &waitpoint.tags,
            created_at: time::iso(&waitpoint.created_at.unwrap_or_default()),
            completed_at: time::iso_opt(&waitpoint.completed_at),
            timeout_at: time::iso_opt(&waitpoint.timeout_at),
            idempotency_key: waitpoint.idempotency_key.as_deref(),
            idempotency_key_expires_at: time::iso_opt(&waitpoint.idempotency_key_expires_at),
            output: None,
            output_type: None,
            output_is_error: None,
        }
    }
}

/// Where the token is completed.
fn url(base: &BaseUrl, id: &str) -> String {
    base.join(&paths::WAITPOINT_COMPLETE.replace("{waitpoint}", id))
}
