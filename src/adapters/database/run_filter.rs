//! Which runs a list wants, as a condition.

use crate::entity::run::{self, Column};
use crate::list::any_tag;
use continuo_domain::EnvironmentId;
use continuo_ports::run_store::RunFilter;
use sea_orm::{ColumnTrait, Condition, DbBackend, EntityTrait, QueryFilter, Select};

/// Every filter narrows; within one filter any value will do.
pub(crate) fn matching(backend: DbBackend, environment: &EnvironmentId, filter: &RunFilter) -> Select<run::Entity> {
    let mut all = Condition::all().add(Column::EnvironmentId.eq(environment.as_str()));
    if !filter.statuses.is_empty() {
        all = all.add(Column::Status.is_in(filter.statuses.iter().map(|status| status.as_str())));
    }
    let any_of = [
        (Column::TaskIdentifier, &filter.task_identifiers),
        (Column::LockToVersion, &filter.versions),
        (Column::QueueName, &filter.queues),
        (Column::Machine, &filter.machines),
        (Column::Region, &filter.regions),
    ];
    for (column, values) in any_of {
        if !values.is_empty() {
            all = all.add(column.is_in(values));
        }
    }
    let exactly = [
        (Column::SessionId, filter.session.as_ref().map(|id| id.as_str())),
        (Column::ParentRunId, filter.parent.as_ref().map(|id| id.as_str())),
        (Column::BatchId, filter.batch.as_deref()),
        (Column::BulkActionId, filter.bulk_action.as_deref()),
    ];
    for (column, value) in exactly {
        if let Some(value) = value {
            all = all.add(column.eq(value));
        }
    }
    if !filter.tags.is_empty() {
        all = all.add(any_tag(backend, "run.tags", &filter.tags));
    }
    if let Some(is_test) = filter.is_test {
        all = all.add(Column::IsTest.eq(is_test));
    }
    if let Some(from) = filter.created_from {
        all = all.add(Column::CreatedAtMs.gte(from.0));
    }
    if let Some(to) = filter.created_to {
        all = all.add(Column::CreatedAtMs.lte(to.0));
    }
    run::Entity::find().filter(all)
}
