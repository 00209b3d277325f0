//! A waitpoint, with the channel it waits on if it does. `idempotency_claim` as on a run.

use super::Texts;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "waitpoint")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub environment_id: String,
    pub kind: String,
    pub run_id: Option<String>,
    pub session_id: Option<String>,
    pub session_name: Option<String>,
    pub direction: Option<String>,
    pub from_seq_num: Option<i64>,
    pub idempotency_key: Option<String>,
    pub idempotency_key_expires_at_ms: Option<i64>,
    pub idempotency_claim: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub tags: Texts,
    pub timeout_at_ms: Option<i64>,
    pub completed_at_ms: Option<i64>,
    pub created_at_ms: i64,
    pub output_type: Option<String>,
    pub output_is_error: bool,
    pub output: Option<String>,
    pub awaited_run_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
