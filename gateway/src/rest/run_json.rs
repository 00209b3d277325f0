//! A run as clients see it.

use std::{borrow::Cow, sync::LazyLock};

use continuo_proto::v1::{GetRunResponse, Run, RunError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    json::{self, Entries},
    time,
};

/// Content type of a payload that is the name of a packet.
pub(crate) const STORED: &str = "application/store";

/// The run object. Costs exist for clients that require the fields; runs have none here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunItem<'a> {
    id: &'a str,
    status: &'a str,
    task_identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    is_queued: bool,
    is_executing: bool,
    is_waiting: bool,
    is_completed: bool,
    is_success: bool,
    is_failed: bool,
    is_cancelled: bool,
    is_test: bool,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_at: Option<String>,
    tags: &'a [String],
    cost_in_cents: u32,
    base_cost_in_cents: u32,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    depth: u32,
    trigger_function: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_deployment_id: Option<&'a str>,
    attempt_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Environment<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_presigned_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_presigned_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorItem<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    related_runs: Option<RelatedRuns<'a>>,
}

#[derive(Serialize)]
struct Environment<'a> {
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct RelatedRuns<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<Box<RunItem<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Box<RunItem<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<RunItem<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorItem<'a> {
    message: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_trace: Option<&'a str>,
}

/// What the services never answer.
static NOTHING: LazyLock<Run> = LazyLock::new(Run::default);

/// A payload or an output.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl<'a> RunItem<'a> {
    /// With the URLs of what lies in packets.
    pub(crate) fn full(answer: &'a GetRunResponse, payload_url: Option<String>, output_url: Option<String>) -> Self {
        let run = answer.run.as_ref().unwrap_or(&NOTHING);
        let output_type = run.output_type.as_deref().unwrap_or_default();
        Self {
            payload: value(&run.payload, &run.payload_type),
            payload_presigned_url: payload_url,
            output: run.output.as_deref().and_then(|text| value(text, output_type)),
            output_presigned_url: output_url,
            error: run.error.as_ref().map(|RunError { name, message, stack_trace }| ErrorItem {
                message,
                name,
                stack_trace: stack_trace.as_deref(),
            }),
            related_runs: Some(RelatedRuns {
                root: answer.root.as_ref().map(|run| Box::new(Self::related(run))),
                parent: answer.parent.as_ref().map(|run| Box::new(Self::related(run))),
                children: answer.children.iter().map(Self::related).collect(),
            }),
            ..Self::related(run)
        }
    }

    /// Beside another run.
    fn related(run: &'a Run) -> Self {
        Self { env: None, ..Self::in_list(run, "") }
    }

    pub(crate) fn in_list(run: &'a Run, environment_id: &'a str) -> Self {
        let status = run.status.as_str();
        let is_completed = matches!(
            status,
            "COMPLETED" | "CANCELED" | "FAILED" | "CRASHED" | "SYSTEM_FAILURE" | "EXPIRED" | "TIMED_OUT"
        );
        let finished_at = time::iso_opt(&run.finished_at);
        Self {
            id: &run.id,
            status,
            task_identifier: &run.task_identifier,
            // The caller's own key; a client may have made another one of it.
            idempotency_key: run
                .idempotency_key_options
                .as_ref()
                .map_or(run.idempotency_key.as_deref(), |user| Some(&user.key)),
            version: run.version.as_deref(),
            is_queued: matches!(status, "QUEUED" | "DELAYED" | "PENDING_VERSION"),
            is_executing: matches!(status, "DEQUEUED" | "EXECUTING"),
            is_waiting: status == "WAITING",
            is_completed,
            is_success: status == "COMPLETED",
            is_failed: is_completed && status != "COMPLETED",
            is_cancelled: status == "CANCELED",
            is_test: run.is_test,
            created_at: time::iso(&run.created_at.unwrap_or_default()),
            updated_at: time::iso(&run.updated_at.unwrap_or_default()),
            started_at: time::iso_opt(&run.started_at),
            expired_at: finished_at.clone().filter(|_| status == "EXPIRED"),
            finished_at,
            delayed_until: time::iso_opt(&run.delayed_until),
            ttl: run.ttl_ms.map(time::duration_text),
            tags: &run.tags,
            cost_in_cents: 0,
            base_cost_in_cents: 0,
            duration_ms: run.duration_ms,
            metadata: run.metadata_json.as_deref().and_then(json::raw),
            depth: run.depth,
            trigger_function: match (run.parent_waits, run.batch_id.is_some()) {
                (false, false) => "trigger",
                (true, false) => "triggerAndWait",
                (false, true) => "batchTrigger",
                (true, true) => "batchTriggerAndWait",
            },
            batch_id: run.batch_id.as_deref(),
            region: run.region.as_deref(),
            external_deployment_id: run.external_deployment_id.as_deref(),
            attempt_count: run.attempt_count,
            env: Some(Environment { id: environment_id, name: environment_id }),
            payload: None,
            payload_presigned_url: None,
            output: None,
            output_presigned_url: None,
            error: None,
            related_runs: None,
        }
    }
}

/// JSON is shown as the value it is. The SDK's own format wraps it under `json`, whose plain form is what the value
/// prints as. Other types are text; the name of a packet is nothing to show.
fn value<'a>(text: &'a str, content_type: &str) -> Option<Value<'a>> {
    if text.is_empty() || content_type == STORED {
        return None;
    }
    let plain = || Value::Text(Cow::Borrowed(text));
    Some(match content_type {
        "" | "application/json" => json::raw(text).map_or_else(plain, Value::Json),
        "application/super+json" => {
            Entries::parse(text).and_then(|wrapped| wrapped.get("json")).map_or_else(plain, Value::Json)
        }
        _ => plain(),
    })
}
