//! Run and attempt rows.

use super::{Row, at, int, ms, owned, small, uint, usmall};
use crate::entity::{Texts, attempt, run};
use continuo_domain::run::{Attempt, Debounce, KeyScope, Lease, NewRun, Parent, Run, RunError, RunStatus, UserKey};
use continuo_domain::session::Json;
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp, WaitpointId};
use sea_orm::ActiveValue::{NotSet, Set};

pub(crate) fn run(row: run::Model, payload: String) -> Result<Run> {
    let this = Row { table: "run", id: &row.id };
    let lease = (row.lease_number, row.lease_worker, row.lease_until_ms);
    let parent = match (row.parent_run_id.as_deref(), row.root_run_id.as_deref()) {
        (Some(parent), Some(root)) => Some(Parent {
            run: this.parsed(RunId::parse(parent))?,
            root: this.parsed(RunId::parse(root))?,
            depth: usmall(row.depth),
            waits: row.parent_waits,
        }),
        _ => None,
    };
    let user_key = match (row.user_key, row.user_key_scope) {
        (Some(key), Some(scope)) => {
            Some(UserKey { key, scope: this.known("user_key_scope", KeyScope::parse(&scope))? })
        }
        _ => None,
    };
    Ok(Run {
        status: this.known("status", RunStatus::parse(&row.status))?,
        waiting_on: this.parsed(row.waiting_on.as_deref().map(WaitpointId::parse).transpose())?,
        spec: NewRun {
            environment: this.parsed(EnvironmentId::parse(&row.environment_id))?,
            session: this.parsed(row.session_id.as_deref().map(SessionId::parse).transpose())?,
            id: this.parsed(RunId::parse(&row.id))?,
            task_identifier: row.task_identifier,
            payload,
            payload_type: row.payload_type,
            queue: row.queue,
            queue_limit: row.queue_limit.map(usmall),
            concurrency_key: row.concurrency_key,
            priority: row.priority,
            machine: row.machine,
            region: row.region,
            lock_to_version: row.lock_to_version,
            max_attempts: usmall(row.max_attempts),
            max_duration_s: row.max_duration_s.map(usmall),
            ttl_ms: row.ttl_ms.map(uint),
            delay_until: at(row.delay_until_ms),
            idempotency_key: row.idempotency_key,
            idempotency_key_ttl_ms: row.idempotency_key_ttl_ms.map(uint),
            tags: row.tags.0,
            metadata: row.metadata.map(Json::trusted),
            is_test: row.is_test,
            external_deployment_id: row.external_deployment_id,
            parent,
            batch: row.batch_id,
            bulk_action: row.bulk_action_id,
            limits: row.limits.map(Json::trusted),
            user_key,
            debounce: row.debounce_key.map(|key| Debounce {
                key,
                delay_ms: uint(row.debounce_delay_ms.unwrap_or(0)),
                is_trailing: row.debounce_is_trailing,
                max_delay_ms: row.debounce_max_delay_ms.map(uint),
            }),
        },
        session_version: uint(row.session_version),
        snapshot: uint(row.snapshot),
        attempt_number: usmall(row.attempt_number),
        attempt_lease: uint(row.attempt_lease),
        lease: match lease {
            (Some(number), Some(worker), Some(until)) => Some(Lease {
                number: uint(number),
                worker,
                link: row.lease_link.unwrap_or_default(),
                until: Timestamp(until),
            }),
            _ => None,
        },
        available_at: at(row.available_at_ms),
        executing_since: at(row.executing_since_ms),
        executed_ms: uint(row.executed_ms),
        stop_by: at(row.stop_by_ms),
        read_seq_num: uint(row.read_seq_num),
        output: row.output,
        output_type: row.output_type,
        error: error(row.error_name, row.error_message, row.error_stack_trace),
        created_at: Timestamp(row.created_at_ms),
        started_at: at(row.started_at_ms),
        updated_at: Timestamp(row.updated_at_ms),
        completed_at: at(row.completed_at_ms),
    })
}

/// Every column but the claims, which are the store's own.
pub(crate) fn run_row(run: &Run) -> run::ActiveModel {
    let spec = &run.spec;
    let parent = spec.parent.as_ref();
    let debounce = spec.debounce.as_ref();
    let lease = run.lease.as_ref();
    let error = run.error.clone();
    run::ActiveModel {
        id: Set(spec.id.to_string()),
        environment_id: Set(spec.environment.to_string()),
        session_id: Set(spec.session.as_ref().map(SessionId::to_string)),
        session_version: Set(int(run.session_version)),
        task_identifier: Set(spec.task_identifier.clone()),
        status: Set(owned(run.status.as_str())),
        queue_name: Set(run.queue()),
        queue: Set(spec.queue.clone()),
        queue_limit: Set(spec.queue_limit.map(Into::into)),
        concurrency_key: Set(spec.concurrency_key.clone()),
        priority: Set(spec.priority),
        available_at_ms: Set(ms(run.available_at)),
        due_at_ms: Set(ms(run.due_at())),
        snapshot: Set(int(run.snapshot)),
        attempt_number: Set(small(run.attempt_number)),
        attempt_lease: Set(int(run.attempt_lease)),
        lease_number: Set(lease.map(|l| int(l.number))),
        lease_worker: Set(lease.map(|l| l.worker.clone())),
        lease_link: Set(lease.map(|l| l.link.clone())),
        lease_until_ms: Set(lease.map(|l| l.until.0)),
        waiting_on: Set(run.waiting_on.as_ref().map(WaitpointId::to_string)),
        executing_since_ms: Set(ms(run.executing_since)),
        executed_ms: Set(int(run.executed_ms)),
        stop_by_ms: Set(ms(run.stop_by)),
        read_seq_num: Set(int(run.read_seq_num)),
        payload_type: Set(spec.payload_type.clone()),
        machine: Set(spec.machine.clone()),
        region: Set(spec.region.clone()),
        lock_to_version: Set(spec.lock_to_version.clone()),
        max_attempts: Set(small(spec.max_attempts)),
        max_duration_s: Set(spec.max_duration_s.map(Into::into)),
        ttl_ms: Set(spec.ttl_ms.map(int)),
        delay_until_ms: Set(ms(spec.delay_until)),
        idempotency_key: Set(spec.idempotency_key.clone()),
        idempotency_key_ttl_ms: Set(spec.idempotency_key_ttl_ms.map(int)),
        idempotency_claim: NotSet,
        tags: Set(Texts(spec.tags.clone())),
        is_test: Set(spec.is_test),
        external_deployment_id: Set(spec.external_deployment_id.clone()),
        parent_run_id: Set(parent.map(|p| p.run.to_string())),
        root_run_id: Set(parent.map(|p| p.root.to_string())),
        depth: Set(parent.map_or(0, |p| small(p.depth))),
        parent_waits: Set(parent.is_some_and(|p| p.waits)),
        batch_id: Set(spec.batch.clone()),
        bulk_action_id: Set(spec.bulk_action.clone()),
        limits: Set(spec.limits.as_ref().map(|limits| limits.as_str().to_owned())),
        user_key: Set(spec.user_key.as_ref().map(|k| k.key.clone())),
        user_key_scope: Set(spec.user_key.as_ref().map(|k| owned(k.scope.as_str()))),
        debounce_key: Set(debounce.map(|d| d.key.clone())),
        debounce_delay_ms: Set(debounce.map(|d| int(d.delay_ms))),
        debounce_is_trailing: Set(debounce.is_some_and(|d| d.is_trailing)),
        debounce_max_delay_ms: Set(debounce.and_then(|d| d.max_delay_ms).map(int)),
        debounce_claim: NotSet,
        created_at_ms: Set(run.created_at.0),
        started_at_ms: Set(ms(run.started_at)),
        updated_at_ms: Set(run.updated_at.0),
        completed_at_ms: Set(ms(run.completed_at)),
        output_type: Set(run.output_type.clone()),
        error_name: Set(error.as_ref().map(|e| e.name.clone())),
        error_message: Set(error.as_ref().map(|e| e.message.clone())),
        error_stack_trace: Set(error.and_then(|e| e.stack_trace)),
        metadata: Set(spec.metadata.as_ref().map(|json| owned(json.as_str()))),
        output: Set(run.output.clone()),
    }
}

pub(crate) fn attempt(row: attempt::Model) -> Attempt {
    Attempt {
        number: usmall(row.number),
        worker: row.worker,
        started_at: Timestamp(row.started_at_ms),
        ended_at: at(row.ended_at_ms),
        error: error(row.error_name, row.error_message, row.error_stack_trace),
    }
}

fn error(name: Option<String>, message: Option<String>, stack_trace: Option<String>) -> Option<RunError> {
    Some(RunError { name: name?, message: message?, stack_trace })
}
