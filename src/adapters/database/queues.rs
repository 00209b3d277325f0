//! Queues, counted from the runs in them that are not over: a range of the index by status, as long as there are such runs.

use crate::Database;
use continuo_domain::run::RunStatus;
use continuo_domain::{EnvironmentId, Result, Timestamp};
use continuo_ports::run_store::{QueueCounts, Queues};
use sea_orm::{DbBackend, FromQueryResult, Statement};

#[derive(FromQueryResult)]
struct QueueRow {
    queue_name: String,
    pending: i64,
    delayed: i64,
    dequeued: i64,
    executing: i64,
    retrying: i64,
    waiting: i64,
    oldest_pending_at_ms: Option<i64>,
}

impl QueueRow {
    fn counts(self) -> QueueCounts {
        let count = |runs: i64| u64::try_from(runs).unwrap_or(0);
        QueueCounts {
            name: self.queue_name,
            pending: count(self.pending),
            delayed: count(self.delayed),
            dequeued: count(self.dequeued),
            executing: count(self.executing),
            retrying: count(self.retrying),
            waiting: count(self.waiting),
            oldest_pending_at: self.oldest_pending_at_ms.map(Timestamp),
        }
    }
}

pub(crate) async fn queues(
    database: &Database,
    environment: &EnvironmentId,
    limit: u32,
    now: Timestamp,
) -> Result<Queues> {
    let counting = counting(database.backend(), environment, u64::from(limit) + 1, now);
    let mut queues: Vec<_> = database.list_rows(counting).await?.into_iter().map(QueueRow::counts).collect();
    let has_more = queues.len() > limit as usize;
    queues.truncate(limit as usize);
    Ok(Queues { queues, has_more })
}

/// One statement, so that all counts are of one moment. The statuses are written into it, not given beside it: so the planner
/// knows how few runs have them.
pub(crate) fn counting(backend: DbBackend, environment: &EnvironmentId, limit: u64, now: Timestamp) -> Statement {
    // SQLite knows nothing of how many rows there are, and would rather take the index that has the queues in order.
    let [environment_id, now_ms, at_most, run] = match backend {
        DbBackend::Postgres => ["$1", "$2", "$3", "run"],
        _ => ["?1", "?2", "?3", "run INDEXED BY run_list_by_status"],
    };
    let alive = RunStatus::ALL.into_iter().filter(|status| !status.is_terminal());
    let alive: Vec<_> = alive.map(|status| format!("'{}'", status.as_str())).collect();
    let alive = alive.join(", ");
    let is_due = format!("(status = '{}' OR available_at_ms <= {now_ms})", RunStatus::Pending.as_str());
    let count = |status: RunStatus, name: &str| {
        let status = status.as_str();
        format!("COUNT(*) FILTER (WHERE status = '{status}' AND COALESCE(available_at_ms > {now_ms}, TRUE)) AS {name}")
    };
    let counts = [
        count(RunStatus::Delayed, "delayed"),
        count(RunStatus::Dequeued, "dequeued"),
        count(RunStatus::Executing, "executing"),
        count(RunStatus::RetryingAfterFailure, "retrying"),
        count(RunStatus::WaitingToResume, "waiting"),
    ];
    let sql = format!(
        "SELECT queue_name, COUNT(*) FILTER (WHERE {is_due}) AS pending, {}, \
         MIN(available_at_ms) FILTER (WHERE {is_due}) AS oldest_pending_at_ms \
         FROM {run} WHERE environment_id = {environment_id} AND status IN ({alive}) \
         GROUP BY queue_name ORDER BY pending DESC, queue_name ASC LIMIT {at_most}",
        counts.join(", ")
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Statement::from_sql_and_values(backend, sql, [environment.as_str().into(), now.0.into(), limit.into()])
}
