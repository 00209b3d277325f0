//! A row of `sessions_v1`.

use clickhouse::Row;
use serde::{Deserialize, Serialize};

/// A session as the index has it. Times are milliseconds since 1970. The order of the fields is that of the columns.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct SessionRow {
    /// `env_…`.
    pub environment_id: String,
    /// `org_…`.
    pub organization_id: String,
    /// `proj_…`.
    pub project_id: String,
    /// `session_…`.
    pub session_id: String,
    /// `PRODUCTION`, `STAGING`, `DEVELOPMENT` or `PREVIEW`.
    pub environment_type: String,
    /// The id that clients see, which is the same one here.
    pub friendly_id: String,
    /// Empty for none.
    pub external_id: String,
    /// The session's type.
    pub r#type: String,
    /// Its task.
    pub task_identifier: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// `{"data": …}`, as JSON text.
    pub metadata: String,
    /// When it was closed.
    pub closed_at: Option<i64>,
    /// Why; empty for no reason given.
    pub closed_reason: String,
    /// When it expires.
    pub expires_at: Option<i64>,
    /// When it was made.
    pub created_at: i64,
    /// When its row changed last.
    pub updated_at: i64,
    /// The epoch in the top 8 bits, and below it where in the log the change was committed.
    pub _version: u64,
    /// 1 for a session that was deleted.
    pub _is_deleted: u8,
    /// 1 for a test session.
    pub is_test: u8,
}
