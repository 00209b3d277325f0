//! Resources as JSON, for `--json`: the fields of the proto under their names.

use continuo_proto::v1::{
    ApiKey, ChannelSummary, Environment, Queue, Record, Run, Session, SessionRun, SessionStatus, Worker,
};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};

pub(super) fn session(session: &Session) -> Value {
    compact(json!({
        "id": session.id,
        "external_id": session.external_id,
        "type": session.r#type,
        "task_identifier": session.task_identifier,
        "status": status_name(session.status()),
        "current_run_id": session.current_run_id,
        "current_run_version": session.current_run_version,
        "tags": session.tags,
        "metadata": session.metadata_json.as_deref().map(parsed),
        "base_payload": session.trigger_config.as_ref().map(|config| parsed(&config.base_payload_json)),
        "closed_at": time(session.closed_at),
        "closed_reason": session.closed_reason,
        "expires_at": time(session.expires_at),
        "created_at": time(session.created_at),
        "updated_at": time(session.updated_at),
        "boot_failures": session.boot_backoff.as_ref().map(|backoff| backoff.failures),
        "boot_retry_at": session.boot_backoff.as_ref().and_then(|backoff| time(backoff.retry_at)),
        "boot_last_error": session.boot_backoff.as_ref().map(|backoff| &backoff.last_error),
    }))
}

pub(super) fn session_run(row: &SessionRun) -> Value {
    compact(json!({
        "run_id": row.run_id,
        "reason": row.reason,
        "version": row.version,
        "triggered_at": time(row.triggered_at),
        "run": row.run.as_ref().map(run),
    }))
}

pub(super) fn run(run: &Run) -> Value {
    compact(json!({
        "id": run.id,
        "status": run.status,
        "task_identifier": run.task_identifier,
        "session_id": run.session_id,
        "attempt_count": run.attempt_count,
        "duration_ms": run.duration_ms,
        "output": run.output,
        "error": run.error.as_ref().map(|error| json!({"name": error.name, "message": error.message})),
        "created_at": time(run.created_at),
        "started_at": time(run.started_at),
        "finished_at": time(run.finished_at),
    }))
}

pub(super) fn channel(channel: &ChannelSummary) -> Value {
    let tail = channel.tail.unwrap_or_default();
    json!({
        "name": channel.name,
        "direction": channel.direction().as_str_name().trim_start_matches("DIRECTION_"),
        "tail": {"seq_num": tail.seq_num, "timestamp_ms": tail.timestamp_ms},
        "earliest_seq_num": channel.earliest_seq_num,
    })
}

pub(super) fn worker(worker: &Worker) -> Value {
    compact(json!({
        "worker_id": worker.worker_id,
        "version": worker.version,
        "task_identifiers": worker.task_identifiers,
        "capacity": worker.capacity,
        "held_leases": worker.held_leases,
        "is_draining": worker.is_draining,
        "connected_at": time(worker.connected_at),
        "seen_at": time(worker.seen_at),
    }))
}

pub(super) fn queue(queue: &Queue) -> Value {
    compact(json!({
        "name": queue.name,
        "pending": queue.pending,
        "delayed": queue.delayed,
        "dequeued": queue.dequeued,
        "executing": queue.executing,
        "retrying": queue.retrying,
        "waiting": queue.waiting,
        "oldest_pending_at": time(queue.oldest_pending_at),
    }))
}

pub(super) fn record(record: &Record) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers.iter().map(|header| json!([text(&header.name), text(&header.value)]));
    let mut value = json!({
        "seq_num": record.seq_num,
        "timestamp_ms": record.timestamp_ms,
        "headers": headers.collect::<Vec<_>>(),
    });
    match envelope(record) {
        Some(mut envelope) => {
            value["data"] = envelope["data"].take();
            value["id"] = envelope["id"].take();
        }
        None => value["body"] = Value::String(text(&record.body)),
    }
    value
}

/// The JSON envelope of a data record.
pub(super) fn envelope(record: &Record) -> Option<Value> {
    let value: Value = serde_json::from_slice(&record.body).ok()?;
    value.get("data").is_some().then_some(value)
}

pub(super) fn environment(environment: &Environment) -> Value {
    json!({
        "id": environment.id,
        "type": environment.r#type,
        "slug": environment.slug,
        "project_id": environment.project_id,
        "organization_id": environment.organization_id,
    })
}

pub(super) fn api_key(key: &ApiKey) -> Value {
    compact(json!({
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "created_at": time(key.created_at),
        "revoked_at": time(key.revoked_at),
    }))
}

pub(super) fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

pub(super) fn status_name(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Unspecified => "UNKNOWN",
        SessionStatus::Active => "ACTIVE",
        SessionStatus::Closed => "CLOSED",
        SessionStatus::Expired => "EXPIRED",
    }
}

/// JSON text as a value, so that it is not shown as a text within the text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// What is not set is left out.
fn compact(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into(),
        value => value,
    }
}
