//! `/api/v1/runs/{run}/metadata`.
//!
//! The SDK inside a run sends changes (`set`, `append`, `increment` …), not the result; the services make them.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{GetRunRequest, MetadataOperation, MetadataVerb, Run, UpdateRunMetadataRequest},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Gateway,
    auth::Caller,
    body::{self, Capped, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    validate::{Issues, Object},
};

pub(crate) async fn get<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    Ok(answer(&read(&gateway, &caller, params.get("run")?).await?))
}

pub(crate) async fn put<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    Capped(body): Capped<PAYLOAD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let Some(request) = parse(params.get("run")?, body::json(&body)?)? else {
        return Ok(answer(&read(&gateway, &caller, params.get("run")?).await?));
    };
    let updated = gateway.api.update_run_metadata(caller.request(request)).await;
    let updated = updated.map_err(|s| Failure::of(&s, Route::ChangeRun))?;
    Ok(answer(&updated.into_inner().run.unwrap_or_default()))
}

async fn read<A: Api>(gateway: &Gateway<A>, caller: &Caller, run_id: String) -> Result<Run, Failure> {
    let request = caller.request(GetRunRequest { run_id });
    let answer = gateway.api.get_run(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?;
    Ok(answer.into_inner().run.unwrap_or_default())
}

fn answer(run: &Run) -> Response {
    #[derive(Serialize)]
    struct Metadata<'a> {
        metadata: Option<&'a RawValue>,
    }
    let metadata = json::raw(run.metadata_json.as_deref().unwrap_or("{}"));
    json::response(StatusCode::OK, &Metadata { metadata })
}

/// One change.
#[derive(Deserialize)]
struct Operation {
    r#type: String,
    #[serde(default)]
    key: String,
    value: Option<Box<RawValue>>,
}

/// What is to be changed; `None` if nothing is.
fn parse(run_id: String, body: &RawValue) -> Result<Option<UpdateRunMetadataRequest>, Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let request = UpdateRunMetadataRequest {
        run_id,
        metadata_json: object.object_text("metadata"),
        operations: operations(&object, "operations"),
        parent_operations: operations(&object, "parentOperations"),
        root_operations: operations(&object, "rootOperations"),
    };
    issues.finish()?;
    let lists = [&request.operations, &request.parent_operations, &request.root_operations];
    let is_empty = request.metadata_json.is_none() && lists.into_iter().all(Vec::is_empty);
    Ok((!is_empty).then_some(request))
}

fn operations(object: &Object<'_>, name: &str) -> Vec<MetadataOperation> {
    let Some(raw) = object.raw(name) else { return Vec::new() };
    let Ok(found) = serde_json::from_str::<Vec<Operation>>(raw.get()) else {
        object.problem(name, "Invalid input");
        return Vec::new();
    };
    let one = |Operation { r#type, key, value }: Operation| {
        let verb = match r#type.as_str() {
            "set" => MetadataVerb::Set,
            "delete" => MetadataVerb::Delete,
            "append" => MetadataVerb::Append,
            "remove" => MetadataVerb::Remove,
            "increment" => MetadataVerb::Increment,
            "update" => MetadataVerb::Update,
            _ => {
                object.problem(name, "Invalid discriminator value");
                MetadataVerb::Unspecified
            }
        };
        MetadataOperation { verb: verb.into(), key, value_json: value.map(|value| value.get().to_owned()) }
    };
    found.into_iter().map(one).collect()
}
