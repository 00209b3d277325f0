//! What an index beside the database is kept up with: the changes it may not have stored yet, and the rows it refused. Only on
//! Postgres, whose log feeds such an index. The trigger that notes changes comes with the first index ([`crate::replication`]).

use crate::table::*;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0010_replication"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DbBackend::Postgres => create(manager, tables(), indexes()).await,
            _ => Ok(()),
        }
    }
}

fn tables() -> [TableCreateStatement; 3] {
    [
        // One row for each session that a transaction changed. It goes when the index has stored that transaction.
        table("session_change")
            .col(big("transaction_id"))
            .col(text("session_id"))
            .col(text("environment_id"))
            .col(big("created_at_ms"))
            .primary_key(Index::create().col("transaction_id").col("session_id"))
            .to_owned(),
        // One row for each slot: whose log its positions count, and whether the index has all that was there before it.
        table("session_replication")
            .col(id("slot_name"))
            .col(text("system_identifier"))
            .col(big("timeline"))
            .col(big("epoch"))
            .col(flag("is_complete"))
            .col(big_null("reconciled_at_ms"))
            .to_owned(),
        // Rows that the index refused, whole, as it was asked to store them.
        table("session_parked")
            .col(text("slot_name"))
            .col(text("session_id"))
            .col(big("version"))
            .col(json("index_row"))
            .col(text("error"))
            .col(big("attempts"))
            .col(big("parked_at_ms"))
            .col(big("retry_at_ms"))
            .primary_key(Index::create().col("slot_name").col("session_id"))
            .to_owned(),
    ]
}

fn indexes() -> [IndexCreateStatement; 2] {
    [
        // A page of an environment's changes, newest session first.
        index("session_change_list", "session_change", &["environment_id", "created_at_ms", "session_id"]),
        // Whether one session has changed.
        index("session_change_session", "session_change", &["session_id"]),
    ]
}
