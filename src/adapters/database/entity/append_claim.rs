//! A claim of a part id on a channel. `channel` is its name and side: `/in`, `/out`, or `<name>/in`, `<name>/out`. Settled where
//! `seq_num` is set.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "append_claim")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub part_id: String,
    pub is_servers: bool,
    pub digest: Vec<u8>,
    pub mark: String,
    pub from_seq_num: i64,
    pub claimed_at_ms: i64,
    pub seq_num: Option<i64>,
    pub timestamp_ms: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
