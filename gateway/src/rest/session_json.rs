//! A session as clients see it.

use continuo_proto::v1::{Session, SessionRun, TriggerConfig};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{json, time};

/// Every field is there, null where it has no value; `triggerConfig` alone is left out in lists.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionItem<'a> {
    id: &'a str,
    external_id: Option<&'a str>,
    r#type: &'a str,
    task_identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger_config: Option<TriggerConfigItem<'a>>,
    current_run_id: Option<&'a str>,
    tags: &'a [String],
    metadata: Option<&'a RawValue>,
    closed_at: Option<String>,
    closed_reason: Option<&'a str>,
    expires_at: Option<String>,
    created_at: String,
    updated_at: String,
}

impl<'a> SessionItem<'a> {
    pub(crate) fn full(session: &'a Session) -> Self {
        let trigger_config = session.trigger_config.as_ref().map(TriggerConfigItem::of);
        Self { trigger_config, ..Self::in_list(session) }
    }

    pub(crate) fn in_list(session: &'a Session) -> Self {
        Self {
            id: &session.id,
            external_id: session.external_id.as_deref(),
            r#type: &session.r#type,
            task_identifier: &session.task_identifier,
            trigger_config: None,
            current_run_id: session.current_run_id.as_deref(),
            tags: &session.tags,
            metadata: session.metadata_json.as_deref().and_then(json::raw),
            closed_at: time::iso_opt(&session.closed_at),
            closed_reason: session.closed_reason.as_deref(),
            expires_at: time::iso_opt(&session.expires_at),
            created_at: time::iso(&session.created_at.unwrap_or_default()),
            updated_at: time::iso(&session.updated_at.unwrap_or_default()),
        }
    }
}

/// The answer to create.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedSession<'a> {
    #[serde(flatten)]
    pub(crate) session: SessionItem<'a>,
    pub(crate) run_id: &'a str,
    pub(crate) public_access_token: &'a str,
    pub(crate) is_cached: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TriggerConfigItem<'a> {
    base_payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    concurrency: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_to_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_deployment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout_in_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<Ttl<'a>>,
}

/// Whole seconds came as a number and go out as one.
#[derive(Serialize)]
#[serde(untagged)]
enum Ttl<'a> {
    Seconds(u64),
    Duration(&'a str),
}

impl<'a> TriggerConfigItem<'a> {
    fn of(config: &'a TriggerConfig) -> Self {
        Self {
            base_payload: json::raw(&config.base_payload_json),
            machine: config.machine.as_deref(),
            queue: config.queue.as_deref(),
            concurrency: &config.concurrency,
            concurrency_key: config.concurrency_key.as_deref(),
            tags: &config.tags,
            max_attempts: config.max_attempts,
            max_duration: config.max_duration_s,
            lock_to_version: config.lock_to_version.as_deref(),
            external_deployment_id: config.external_deployment_id.as_deref(),
            region: config.region.as_deref(),
            idle_timeout_in_seconds: config.idle_timeout_s,
            ttl: config.ttl.as_deref().map(|ttl| ttl.parse().map_or(Ttl::Duration(ttl), Ttl::Seconds)),
        }
    }
}

/// A row of the audit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionRunItem<'a> {
    run_id: &'a str,
    reason: &'a str,
    version: u64,
    triggered_at: String,
    status: Option<&'a str>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

impl<'a> SessionRunItem<'a> {
    pub(crate) fn of(row: &'a SessionRun) -> Self {
        let run = row.run.as_ref();
        Self {
            run_id: &row.run_id,
            reason: &row.reason,
            version: row.version,
            triggered_at: time::iso(&row.triggered_at.unwrap_or_default()),
            status: run.map(|run| run.status.as_str()),
            started_at: run.and_then(|run| time::iso_opt(&run.started_at)),
            finished_at: run.and_then(|run| time::iso_opt(&run.finished_at)),
        }
    }
}
