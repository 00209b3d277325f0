//! Worker rows.

use super::{Row, small, usmall};
use crate::entity::{Texts, worker};
use continuo_domain::{EnvironmentId, Result, Timestamp};
use continuo_ports::worker_store::{ConnectedWorker, ListedWorker};
use sea_orm::ActiveValue::Set;

pub(crate) fn listed_worker(row: worker::Model, held_leases: i64) -> Result<ListedWorker> {
    let this = Row { table: "worker", id: &row.worker_id };
    let environment = this.parsed(EnvironmentId::parse(&row.environment_id))?;
    let worker = ConnectedWorker {
        environment,
        id: row.worker_id,
        link: row.link_id,
        version: row.version,
        task_identifiers: row.task_identifiers.0,
        capacity: usmall(row.capacity),
        is_draining: row.is_draining,
        connected_at: Timestamp(row.connected_at_ms),
        seen_at: Timestamp(row.seen_at_ms),
    };
    Ok(ListedWorker { worker, held_leases: usmall(held_leases) })
}

pub(crate) fn worker_row(worker: &ConnectedWorker) -> worker::ActiveModel {
    worker::ActiveModel {
        environment_id: Set(worker.environment.to_string()),
        worker_id: Set(worker.id.clone()),
        link_id: Set(worker.link.clone()),
        version: Set(worker.version.clone()),
        task_identifiers: Set(Texts(worker.task_identifiers.clone())),
        capacity: Set(small(worker.capacity)),
        is_draining: Set(worker.is_draining),
        connected_at_ms: Set(worker.connected_at.0),
        seen_at_ms: Set(worker.seen_at.0),
    }
}
