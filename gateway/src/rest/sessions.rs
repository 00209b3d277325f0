//! `/api/v1/sessions`.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{
        CloseSessionRequest, CreateSessionRequest, DeleteSessionRequest, EndAndContinueRequest, GetSessionRequest,
        ListSessionRunsRequest, ListSessionsRequest, Session, SessionFilter, SessionStatus, TriggerConfig,
        UpdateSessionRequest,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost_types::FieldMask;
use serde_json::{json, value::RawValue};

use super::{
    List, Pagination, deployment_id,
    session_json::{CreatedSession, SessionItem, SessionRunItem},
};
use crate::{
    Gateway,
    auth::{Caller, Creator},
    body::{self, Capped, SESSION_BYTES_MAX, SMALL_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    query::{self, Page, Query},
    time,
    validate::{Issues, Object, type_name, unexpected},
};

/// How far the index was up with the database, where lists do not come from the database itself.
const AS_OF: HeaderName = HeaderName::from_static("continuo-as-of");
/// What a list waits for: such a position, or `now`.
const WAIT_AS_OF: HeaderName = HeaderName::from_static("continuo-wait-as-of");

pub(crate) async fn create<A: Api>(
    State(gateway): State<Gateway<A>>,
    Creator(caller): Creator,
    Capped(body): Capped<SESSION_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = caller.request(create_request(body::json(&body)?)?);
    let answer = gateway.api.create_session(request).await.map_err(|s| Failure::of(&s, Route::CreateSession))?;
    let answer = answer.into_inner();
    let session = answer.session.unwrap_or_default();
    let created = CreatedSession {
        session: SessionItem::full(&session),
        run_id: &answer.run_id,
        public_access_token: &answer.public_access_token,
        is_cached: answer.is_cached,
    };
    Ok(json::response(if answer.is_cached { StatusCode::OK } else { StatusCode::CREATED }, &created))
}

fn create_request(body: &RawValue) -> Result<CreateSessionRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let request = CreateSessionRequest {
        r#type: object.required_string("type"),
        external_id: object.string("externalId"),
        task_identifier: object.required_string("taskIdentifier"),
        trigger_config: object.required_object("triggerConfig").map(|config| trigger_config(&config)),
        tags: object.strings("tags"),
        metadata_json: object.object_text("metadata"),
        expires_at: object.date_ms("expiresAt").map(time::from_ms),
        is_test: false,
    };
    issues.finish()?;
    Ok(request)
}

fn trigger_config(object: &Object<'_>) -> TriggerConfig {
    TriggerConfig {
        base_payload_json: object.required_object_text("basePayload"),
        machine: object.string("machine"),
        queue: object.string("queue"),
        concurrency: object.strings("concurrency"),
        concurrency_key: object.string_or_number("concurrencyKey"),
        tags: object.strings("tags"),
        max_attempts: object.whole("maxAttempts"),
        max_duration_s: object.whole("maxDuration"),
        lock_to_version: object.string("lockToVersion"),
        external_deployment_id: deployment_id(object),
        region: object.string("region"),
        idle_timeout_s: object.whole("idleTimeoutInSeconds"),
        ttl: match object.raw("ttl").map(type_name) {
            Some("number") => object.whole("ttl").map(|seconds| seconds.to_string()),
            _ => object.string("ttl"),
        },
    }
}

pub(crate) async fn list<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Page { size, token, direction, cursor } = query.page()?;
    let request = caller.request(ListSessionsRequest {
        filter: Some(filter(&query)?),
        page_size: size,
        page_token: token,
        page_direction: direction.into(),
        wait_as_of: wait_as_of(&headers),
    });
    let answer = gateway.api.list_sessions(request).await.map_err(|s| Failure::of(&s, Route::List(cursor)))?;
    let answer = answer.into_inner();
    let data: Vec<_> = answer.sessions.iter().map(SessionItem::in_list).collect();
    let pagination = Pagination { next: answer.next_page_token, previous: answer.previous_page_token };
    let mut response = json::response(StatusCode::OK, &List { data, pagination });
    if let Some(as_of) = HeaderValue::from_str(&answer.as_of).ok().filter(|value| !value.is_empty()) {
        response.headers_mut().insert(AS_OF, as_of);
    }
    Ok(response)
}

/// What is no text is no position either, and refused as such.
fn wait_as_of(headers: &HeaderMap) -> String {
    headers.get(WAIT_AS_OF).map_or("", |value| value.to_str().unwrap_or("?")).trim().to_owned()
}

fn filter(query: &Query) -> Result<SessionFilter, Failure> {
    let status = |text: String| match text.as_str() {
        "ACTIVE" => Ok(SessionStatus::Active.into()),
        "CLOSED" => Ok(SessionStatus::Closed.into()),
        "EXPIRED" => Ok(SessionStatus::Expired.into()),
        other => {
            let message = unexpected("'ACTIVE' | 'CLOSED' | 'EXPIRED'", other);
            Err(query::issue("invalid_enum_value", "filter[status]", message))
        }
    };
    let (created_from, created_to) = query.created()?;
    Ok(SessionFilter {
        types: query.list("filter[type]"),
        tags: query.list("filter[tags]"),
        task_identifiers: query.list("filter[taskIdentifier]"),
        external_id: query.one("filter[externalId]").filter(|id| !id.is_empty()).map(str::to_owned),
        statuses: query.list("filter[status]").into_iter().map(status).collect::<Result<_, _>>()?,
        created_from: created_from.map(time::from_ms),
        created_to: created_to.map(time::from_ms),
    })
}

pub(crate) async fn get<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    let request = caller.request(GetSessionRequest { session: params.session()? });
    let answer = gateway.api.get_session(request).await.map_err(|s| Failure::of(&s, Route::ReadSession))?;
    Ok(one(answer.into_inner().session))
}

pub(crate) async fn update<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<SESSION_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = update_request(params.session()?, body::json(&body)?)?;
    let answer = gateway.api.update_session(caller.request(request)).await;
    Ok(one(answer.map_err(|s| Failure::of(&s, Route::ChangeSession))?.into_inner().session))
}

/// A key that is there names a field to change; null clears it.
fn update_request(session: String, body: &RawValue) -> Result<UpdateSessionRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let named = |key: &str| object.raw(key).is_some();
    let set = |key: &str| object.raw(key).is_some_and(|value| value.get() != "null");
    let value = Session {
        tags: object.strings("tags"),
        metadata_json: if set("metadata") { object.object_text("metadata") } else { None },
        external_id: if set("externalId") { object.string("externalId") } else { None },
        ..Session::default()
    };
    let fields = [("tags", "tags"), ("metadata", "metadata_json"), ("externalId", "external_id")];
    let paths = fields.into_iter().filter(|(key, _)| named(key)).map(|(_, field)| field.to_owned()).collect();
    issues.finish()?;
    Ok(UpdateSessionRequest { session, value: Some(value), update_mask: Some(FieldMask { paths }) })
}

pub(crate) async fn close<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<SMALL_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = close_request(params.session()?, body::json_or_empty_object(&body)?)?;
    let answer = gateway.api.close_session(caller.request(request)).await;
    Ok(one(answer.map_err(|s| Failure::of(&s, Route::ChangeSession))?.into_inner().session))
}

fn close_request(session: String, body: &RawValue) -> Result<CloseSessionRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let (reason, calling_run_id) = (object.string("reason"), object.string("callingRunId"));
    issues.finish()?;
    Ok(CloseSessionRequest { session, reason, calling_run_id })
}

pub(crate) async fn end_and_continue<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<SMALL_BYTES_MAX>,
) -> Result<Response, Failure> {
    let request = end_and_continue_request(params.session()?, body::json(&body)?)?;
    let answer = gateway.api.end_and_continue(caller.request(request)).await;
    let answer = answer.map_err(|s| Failure::of(&s, Route::EndAndContinue))?.into_inner();
    Ok(json::response(StatusCode::OK, &json!({ "runId": answer.run_id, "swapped": answer.swapped })))
}

fn end_and_continue_request(session: String, body: &RawValue) -> Result<EndAndContinueRequest, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let request = EndAndContinueRequest {
        session,
        calling_run_id: object.required_string("callingRunId"),
        reason: object.required_string("reason"),
        external_deployment_id: deployment_id(&object),
    };
    issues.finish()?;
    Ok(request)
}

pub(crate) async fn delete<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    let request = caller.request(DeleteSessionRequest { session: params.session()? });
    gateway.api.delete_session(request).await.map_err(|s| Failure::of(&s, Route::ChangeSession))?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

pub(crate) async fn runs<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    let request = caller.request(ListSessionRunsRequest { session: params.session()? });
    let answer = gateway.api.list_session_runs(request).await.map_err(|s| Failure::of(&s, Route::ReadSession))?;
    let data: Vec<_> = answer.get_ref().session_runs.iter().map(SessionRunItem::of).collect();
    Ok(json::response(StatusCode::OK, &json!({ "data": data })))
}

fn one(session: Option<Session>) -> Response {
    json::response(StatusCode::OK, &SessionItem::full(&session.unwrap_or_default()))
}
