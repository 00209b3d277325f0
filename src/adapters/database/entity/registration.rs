//! An open wait on a channel: by session id, or by a name that no session has yet. It goes when the wait completes.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "registration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub waitpoint_id: String,
    pub environment_id: String,
    pub session_id: Option<String>,
    pub session_name: Option<String>,
    pub direction: String,
    pub from_seq_num: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
