//! Runs.

use super::{looked_up, or_json_type, page_size, page_token, session, time};
use crate::convert::PAGE_SIZE_DEFAULT;
use continuo_domain::error::Violations;
use continuo_domain::principal::Principal;
use continuo_domain::run::{ATTEMPTS_DEFAULT, Debounce, KeyScope, MetadataOperation, MetadataUpdate, MetadataVerb};
use continuo_domain::run::{NewRun, Run, RunError, RunStatus, UserKey};
use continuo_domain::session::{Json, MACHINES, SessionRef};
use continuo_domain::{EnvironmentId, Result, RunId, Timestamp, Violation};
use continuo_ports::run_store::{PageFrom, QueueCounts, RunFilter};
use continuo_proto::v1;
use continuo_usecases::TriggeredBy;

/// Reads a run's id.
pub(crate) fn parse_id(text: &str) -> Result<RunId> {
    parse_id_in("run_id", text)
}

/// Reads a run's id from another field.
pub(crate) fn parse_id_in(field: &str, text: &str) -> Result<RunId> {
    looked_up(field, text, RunId::PREFIX, RunId::parse, RunId::from_body)
}

/// Reads a trigger. All that is wrong with it is reported at once.
pub(crate) fn parse_trigger(
    wire: v1::TriggerRunRequest,
    caller: &Principal,
    id: RunId,
    now: Timestamp,
) -> Result<(NewRun, Option<TriggeredBy>)> {
    let mut found = Violations::new();
    let debounce = wire.debounce.map(parse_debounce);
    let delay_until = found.take(time::parse("delay_until", wire.delay_until))?.flatten();
    if debounce.is_some() && delay_until.is_some() {
        found.add("delay_until", "is given by debounce.delay_ms, if there is a debounce");
    }
    let delay_until = debounce.as_ref().map(|debounce| now.plus_ms(debounce.delay_ms)).or(delay_until);
    let user_key = found.take(wire.idempotency_key_options.map(parse_user_key).transpose())?.flatten();
    let metadata = found.take(parse_metadata(wire.metadata_json))?.flatten();
    let limits =
        found.take(wire.limits_json.map(|text| Json::parse_object("limits_json", text)).transpose())?.flatten();
    let run = NewRun {
        id,
        environment: caller.environment.clone(),
        session: None,
        task_identifier: wire.task_identifier,
        payload: wire.payload,
        payload_type: or_json_type(wire.payload_type),
        queue: wire.queue,
        queue_limit: wire.queue_concurrency_limit,
        concurrency_key: wire.concurrency_key,
        priority: wire.priority,
        machine: wire.machine,
        region: wire.region,
        lock_to_version: wire.lock_to_version,
        max_attempts: wire.max_attempts.unwrap_or(ATTEMPTS_DEFAULT),
        max_duration_s: wire.max_duration_s,
        ttl_ms: wire.ttl_ms,
        delay_until,
        idempotency_key: wire.idempotency_key,
        idempotency_key_ttl_ms: wire.idempotency_key_ttl_ms,
        tags: wire.tags,
        metadata,
        is_test: wire.is_test,
        external_deployment_id: wire.external_deployment_id,
        parent: None,
        batch: wire.batch_id,
        bulk_action: wire.bulk_action_id,
        limits,
        user_key,
        debounce,
    };
    if run.machine.as_deref().is_some_and(|machine| !MACHINES.contains(&machine)) {
        found.add("machine", format!("must be one of {}", MACHINES.join(", ")));
    }
    found.take(run.check())?;
    let parent = wire.parent_run_id.as_deref().map(|id| parse_id_in("parent_run_id", id));
    let parent = found.take(parent.transpose())?.flatten();
    if wire.resume_parent_on_completion && wire.parent_run_id.is_none() {
        found.add("parent_run_id", "is required for a parent that waits");
    }
    found.finish()?;
    let waits = wire.resume_parent_on_completion;
    Ok((run, parent.map(|run| TriggeredBy { run, waits, lease: wire.parent_lease })))
}

/// Reads another start.
pub(crate) fn parse_reschedule(wire: v1::RescheduleRunRequest) -> Result<(RunId, Timestamp)> {
    let mut found = Violations::new();
    let run = found.take(parse_id(&wire.run_id))?;
    let at = time::parse("delay_until", wire.delay_until);
    let at = found.take(at.and_then(|at| Ok(at.ok_or(Violation::new("delay_until", "is required"))?)))?;
    found.finish()?;
    run.zip(at).ok_or_else(session::nothing_parsed)
}

fn parse_debounce(wire: v1::Debounce) -> Debounce {
    let v1::Debounce { key, delay_ms, is_trailing, max_delay_ms } = wire;
    Debounce { key, delay_ms, is_trailing, max_delay_ms }
}

fn parse_user_key(wire: v1::IdempotencyKeyOptions) -> Result<UserKey> {
    let problem = "must be run, attempt or global";
    let scope = KeyScope::parse(&wire.scope).ok_or_else(|| Violation::new("idempotency_key_options.scope", problem))?;
    Ok(UserKey { key: wire.key, scope })
}

/// Reads a change of metadata.
pub(crate) fn parse_update(wire: v1::UpdateRunMetadataRequest) -> Result<(RunId, MetadataUpdate)> {
    let mut found = Violations::new();
    let run = found.take(parse_id(&wire.run_id))?;
    let given = found.take(parse_metadata(wire.metadata_json))?.flatten();
    let own = parse_operations("operations", wire.operations, &mut found)?;
    let parent = parse_operations("parent_operations", wire.parent_operations, &mut found)?;
    let root = parse_operations("root_operations", wire.root_operations, &mut found)?;
    found.finish()?;
    let has_operations = !(own.is_empty() && parent.is_empty() && root.is_empty());
    let replace = if given.is_none() && has_operations { None } else { Some(given) };
    let run = run.ok_or_else(session::nothing_parsed)?;
    Ok((run, MetadataUpdate { replace, own, parent, root }))
}

fn parse_operations(
    field: &str,
    wire: Vec<v1::MetadataOperation>,
    found: &mut Violations,
) -> Result<Vec<MetadataOperation>> {
    let mut operations = Vec::with_capacity(wire.len());
    for (i, operation) in wire.into_iter().enumerate() {
        let at = |name: &str| format!("{field}[{i}].{name}");
        let Some(verb) = parse_verb(operation.verb()) else {
            found.add(at("verb"), "must be SET, DELETE, APPEND, REMOVE, INCREMENT or UPDATE");
            continue;
        };
        let value = operation.value_json.map(|text| Json::parse(&at("value_json"), text)).transpose();
        let value = found.take(value)?.flatten().map(|json| json.as_str().to_owned());
        operations.push(MetadataOperation { verb, key: operation.key, value });
    }
    Ok(operations)
}

fn parse_verb(verb: v1::MetadataVerb) -> Option<MetadataVerb> {
    match verb {
        v1::MetadataVerb::Unspecified => None,
        v1::MetadataVerb::Set => Some(MetadataVerb::Set),
        v1::MetadataVerb::Delete => Some(MetadataVerb::Delete),
        v1::MetadataVerb::Append => Some(MetadataVerb::Append),
        v1::MetadataVerb::Remove => Some(MetadataVerb::Remove),
        v1::MetadataVerb::Increment => Some(MetadataVerb::Increment),
        v1::MetadataVerb::Update => Some(MetadataVerb::Update),
    }
}

/// Reads a run's metadata.
pub(crate) fn parse_metadata(text: Option<String>) -> Result<Option<Json>> {
    text.map(|text| Json::parse_object("metadata_json", text)).transpose()
}

/// A list of runs that is asked for.
pub(crate) struct ListRuns {
    pub(crate) filter: RunFilter,
    pub(crate) session: Option<SessionRef>,
    pub(crate) from: PageFrom<RunId>,
    pub(crate) page_size: u32,
}

/// Reads a list.
pub(crate) fn parse_list(environment: &EnvironmentId, wire: v1::ListRunsRequest) -> Result<ListRuns> {
    let mut found = Violations::new();
    let statuses = found.take(parse_statuses(&wire.statuses))?.unwrap_or_default();
    let asked = wire.session.as_deref().map(|text| session::parse_ref("session", text)).transpose();
    let session = found.take(asked)?.flatten();
    let size = found.take(page_size(wire.page_size, PAGE_SIZE_DEFAULT))?.unwrap_or(PAGE_SIZE_DEFAULT);
    let from = found.take(page_token::parse_runs(environment, &wire.page_token))?.unwrap_or_default();
    let parent = wire.parent_run_id.as_deref().map(|id| parse_id_in("parent_run_id", id));
    let filter = RunFilter {
        statuses,
        task_identifiers: wire.task_identifiers,
        session: None,
        tags: wire.tags,
        versions: wire.versions,
        queues: wire.queues,
        machines: wire.machines,
        regions: wire.regions,
        batch: wire.batch_id,
        bulk_action: wire.bulk_action_id,
        parent: found.take(parent.transpose())?.flatten(),
        is_test: wire.is_test,
        created_from: found.take(time::parse("created_from", wire.created_from))?.flatten(),
        created_to: match wire.schedule_id {
            // No run was made by a schedule, and none before the beginning of time.
            Some(_) => Some(Timestamp(i64::MIN)),
            None => found.take(time::parse("created_to", wire.created_to))?.flatten(),
        },
    };
    found.finish()?;
    Ok(ListRuns { filter, session, from, page_size: size })
}

/// A public status stands for every status that is shown as it.
fn parse_statuses(public: &[String]) -> Result<Vec<RunStatus>> {
    let (mut statuses, mut found) = (Vec::new(), Violations::new());
    for (i, name) in public.iter().enumerate() {
        let before = statuses.len();
        statuses.extend(RunStatus::ALL.into_iter().filter(|s| s.public() == name));
        if statuses.len() == before {
            found.add(format!("statuses[{i}]"), "is not a status of a run");
        }
    }
    found.finish()?;
    Ok(statuses)
}

/// Reads why a run failed. Refusing a failure without a reason would cost the worker all of its runs.
pub(crate) fn parse_error(wire: Option<v1::RunError>) -> RunError {
    match wire {
        Some(wire) => RunError { name: wire.name, message: wire.message, stack_trace: wire.stack_trace },
        None => RunError::new("Error", "The worker gave no reason"),
    }
}

/// Prints a run.
pub(crate) fn print(run: &Run, now: Timestamp) -> v1::Run {
    v1::Run { payload: run.spec.payload.clone(), output: run.output.clone(), ..print_in_list(run, now) }
}

/// Without payload and output: a page of them could be longer than a client takes.
pub(crate) fn print_in_list(run: &Run, now: Timestamp) -> v1::Run {
    let stretch_ms = run.executing_since.map_or(0, |since| now.ms_since(since));
    v1::Run {
        id: run.spec.id.as_str().to_owned(),
        status: run.status.public().to_owned(),
        task_identifier: run.spec.task_identifier.clone(),
        session_id: run.spec.session.as_ref().map(|s| s.as_str().to_owned()),
        snapshot: run.snapshot,
        attempt_count: run.attempt_number,
        payload: String::new(),
        payload_type: run.spec.payload_type.clone(),
        output: None,
        output_type: run.output_type.clone(),
        error: run.error.as_ref().map(print_error),
        tags: run.spec.tags.clone(),
        metadata_json: run.spec.metadata.as_ref().map(|m| m.as_str().to_owned()),
        idempotency_key: run.spec.idempotency_key.clone(),
        is_test: run.spec.is_test,
        duration_ms: run.executed_ms.saturating_add(stretch_ms),
        created_at: Some(time::print(run.created_at)),
        updated_at: Some(time::print(run.updated_at)),
        started_at: run.started_at.map(time::print),
        finished_at: run.completed_at.map(time::print),
        delayed_until: run.spec.delay_until.map(time::print),
        ttl_ms: run.spec.ttl_ms,
        version: run.spec.lock_to_version.clone(),
        priority: run.spec.priority,
        external_deployment_id: run.spec.external_deployment_id.clone(),
        parent_run_id: run.spec.parent.as_ref().map(|p| p.run.as_str().to_owned()),
        root_run_id: run.spec.parent.as_ref().map(|p| p.root.as_str().to_owned()),
        depth: run.spec.parent.as_ref().map_or(0, |p| p.depth),
        parent_waits: run.spec.parent.as_ref().is_some_and(|p| p.waits),
        batch_id: run.spec.batch.clone(),
        bulk_action_id: run.spec.bulk_action.clone(),
        limits_json: run.spec.limits.as_ref().map(|limits| limits.as_str().to_owned()),
        machine: run.spec.machine.clone(),
        region: run.spec.region.clone(),
        queue: run.queue(),
        queue_concurrency_limit: run.spec.queue_limit,
        concurrency_key: run.spec.concurrency_key.clone(),
        idempotency_key_options: run
            .spec
            .user_key
            .as_ref()
            .map(|user| v1::IdempotencyKeyOptions { key: user.key.clone(), scope: user.scope.as_str().to_owned() }),
        idempotency_key_ttl_ms: run.spec.idempotency_key_ttl_ms,
        debounce: run.spec.debounce.as_ref().map(print_debounce),
        max_attempts: run.spec.max_attempts,
        max_duration_s: run.spec.max_duration_s,
    }
}

/// Prints a queue.
pub(crate) fn print_queue(queue: QueueCounts) -> v1::Queue {
    v1::Queue {
        name: queue.name,
        pending: queue.pending,
        delayed: queue.delayed,
        dequeued: queue.dequeued,
        executing: queue.executing,
        retrying: queue.retrying,
        waiting: queue.waiting,
        oldest_pending_at: queue.oldest_pending_at.map(time::print),
    }
}

fn print_debounce(debounce: &Debounce) -> v1::Debounce {
    let Debounce { key, delay_ms, is_trailing, max_delay_ms } = debounce;
    v1::Debounce { key: key.clone(), delay_ms: *delay_ms, is_trailing: *is_trailing, max_delay_ms: *max_delay_ms }
}

fn print_error(error: &RunError) -> v1::RunError {
    v1::RunError { name: error.name.clone(), message: error.message.clone(), stack_trace: error.stack_trace.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_public_spellings() {
        let names = ["EXECUTING".to_owned(), "COMPLETED".to_owned()];
        let wanted = [RunStatus::Executing, RunStatus::RetryingAfterFailure, RunStatus::CompletedSuccessfully];
        assert_eq!(parse_statuses(&names).unwrap(), wanted);
        let error = parse_statuses(&["QUEUED".to_owned(), "PENDING".to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("statuses[1]: "), "{error}");
    }
}
