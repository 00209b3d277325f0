//! Runs.

use super::{looked_up, or_json_type, page_size, page_token, session, time};
use crate::convert::PAGE_SIZE_DEFAULT;
use continuo_domain::error::Violations;
use continuo_domain::principal::Principal;
use continuo_domain::run::{ATTEMPTS_DEFAULT, NewRun, Run, RunError, RunStatus};
use continuo_domain::session::{Json, MACHINES, SessionRef};
use continuo_domain::{Result, RunId, Timestamp};
use continuo_ports::run_store::RunFilter;
use continuo_proto::v1;

/// Reads a run's id.
pub(crate) fn parse_id(text: &str) -> Result<RunId> {
    parse_id_in("run_id", text)
}

/// Reads a run's id from another field.
pub(crate) fn parse_id_in(field: &str, text: &str) -> Result<RunId> {
    looked_up(field, text, RunId::PREFIX, RunId::parse, RunId::from_body)
}

/// Reads a trigger. All that is wrong with it is reported at once.
pub(crate) fn parse_trigger(wire: v1::TriggerRunRequest, caller: &Principal, id: RunId) -> Result<NewRun> {
    let mut found = Violations::new();
    let delay_until = found.take(time::parse("delay_until", wire.delay_until))?.flatten();
    let metadata = found.take(parse_metadata(wire.metadata_json))?.flatten();
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
    };
    if run.machine.as_deref().is_some_and(|machine| !MACHINES.contains(&machine)) {
        found.add("machine", format!("must be one of {}", MACHINES.join(", ")));
    }
    found.take(run.check())?;
    found.finish()?;
    Ok(run)
}

/// Reads a run's metadata.
pub(crate) fn parse_metadata(text: Option<String>) -> Result<Option<Json>> {
    text.map(|text| Json::parse_object("metadata_json", text)).transpose()
}

/// A list of runs that is asked for.
pub(crate) struct ListRuns {
    pub(crate) filter: RunFilter,
    pub(crate) session: Option<SessionRef>,
    pub(crate) after: Option<RunId>,
    pub(crate) page_size: u32,
}

/// Reads a list.
pub(crate) fn parse_list(wire: v1::ListRunsRequest) -> Result<ListRuns> {
    let mut found = Violations::new();
    let statuses = found.take(parse_statuses(&wire.statuses))?.unwrap_or_default();
    let asked = wire.session.as_deref().map(|text| session::parse_ref("session", text)).transpose();
    let session = found.take(asked)?.flatten();
    let size = found.take(page_size(wire.page_size, PAGE_SIZE_DEFAULT))?.unwrap_or(PAGE_SIZE_DEFAULT);
    let after = found.take(page_token::parse_runs(&wire.page_token))?.flatten();
    found.finish()?;
    let filter = RunFilter { statuses, task_identifiers: wire.task_identifiers, session: None, tags: wire.tags };
    Ok(ListRuns { filter, session, after, page_size: size })
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
    }
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
