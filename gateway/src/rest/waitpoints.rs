//! Waitpoint tokens: made by a run or a key, completed by whoever holds the token.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{CompleteWaitpointRequest, CreateWaitpointRequest, GetWaitpointRequest, ListWaitpointsRequest, Waitpoint},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use tonic::metadata::{Ascii, MetadataValue};

use super::{List, Pagination, token_headers, waitpoint_tags, waits::future};
use crate::{
    Gateway,
    auth::{Caller, url_bearer, with_authorization},
    base_url::BaseUrl,
    body::{self, Capped, MEDIUM_BYTES_MAX, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json, paths,
    paths::Params,
    query::{Page, Query},
    time,
    validate::Issues,
};

/// What the token in a waitpoint's URL begins with.
const WAITPOINT_TOKEN_PREFIX: &str = "tr_wait_";

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
    let waitpoint = answer.waitpoint.unwrap_or_default();
    let url = url(&base, &waitpoint);
    let id = waitpoint.id;
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
    let Page { size, token, cursor, .. } = query.page_either_way()?;
    let (from, to) = query.created()?;
    let request = caller.request(ListWaitpointsRequest {
        page_size: size,
        page_token: token,
        // What else a run waits on is no token.
        kinds: vec!["MANUAL".to_owned()],
        statuses: query.list("filter[status]"),
        idempotency_key: query.one("filter[idempotencyKey]").map(str::to_owned),
        tags: query.list("filter[tags]"),
        created_from: from.map(time::from_ms),
        created_to: to.map(time::from_ms),
    });
    let answer = gateway.api.list_waitpoints(request).await.map_err(|s| Failure::of(&s, Route::List(cursor)))?;
    let answer = answer.into_inner();
    let item = |waitpoint| WaitpointItem::in_list(waitpoint, &base);
    let data: Vec<_> = answer.waitpoints.iter().map(item).collect();
    let pagination = Pagination { next: answer.next_page_token, previous: answer.previous_page_token };
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

/// Another service calls the URL it was given: what it sends is the output, whatever it is.
pub(crate) async fn callback<A: Api>(
    State(gateway): State<Gateway<A>>,
    params: Params,
    Capped(body): Capped<PAYLOAD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let bearer = bearer_of(&params.get("token")?)?;
    let (output, output_type) = callback_output(&body)?;
    let waitpoint_id = params.get("waitpoint")?;
    let request = CompleteWaitpointRequest { waitpoint_id, output, output_type, is_error: false };
    let answer = gateway.api.complete_waitpoint(with_authorization(&bearer, request)).await;
    answer.map_err(|s| Failure::of(&s, Route::CompleteWaitpoint))?;
    Ok(json::response(StatusCode::OK, &json!({ "success": true })))
}

/// JSON as it stands, any other text as a text.
fn callback_output(body: &[u8]) -> Result<(Option<String>, String), Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::invalid_body("The request body is not valid UTF-8"))?;
    if text.trim().is_empty() {
        return Ok((None, String::new()));
    }
    let output_type = if json::raw(text).is_some() { "" } else { "text/plain" };
    Ok((Some(text.to_owned()), output_type.to_owned()))
}

/// Only a token of such a URL counts here: a key in a path would end up in logs.
fn bearer_of(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    if token.starts_with(WAITPOINT_TOKEN_PREFIX) { url_bearer(token) } else { Err(Failure::invalid_api_key()) }
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
            url: url(base, waitpoint),
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

/// Where whoever has nothing but the URL completes it; with a token of its own, anybody else.
fn url(base: &BaseUrl, waitpoint: &Waitpoint) -> String {
    let path = match &waitpoint.callback_token {
        Some(token) => paths::WAITPOINT_CALLBACK.replace("{token}", token),
        None => paths::WAITPOINT_COMPLETE.to_owned(),
    };
    base.join(&path.replace("{waitpoint}", &waitpoint.id))
}
