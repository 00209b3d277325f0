//! A run without its payload. `due_at_ms` is `Run::due_at`, `queue_name` is `Run::queue`; `idempotency_claim` is the key while
//! it counts, so that an expired key can be claimed by a newer run; `debounce_claim` is the debounce key while the run takes
//! in more triggers.

use super::Texts;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub environment_id: String,
    pub session_id: Option<String>,
    pub session_version: i64,
    pub task_identifier: String,
    pub status: String,
    pub queue_name: String,
    pub queue: Option<String>,
    pub queue_limit: Option<i64>,
    pub concurrency_key: Option<String>,
    pub priority: i32,
    pub available_at_ms: Option<i64>,
    pub due_at_ms: Option<i64>,
    pub snapshot: i64,
    pub attempt_number: i32,
    pub attempt_lease: i64,
    pub lease_number: Option<i64>,
    pub lease_worker: Option<String>,
    pub lease_link: Option<String>,
    pub lease_until_ms: Option<i64>,
    pub waiting_on: Option<String>,
    pub executing_since_ms: Option<i64>,
    pub executed_ms: i64,
    pub stop_by_ms: Option<i64>,
    pub read_seq_num: i64,
    pub payload_type: String,
    pub machine: Option<String>,
    pub region: Option<String>,
    pub lock_to_version: Option<String>,
    pub max_attempts: i32,
    pub max_duration_s: Option<i64>,
    pub ttl_ms: Option<i64>,
    pub delay_until_ms: Option<i64>,
    pub idempotency_key: Option<String>,
    pub idempotency_key_ttl_ms: Option<i64>,
    pub idempotency_claim: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub tags: Texts,
    pub is_test: bool,
    pub external_deployment_id: Option<String>,
    pub parent_run_id: Option<String>,
    pub root_run_id: Option<String>,
    pub depth: i32,
    pub parent_waits: bool,
    pub batch_id: Option<String>,
    pub bulk_action_id: Option<String>,
    pub limits: Option<String>,
    pub user_key: Option<String>,
    pub user_key_scope: Option<String>,
    pub debounce_key: Option<String>,
    pub debounce_delay_ms: Option<i64>,
    pub debounce_is_trailing: bool,
    pub debounce_max_delay_ms: Option<i64>,
    pub debounce_claim: Option<String>,
    pub created_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub updated_at_ms: i64,
    pub completed_at_ms: Option<i64>,
    pub output_type: Option<String>,
    pub error_name: Option<String>,
    pub error_message: Option<String>,
    pub error_stack_trace: Option<String>,
    pub metadata: Option<String>,
    pub output: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
