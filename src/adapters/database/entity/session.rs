//! A session. `boot_…` is its boot state, `trigger_options` its trigger config without the base payload.

use super::{Texts, TriggerOptions};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub external_id: Option<String>,
    pub session_type: String,
    pub task_identifier: String,
    pub organization_id: String,
    pub project_id: String,
    pub environment_id: String,
    pub environment_type: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub tags: Texts,
    pub is_test: bool,
    pub current_run_id: Option<String>,
    pub current_run_version: i64,
    pub closed_at_ms: Option<i64>,
    pub closed_reason: Option<String>,
    pub close_finished: bool,
    pub expires_at_ms: Option<i64>,
    pub tokens_not_before_ms: Option<i64>,
    pub boot_read_seq_num: i64,
    pub boot_tail_seq_num: i64,
    pub boot_failures: i64,
    pub boot_retry_at_ms: Option<i64>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub boot_last_error: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub trigger_options: TriggerOptions,
    pub metadata: Option<String>,
    pub base_payload: String,
    pub stream_basin_name: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
