//! Sessions.

use super::{looked_up, named, page_size, page_token, run, time};
use crate::convert::PAGE_SIZE_DEFAULT;
use continuo_domain::error::Violations;
use continuo_domain::run::{Run, RunReason};
use continuo_domain::session::{
    ExternalId, Json, ListFilter, PageFrom, Session, SessionPatch, SessionRef, SessionRun, SessionStatus,
    TASK_CHARS_MAX, TYPE_CHARS_MAX, TriggerConfig, check_tags,
};
use continuo_domain::text::bounded;
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp, Violation};
use continuo_proto::v1;
use continuo_usecases::{CreateSession, EndAndContinue, ListSessions, SessionPage};

const REASON_CHARS_MAX: usize = 64;

/// A session as a request names it.
pub(crate) fn parse_ref(field: &str, text: &str) -> Result<SessionRef> {
    if text.starts_with(SessionId::PREFIX) {
        let id = looked_up(field, text, SessionId::PREFIX, SessionId::parse, SessionId::from_body);
        return id.map(SessionRef::Id);
    }
    named(field, SessionRef::parse(text))
}

/// Reads a create. All that is wrong with it is reported at once.
pub(crate) fn parse_create(wire: v1::CreateSessionRequest) -> Result<CreateSession> {
    let mut found = Violations::new();
    let external_id = wire.external_id.map(|name| found.take(ExternalId::parse(&name))).transpose()?.flatten();
    found.take(bounded("type", &wire.r#type, TYPE_CHARS_MAX))?;
    found.take(bounded("task_identifier", &wire.task_identifier, TASK_CHARS_MAX))?;
    let trigger_config = parse_trigger_config(wire.trigger_config, &mut found)?;
    check_tags("tags", &wire.tags, &mut found);
    let metadata = found.take(parse_metadata(wire.metadata_json))?.flatten();
    let expires_at = found.take(time::parse("expires_at", wire.expires_at))?.flatten();
    found.finish()?;
    Ok(CreateSession {
        external_id,
        session_type: wire.r#type,
        task_identifier: wire.task_identifier,
        trigger_config,
        tags: wire.tags,
        metadata,
        expires_at,
        is_test: wire.is_test,
    })
}

fn parse_trigger_config(wire: Option<v1::TriggerConfig>, found: &mut Violations) -> Result<TriggerConfig> {
    let nothing = || TriggerConfig::new(Json::trusted("{}".to_owned()));
    let Some(wire) = wire else {
        found.add("trigger_config", "is required");
        return Ok(nothing());
    };
    let base_payload = found.take(parse_base_payload(wire.base_payload_json))?;
    let config = TriggerConfig {
        machine: wire.machine,
        queue: wire.queue,
        concurrency: wire.concurrency,
        concurrency_key: wire.concurrency_key,
        tags: wire.tags,
        max_attempts: wire.max_attempts,
        max_duration_s: wire.max_duration_s,
        lock_to_version: wire.lock_to_version,
        external_deployment_id: wire.external_deployment_id,
        region: wire.region,
        idle_timeout_s: wire.idle_timeout_s,
        ttl: wire.ttl,
        ..base_payload.map_or_else(nothing, TriggerConfig::new)
    };
    config.check(found);
    Ok(config)
}

fn parse_base_payload(text: String) -> Result<Json> {
    let field = "trigger_config.base_payload_json";
    if text.is_empty() {
        return Err(Violation::new(field, "is required; {} is the least").into());
    }
    Json::parse_object(field, text)
}

fn parse_metadata(text: Option<String>) -> Result<Option<Json>> {
    text.map(|text| Json::parse_object("metadata_json", text)).transpose()
}

/// Reads what an update changes: the fields its mask names. One that is named and not set is cleared.
pub(crate) fn parse_patch(value: Option<v1::Session>, mask: Option<prost_types::FieldMask>) -> Result<SessionPatch> {
    let (value, mut patch, mut found) = (value.unwrap_or_default(), SessionPatch::default(), Violations::new());
    for path in mask.unwrap_or_default().paths {
        match path.as_str() {
            "tags" => patch.tags = Some(value.tags.clone()),
            "metadata_json" => patch.metadata = found.take(parse_metadata(value.metadata_json.clone()))?,
            "external_id" => {
                let name = value.external_id.as_deref().map(ExternalId::parse).transpose();
                patch.external_id = found.take(name)?;
            }
            other => {
                found.add("update_mask", format!("names {other:?}; there are tags, metadata_json and external_id"))
            }
        }
    }
    check_tags("value.tags", patch.tags.as_deref().unwrap_or_default(), &mut found);
    found.finish()?;
    Ok(patch)
}

/// Reads a list.
pub(crate) fn parse_list(environment: &EnvironmentId, wire: v1::ListSessionsRequest) -> Result<ListSessions> {
    let mut found = Violations::new();
    let filter = found.take(parse_filter(wire.filter))?;
    let size = found.take(page_size(wire.page_size, PAGE_SIZE_DEFAULT))?;
    let from = found.take(page_token::parse_sessions(environment, &wire.page_token))?;
    let direction = found.take(page_direction(wire.page_direction))?;
    let wait = Some(wire.wait_as_of).filter(|text| !text.is_empty());
    let wait_as_of = found.take(wait.map(|text| text.parse()).transpose())?.flatten();
    found.finish()?;
    let (Some(filter), Some(page_size), Some(from), Some(direction)) = (filter, size, from, direction) else {
        return Err(nothing_parsed());
    };
    Ok(ListSessions { filter, page_size, from: towards(direction, from), wait_as_of })
}

fn page_direction(wire: i32) -> Result<v1::PageDirection> {
    v1::PageDirection::try_from(wire).map_err(|_| Violation::new("page_direction", "is not a known direction").into())
}

/// The same place, left in the direction that was asked for.
fn towards(direction: v1::PageDirection, from: PageFrom) -> PageFrom {
    match (direction, from) {
        (v1::PageDirection::Older, PageFrom::Before(place)) => PageFrom::After(place),
        (v1::PageDirection::Newer, PageFrom::After(place)) => PageFrom::Before(place),
        (_, from) => from,
    }
}

/// Reads a filter.
pub(crate) fn parse_filter(wire: Option<v1::SessionFilter>) -> Result<ListFilter> {
    let (wire, mut found) = (wire.unwrap_or_default(), Violations::new());
    let mut statuses = Vec::with_capacity(wire.statuses.len());
    for (i, &status) in wire.statuses.iter().enumerate() {
        match v1::SessionStatus::try_from(status) {
            Ok(v1::SessionStatus::Active) => statuses.push(SessionStatus::Active),
            Ok(v1::SessionStatus::Closed) => statuses.push(SessionStatus::Closed),
            Ok(v1::SessionStatus::Expired) => statuses.push(SessionStatus::Expired),
            Ok(v1::SessionStatus::Unspecified) | Err(_) => {
                found.add(format!("filter.statuses[{i}]"), "must be ACTIVE, CLOSED or EXPIRED");
            }
        }
    }
    let created_from = found.take(time::parse("filter.created_from", wire.created_from))?.flatten();
    let created_to = found.take(time::parse("filter.created_to", wire.created_to))?.flatten();
    found.finish()?;
    Ok(ListFilter {
        types: wire.types,
        tags: wire.tags,
        task_identifiers: wire.task_identifiers,
        external_id: wire.external_id,
        statuses,
        created_from,
        created_to,
    })
}

/// Reads a hand-over.
pub(crate) fn parse_end_and_continue(wire: v1::EndAndContinueRequest) -> Result<EndAndContinue> {
    let mut found = Violations::new();
    let session = found.take(parse_ref("session", &wire.session))?;
    let calling_run = found.take(run::parse_id_in("calling_run_id", &wire.calling_run_id))?;
    found.take(bounded("reason", &wire.reason, REASON_CHARS_MAX))?;
    if let Some(deployment) = &wire.external_deployment_id {
        found.take(bounded("external_deployment_id", deployment, TASK_CHARS_MAX))?;
    }
    found.finish()?;
    let (Some(session), Some(calling_run)) = (session, calling_run) else { return Err(nothing_parsed()) };
    let reason = RunReason::parse(&wire.reason);
    Ok(EndAndContinue { session, calling_run, reason, external_deployment_id: wire.external_deployment_id })
}

/// Cannot happen: what did not parse was noted, and what was noted has ended the parse.
pub(super) fn nothing_parsed() -> continuo_domain::Error {
    continuo_domain::Error::internal("a field neither parsed nor failed")
}

/// Prints a session.
pub(crate) fn print(row: &Session, now: Timestamp) -> v1::Session {
    v1::Session { trigger_config: Some(print_trigger_config(&row.trigger_config)), ..print_in_list(row, now) }
}

/// Prints a page.
pub(crate) fn print_page(environment: &EnvironmentId, page: &SessionPage, now: Timestamp) -> v1::ListSessionsResponse {
    let older = |position| page_token::older_sessions(environment, position);
    let newer = |position| page_token::newer_sessions(environment, position);
    v1::ListSessionsResponse {
        sessions: page.sessions.iter().map(|row| print_in_list(row, now)).collect(),
        next_page_token: page.next.as_ref().map(older).unwrap_or_default(),
        previous_page_token: page.previous.as_ref().map(newer).unwrap_or_default(),
        as_of: page.as_of.map(|position| position.to_string()).unwrap_or_default(),
    }
}

/// Without the trigger config, which may be long.
fn print_in_list(row: &Session, now: Timestamp) -> v1::Session {
    v1::Session {
        id: row.id.as_str().to_owned(),
        external_id: row.external_id.as_ref().map(|e| e.as_str().to_owned()),
        r#type: row.session_type.clone(),
        task_identifier: row.task_identifier.clone(),
        trigger_config: None,
        tags: row.tags.clone(),
        metadata_json: row.metadata.as_ref().map(|m| m.as_str().to_owned()),
        current_run_id: row.current_run.as_ref().map(|r| r.as_str().to_owned()),
        current_run_version: row.current_run_version,
        closed_at: row.closed_at.map(time::print),
        closed_reason: row.closed_reason.clone(),
        expires_at: row.expires_at.map(time::print),
        status: print_status(row.status(now)).into(),
        created_at: Some(time::print(row.created_at)),
        updated_at: Some(time::print(row.updated_at)),
        boot_backoff: print_backoff(row),
        is_test: row.is_test,
    }
}

fn print_status(status: SessionStatus) -> v1::SessionStatus {
    match status {
        SessionStatus::Active => v1::SessionStatus::Active,
        SessionStatus::Closed => v1::SessionStatus::Closed,
        SessionStatus::Expired => v1::SessionStatus::Expired,
    }
}

fn print_backoff(row: &Session) -> Option<v1::BootBackoff> {
    let boot = &row.boot;
    let backoff = || v1::BootBackoff {
        failures: boot.failures,
        retry_at: boot.retry_at.map(time::print),
        last_error: boot.last_error.clone().unwrap_or_default(),
    };
    (boot.failures > 0).then(backoff)
}

fn print_trigger_config(config: &TriggerConfig) -> v1::TriggerConfig {
    v1::TriggerConfig {
        base_payload_json: config.base_payload.as_str().to_owned(),
        machine: config.machine.clone(),
        queue: config.queue.clone(),
        concurrency: config.concurrency.clone(),
        concurrency_key: config.concurrency_key.clone(),
        tags: config.tags.clone(),
        max_attempts: config.max_attempts,
        max_duration_s: config.max_duration_s,
        lock_to_version: config.lock_to_version.clone(),
        external_deployment_id: config.external_deployment_id.clone(),
        region: config.region.clone(),
        idle_timeout_s: config.idle_timeout_s,
        ttl: config.ttl.clone(),
    }
}

/// Prints an audit row.
pub(crate) fn print_session_run((row, run): &(SessionRun, Run), now: Timestamp) -> v1::SessionRun {
    v1::SessionRun {
        run_id: row.run.as_str().to_owned(),
        reason: row.reason.as_str().to_owned(),
        version: row.version,
        triggered_at: Some(time::print(row.triggered_at)),
        run: Some(run::print_in_list(run, now)),
    }
}
