//! How long the records of a named channel are kept, where its writers say so.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0006_channel_retention"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, "session_channel", [big_null("max_age_seconds")]).await?;
        let aging =
            index_where_set("session_channel_aging_idx", "session_channel", &["session_id", "name"], "max_age_seconds");
        manager.create_index(aging).await
    }
}
