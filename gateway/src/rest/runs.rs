//! Runs, read and changed from outside or by themselves.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{
        AddRunTagsRequest, CancelRunRequest, GetRunRequest, GetRunResponse, ListRunsRequest, RescheduleRunRequest,
        RunField,
    },
};
use http::StatusCode;
use serde_json::{json, value::RawValue};

use super::{
    List, Pagination, presign,
    run_json::{RunItem, STORED},
    trigger::delay_until,
};
use crate::{
    Gateway,
    auth::Caller,
    base_url::BaseUrl,
    body::{self, Capped, MEDIUM_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    query::{Page, Query},
    time,
    validate::Issues,
};

pub(crate) async fn get<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    base: BaseUrl,
) -> Result<Response, Failure> {
    let request = caller.request(GetRunRequest { run_id: params.get("run")? });
    let answer = gateway.api.get_run(request).await.map_err(|s| Failure::of(&s, Route::ReadRun))?.into_inner();
    Ok(in_full(&gateway, &caller, &base, &answer).await)
}

/// With the URLs of what lies in packets.
async fn in_full<A: Api>(gateway: &Gateway<A>, caller: &Caller, base: &BaseUrl, answer: &GetRunResponse) -> Response {
    let run = answer.run.clone().unwrap_or_default();
    let url = async |content_type: &str, field: RunField| match content_type {
        STORED => presign::run_value_url(gateway, caller, base, &run.id, field).await,
        _ => None,
    };
    let payload_url = url(&run.payload_type, RunField::Payload).await;
    let output_url = url(run.output_type.as_deref().unwrap_or_default(), RunField::Output).await;
    json::response(StatusCode::OK, &RunItem::full(answer, payload_url, output_url))
}

pub(crate) async fn list<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    let Page { size, token, cursor, .. } = query.page_either_way()?;
    let (from, to) = query.created()?;
    let text = |name| query.one(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let request = caller.request(ListRunsRequest {
        statuses: query.list("filter[status]"),
        task_identifiers: query.list("filter[taskIdentifier]"),
        session: None,
        tags: query.list("filter[tag]"),
        page_size: size,
        page_token: token,
        versions: query.list("filter[version]"),
        queues: query.list("filter[queue]"),
        machines: query.list("filter[machine]"),
        regions: query.list("filter[region]"),
        batch_id: text("filter[batch]"),
        bulk_action_id: text("filter[bulkAction]"),
        parent_run_id: None,
        is_test: query.boolean("filter[isTest]")?,
        created_from: from.map(time::from_ms),
        created_to: to.map(time::from_ms),
        schedule_id: text("filter[schedule]"),
    });
    let answer = gateway.api.list_runs(request).await.map_err(|s| Failure::of(&s, Route::List(cursor)))?.into_inner();
    let data: Vec<_> = answer.runs.iter().map(|run| RunItem::in_list(run, &caller.environment_id)).collect();
    let pagination = Pagination { next: answer.next_page_token, previous: answer.previous_page_token };
    Ok(json::response(StatusCode::OK, &List { data, pagination }))
}

pub(crate) async fn cancel<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    let run_id = params.get("run")?;
    let request = caller.request(CancelRunRequest { run_id: run_id.clone() });
    let answer = gateway.api.cancel_run(request).await.map_err(|s| Failure::of(&s, Route::CancelRun))?.into_inner();
    Ok(json::response(StatusCode::OK, &json!({ "id": answer.run.map_or(run_id, |run| run.id) })))
}

pub(crate) async fn reschedule<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    base: BaseUrl,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let run_id = params.get("run")?;
    let delay_until = delay(body::json(&body)?)?;
    // Read first: who may not be shown the run must not have moved it when that is told.
    let request = caller.request(GetRunRequest { run_id: run_id.clone() });
    let read = gateway.api.get_run(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?.into_inner();
    let request = caller.request(RescheduleRunRequest { run_id, delay_until });
    let moved = gateway.api.reschedule_run(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?.into_inner();
    let answer = GetRunResponse { run: moved.run, ..read };
    Ok(in_full(&gateway, &caller, &base, &answer).await)
}

fn delay(body: &RawValue) -> Result<Option<prost_types::Timestamp>, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    object.required("delay");
    let delay = delay_until(&object);
    issues.finish()?;
    Ok(delay)
}

pub(crate) async fn add_tags<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<MEDIUM_BYTES_MAX>,
) -> Result<Response, Failure> {
    let run_id = params.get("run")?;
    let tags = tags(body::json(&body)?)?;
    let count = tags.len();
    let request = caller.request(AddRunTagsRequest { run_id, tags });
    gateway.api.add_run_tags(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?;
    Ok(json::response(StatusCode::OK, &json!({ "message": format!("Successfully set {count} new tags.") })))
}

fn tags(body: &RawValue) -> Result<Vec<String>, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    object.required("tags");
    let tags = object.string_or_strings("tags");
    issues.finish()?;
    Ok(tags)
}
