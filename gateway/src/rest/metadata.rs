//! `/api/v1/runs/{run}/metadata`.
//!
//! The SDK inside a run sends changes (`set`, `append`, `increment` …), not the result. They are composed here as any
//! client could: read, change, replace. One run flushes one change after the other, so nothing is lost to itself.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{GetRunRequest, Run, UpdateRunMetadataRequest},
};
use http::StatusCode;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    Gateway,
    auth::Caller,
    body::{self, Capped, PAYLOAD_BYTES_MAX},
    error::{Failure, Route},
    json,
    paths::Params,
    validate::Issues,
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
    let run_id = params.get("run")?;
    let (given, operations) = parse(body::json(&body)?)?;
    let metadata_json = match (given, operations.as_slice()) {
        (Some(given), []) => Some(given),
        (None, []) => return Ok(answer(&read(&gateway, &caller, run_id).await?)),
        (given, operations) => {
            let before = match given {
                Some(given) => Some(given),
                None => read(&gateway, &caller, run_id.clone()).await?.metadata_json,
            };
            Some(apply(before.as_deref().unwrap_or("{}"), operations))
        }
    };
    let request = caller.request(UpdateRunMetadataRequest { run_id, metadata_json });
    let updated = gateway.api.update_run_metadata(request).await.map_err(|s| Failure::of(&s, Route::ChangeRun))?;
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

/// The new metadata, if given, and the changes. Runs have no parents here, and a run without a parent is its own: changes
/// meant for parent and root are made on it too.
fn parse(body: &RawValue) -> Result<(Option<String>, Vec<Operation>), Failure> {
    let issues = Issues::default();
    let object = issues.object(body);
    let metadata = object.object_text("metadata");
    let mut operations = Vec::new();
    for name in ["operations", "parentOperations", "rootOperations"] {
        let Some(raw) = object.raw(name) else { continue };
        match serde_json::from_str::<Vec<Operation>>(raw.get()) {
            Ok(mut found) => operations.append(&mut found),
            Err(_) => object.problem(name, "Invalid input"),
        }
    }
    issues.finish()?;
    Ok((metadata, operations))
}

type Object = IndexMap<String, Box<RawValue>>;

fn apply(before: &str, operations: &[Operation]) -> String {
    let mut object: Object = serde_json::from_str(before).unwrap_or_default();
    for operation in operations {
        apply_one(&mut object, operation);
    }
    serde_json::to_string(&object).unwrap_or_else(|_| before.to_owned())
}

/// What does not apply is passed over, as in the SDK's own bookkeeping.
fn apply_one(object: &mut Object, Operation { r#type, key, value }: &Operation) {
    let path = key.strip_prefix("$.").unwrap_or_default();
    match (r#type.as_str(), value) {
        ("update", Some(value)) => {
            if let Ok(whole) = serde_json::from_str(value.get()) {
                *object = whole;
            }
        }
        ("delete", _) => {
            object.shift_remove(key);
        }
        ("set", Some(value)) if path.is_empty() => {
            object.insert(key.clone(), value.clone());
        }
        (change, Some(value)) => {
            let (top, inner) =
                if path.is_empty() { (key.as_str(), "") } else { path.split_once('.').unwrap_or((path, "")) };
            let Ok(value) = serde_json::from_str(value.get()) else { return };
            let mut whole = object.get(top).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null);
            let Some(place) = at(&mut whole, inner) else { return };
            if change_value(place, change, value).is_some()
                && let Ok(raw) = serde_json::value::to_raw_value(&whole)
            {
                object.insert(top.to_owned(), raw);
            }
        }
        (_, None) => {}
    }
}

/// The place a dotted path names, made if it is not there.
fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.into_iter().try_fold(value, |value, step| {
        if value.is_null() {
            *value = json!({});
        }
        match value {
            Value::Object(object) => Some(object.entry(step).or_insert(Value::Null)),
            Value::Array(array) => array.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        }
    })
}

/// `None` if the change does not fit what is there.
fn change_value(place: &mut Value, change: &str, value: Value) -> Option<()> {
    match (change, &mut *place) {
        ("set", _) => *place = value,
        ("append", Value::Array(array)) => array.push(value),
        ("append", Value::Null) => *place = Value::Array(vec![value]),
        ("append", _) => *place = Value::Array(vec![place.take(), value]),
        ("remove", Value::Array(array)) => array.retain(|item| *item != value),
        ("increment", current) => {
            let whole = (current.as_i64().or((!current.is_number()).then_some(0)), value.as_i64());
            *place = match whole {
                (Some(a), Some(b)) => json!(a.checked_add(b)?),
                _ => json!(current.as_f64().unwrap_or(0.0) + value.as_f64()?),
            };
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_order_and_the_rest_stays_as_it_is() {
        let operations: Vec<Operation> = serde_json::from_str(
            r#"[{"type":"set","key":"a","value":{"z":1,"b":1.50}},
                {"type":"append","key":"list","value":1},{"type":"append","key":"list","value":2},
                {"type":"remove","key":"list","value":1},
                {"type":"increment","key":"n","value":2},{"type":"increment","key":"n","value":0.5},
                {"type":"set","key":"$.deep.er","value":true},
                {"type":"delete","key":"gone"},{"type":"remove","key":"n","value":1},{"type":"odd","key":"n","value":1}]"#,
        )
        .unwrap();
        assert_eq!(
            apply(r#"{"kept":1.0,"gone":1}"#, &operations),
            r#"{"kept":1.0,"a":{"z":1,"b":1.50},"list":[2],"n":2.5,"deep":{"er":true}}"#
        );
    }

    #[test]
    fn update_replaces() {
        let operations: Vec<Operation> = serde_json::from_str(r#"[{"type":"update","value":{"x":1}}]"#).unwrap();
        assert_eq!(apply(r#"{"a":1}"#, &operations), r#"{"x":1}"#);
    }
}
