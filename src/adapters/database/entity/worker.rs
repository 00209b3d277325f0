//! A connected worker, and the link that keeps its row.

use super::Texts;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "worker")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub environment_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub worker_id: String,
    pub link_id: String,
    pub version: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub task_identifiers: Texts,
    pub capacity: i32,
    pub is_draining: bool,
    pub connected_at_ms: i64,
    pub seen_at_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
