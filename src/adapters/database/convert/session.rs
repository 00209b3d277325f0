//! Session rows and their audit.

use super::{Row, at, int, ms, uint, usmall};
use crate::entity::{Texts, TriggerOptions, session, session_run};
use continuo_domain::run::RunReason;
use continuo_domain::session::{BootState, ExternalId, Json, Session, SessionRun, TriggerConfig};
use continuo_domain::{Result, RunId, SessionId, Timestamp};
use sea_orm::ActiveValue::{NotSet, Set};

pub(crate) fn session(row: session::Model) -> Result<Session> {
    let this = Row { table: "session", id: &row.id };
    Ok(Session {
        tenant: this.tenant(&row.organization_id, &row.project_id, &row.environment_id, &row.environment_type)?,
        current_run: this.parsed(row.current_run_id.as_deref().map(RunId::parse).transpose())?,
        id: this.parsed(SessionId::parse(&row.id))?,
        external_id: row.external_id.map(ExternalId::trusted),
        session_type: row.session_type,
        task_identifier: row.task_identifier,
        trigger_config: trigger_config(row.trigger_options, row.base_payload),
        tags: row.tags.0,
        metadata: row.metadata.map(Json::trusted),
        is_test: row.is_test,
        current_run_version: uint(row.current_run_version),
        closed_at: at(row.closed_at_ms),
        closed_reason: row.closed_reason,
        close_finished: row.close_finished,
        expires_at: at(row.expires_at_ms),
        boot: BootState {
            read_seq_num: uint(row.boot_read_seq_num),
            booted_tail_seq_num: uint(row.boot_tail_seq_num),
            failures: usmall(row.boot_failures),
            retry_at: at(row.boot_retry_at_ms),
            last_error: row.boot_last_error,
        },
        basin: row.stream_basin_name,
        created_at: Timestamp(row.created_at_ms),
        updated_at: Timestamp(row.updated_at_ms),
    })
}

/// Every column but `tokens_not_before_ms`, which is not the session's own business.
pub(crate) fn session_row(session: &Session) -> session::ActiveModel {
    let Session { tenant, trigger_config, boot, .. } = session;
    session::ActiveModel {
        id: Set(session.id.to_string()),
        external_id: Set(session.external_id.as_ref().map(|name| name.as_str().to_owned())),
        session_type: Set(session.session_type.clone()),
        task_identifier: Set(session.task_identifier.clone()),
        organization_id: Set(tenant.organization.to_string()),
        project_id: Set(tenant.project.to_string()),
        environment_id: Set(tenant.environment.to_string()),
        environment_type: Set(tenant.environment_type.as_str().to_owned()),
        tags: Set(Texts(session.tags.clone())),
        is_test: Set(session.is_test),
        current_run_id: Set(session.current_run.as_ref().map(RunId::to_string)),
        current_run_version: Set(int(session.current_run_version)),
        closed_at_ms: Set(ms(session.closed_at)),
        closed_reason: Set(session.closed_reason.clone()),
        close_finished: Set(session.close_finished),
        expires_at_ms: Set(ms(session.expires_at)),
        tokens_not_before_ms: NotSet,
        boot_read_seq_num: Set(int(boot.read_seq_num)),
        boot_tail_seq_num: Set(int(boot.booted_tail_seq_num)),
        boot_failures: Set(boot.failures.into()),
        boot_retry_at_ms: Set(ms(boot.retry_at)),
        created_at_ms: Set(session.created_at.0),
        updated_at_ms: Set(session.updated_at.0),
        boot_last_error: Set(boot.last_error.clone()),
        trigger_options: Set(trigger_options(trigger_config)),
        metadata: Set(session.metadata.as_ref().map(|json| json.as_str().to_owned())),
        base_payload: Set(trigger_config.base_payload.as_str().to_owned()),
        stream_basin_name: Set(session.basin.clone()),
    }
}

fn trigger_config(options: TriggerOptions, base_payload: String) -> TriggerConfig {
    TriggerConfig {
        base_payload: Json::trusted(base_payload),
        machine: options.machine,
        queue: options.queue,
        concurrency: options.concurrency,
        concurrency_key: options.concurrency_key,
        tags: options.tags,
        max_attempts: options.max_attempts,
        max_duration_s: options.max_duration_s,
        lock_to_version: options.lock_to_version,
        external_deployment_id: options.external_deployment_id,
        region: options.region,
        idle_timeout_s: options.idle_timeout_s,
        ttl: options.ttl,
    }
}

fn trigger_options(config: &TriggerConfig) -> TriggerOptions {
    let config = config.clone();
    TriggerOptions {
        machine: config.machine,
        queue: config.queue,
        concurrency: config.concurrency,
        concurrency_key: config.concurrency_key,
        tags: config.tags,
        max_attempts: config.max_attempts,
        max_duration_s: config.max_duration_s,
        lock_to_version: config.lock_to_version,
        external_deployment_id: config.external_deployment_id,
        region: config.region,
        idle_timeout_s: config.idle_timeout_s,
        ttl: config.ttl,
    }
}

pub(crate) fn session_run(row: session_run::Model) -> Result<SessionRun> {
    let this = Row { table: "session_run", id: &row.run_id };
    Ok(SessionRun {
        session: this.parsed(SessionId::parse(&row.session_id))?,
        run: this.parsed(RunId::parse(&row.run_id))?,
        reason: RunReason::parse(&row.reason),
        version: uint(row.version),
        triggered_at: Timestamp(row.triggered_at_ms),
    })
}

pub(crate) fn session_run_row(audit: &SessionRun) -> session_run::ActiveModel {
    session_run::ActiveModel {
        run_id: Set(audit.run.to_string()),
        session_id: Set(audit.session.to_string()),
        reason: Set(audit.reason.as_str().to_owned()),
        version: Set(int(audit.version)),
        triggered_at_ms: Set(audit.triggered_at.0),
    }
}
