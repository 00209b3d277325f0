//! Sessions, their named channels and the audit of their runs. The long texts come last, so that a look at the other
//! columns does not walk through them.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_sessions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, tables(), indexes()).await
    }
}

fn tables() -> [TableCreateStatement; 3] {
    [
        table("session")
            .col(id("id"))
            .col(text_null("external_id"))
            .col(text("session_type"))
            .col(text("task_identifier"))
            .col(text("organization_id"))
            .col(text("project_id"))
            .col(text("environment_id"))
            .col(text("environment_type"))
            .col(json("tags"))
            .col(flag("is_test"))
            .col(text_null("current_run_id"))
            .col(big("current_run_version"))
            .col(big_null("closed_at_ms"))
            .col(text_null("closed_reason"))
            .col(flag("close_finished"))
            .col(big_null("expires_at_ms"))
            .col(big_null("tokens_not_before_ms"))
            .col(big("boot_read_seq_num"))
            .col(big("boot_tail_seq_num"))
            .col(big("boot_failures"))
            .col(big_null("boot_retry_at_ms"))
            .col(big("created_at_ms"))
            .col(big("updated_at_ms"))
            .col(text_null("boot_last_error"))
            .col(json("trigger_options"))
            .col(text_null("metadata"))
            .col(text("base_payload"))
            .to_owned(),
        table("session_channel")
            .col(text("session_id"))
            .col(text("name"))
            .primary_key(Index::create().col("session_id").col("name"))
            .foreign_key(&mut belongs_to("session_id", "session", "session_channel"))
            .to_owned(),
        table("session_run")
            .col(id("run_id"))
            .col(text("session_id"))
            .col(text("reason"))
            .col(big("version"))
            .col(big("triggered_at_ms"))
            .foreign_key(&mut belongs_to("session_id", "session", "session_run"))
            .to_owned(),
    ]
}

fn indexes() -> [IndexCreateStatement; 6] {
    let newest_first = Index::create()
        .name("session_list")
        .table("session")
        .col("environment_id")
        .col(("created_at_ms", IndexOrder::Desc))
        .col(("id", IndexOrder::Desc))
        .to_owned();
    let closing = index("session_closing", "session", &["closed_at_ms"])
        .and_where(Expr::col("closed_at_ms").is_not_null())
        .and_where(Expr::col("close_finished").eq(false))
        .to_owned();
    [
        unique("session_external_id", "session", &["environment_id", "external_id"]),
        newest_first,
        closing,
        index("session_updated_at", "session", &["updated_at_ms"]),
        index_where_set("session_boot_retry_at", "session", &["boot_retry_at_ms"], "boot_retry_at_ms"),
        unique("session_run_version", "session_run", &["session_id", "version"]),
    ]
}
