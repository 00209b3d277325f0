//! Which rows of the table a question is about.

use clickhouse::query::Query;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{ListFilter, SessionStatus};
use continuo_domain::{EnvironmentId, SessionId, Timestamp};
use continuo_ports::indexed_rows::ListOrder;
use serde::Serialize;

/// The years 1900 to 2299, which is what DateTime64 holds. Beyond them the pruning of partitions goes astray.
const TIME_MS_MIN: i64 = -2_208_988_800_000;
const TIME_MS_MAX: i64 = 10_413_791_999_999;

/// Sessions of one environment that match a filter.
pub(crate) struct Scope<'a> {
    /// The first columns of the order key, without which the table would be walked whole.
    pub(crate) tenant: (OrganizationId, ProjectId),
    pub(crate) environment: &'a EnvironmentId,
    pub(crate) filter: &'a ListFilter,
    /// What statuses are derived at.
    pub(crate) now: Timestamp,
}

/// Where a walk begins.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) created_at: Timestamp,
    pub(crate) id: SessionId,
    pub(crate) is_inclusive: bool,
}

/// A value for a `?`.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(&'a str),
    Texts(Vec<&'a str>),
    Number(i64),
}

/// Conditions that all hold, and the values of their marks in order.
pub(crate) struct Conditions<'a> {
    sql: String,
    values: Vec<Value<'a>>,
}

impl<'a> Conditions<'a> {
    /// Every session of the environment, in every version of it that is there.
    pub(crate) fn of_tenant((organization, project): &'a (OrganizationId, ProjectId), env: &'a EnvironmentId) -> Self {
        let sql = "organization_id = ? AND project_id = ? AND environment_id = ?".to_owned();
        let values = [organization.as_str(), project.as_str(), env.as_str()];
        Self { sql, values: values.map(Value::Text).into() }
    }

    /// Every version that is no deletion and matches.
    pub(crate) fn matching(scope: &'a Scope<'a>) -> Self {
        let filter = scope.filter;
        let mut all = Self::of_tenant(&scope.tenant, scope.environment);
        all.and("_is_deleted = 0", []);
        all.and_any("type IN ?", &filter.types);
        all.and_any("task_identifier IN ?", &filter.task_identifiers);
        all.and_any("hasAny(tags, ?)", &filter.tags);
        if let Some(name) = &filter.external_id {
            // An empty one in the table is none.
            all.and("external_id = ? AND external_id <> ''", [Value::Text(name)]);
        }
        if let Some(from) = filter.created_from {
            all.and("created_at >= fromUnixTimestamp64Milli(?)", [time(from)]);
        }
        if let Some(to) = filter.created_to {
            all.and("created_at <= fromUnixTimestamp64Milli(?)", [time(to)]);
        }
        all.and_status(&filter.statuses, scope.now);
        all
    }

    /// In a range of the order key. The first half alone is what the key and the partitions are narrowed by.
    pub(crate) fn and_beyond(&mut self, bound: &'a Bound, order: ListOrder) {
        let (at, id) = (|| time(bound.created_at), Value::Text(bound.id.as_str()));
        self.and(
            match order {
                ListOrder::NewestFirst => "created_at <= fromUnixTimestamp64Milli(?)",
                ListOrder::OldestFirst => "created_at >= fromUnixTimestamp64Milli(?)",
            },
            [at()],
        );
        self.and(
            match (order, bound.is_inclusive) {
                (ListOrder::NewestFirst, false) => "(created_at < fromUnixTimestamp64Milli(?) OR session_id < ?)",
                (ListOrder::NewestFirst, true) => "(created_at < fromUnixTimestamp64Milli(?) OR session_id <= ?)",
                (ListOrder::OldestFirst, false) => "(created_at > fromUnixTimestamp64Milli(?) OR session_id > ?)",
                (ListOrder::OldestFirst, true) => "(created_at > fromUnixTimestamp64Milli(?) OR session_id >= ?)",
            },
            [at(), id],
        );
    }

    /// None of these sessions.
    pub(crate) fn and_not(&mut self, ids: &'a [SessionId]) {
        if !ids.is_empty() {
            self.and("session_id NOT IN ?", [Value::Texts(ids.iter().map(SessionId::as_str).collect())]);
        }
    }

    /// As SQL with its marks.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Binds the values, in the order of the marks.
    pub(crate) fn bind(self, query: Query) -> Query {
        self.values.into_iter().fold(query, |query, value| query.bind(value))
    }

    fn and<const N: usize>(&mut self, condition: &str, values: [Value<'a>; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    /// A list that is empty does not filter.
    fn and_any(&mut self, condition: &str, values: &'a [String]) {
        if !values.is_empty() {
            self.and(condition, [Value::Texts(values.iter().map(String::as_str).collect())]);
        }
    }

    /// `Session::status` as a condition.
    fn and_status(&mut self, statuses: &[SessionStatus], now: Timestamp) {
        if statuses.is_empty() {
            return;
        }
        let any = statuses.iter().map(|status| match status {
            SessionStatus::Closed => "closed_at IS NOT NULL",
            SessionStatus::Expired => "(closed_at IS NULL AND expires_at <= fromUnixTimestamp64Milli(?))",
            SessionStatus::Active => {
                "(closed_at IS NULL AND (expires_at IS NULL OR expires_at > fromUnixTimestamp64Milli(?)))"
            }
        });
        let condition = format!("({})", any.collect::<Vec<_>>().join(" OR "));
        self.and(&condition, []);
        let timed = statuses.iter().filter(|status| **status != SessionStatus::Closed);
        self.values.extend(timed.map(|_| time(now)));
    }
}

fn time(at: Timestamp) -> Value<'static> {
    Value::Number(at.0.clamp(TIME_MS_MIN, TIME_MS_MAX))
}
