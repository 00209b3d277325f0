//! Waitpoints, and the registrations of those that wait on a channel. A registration lives as long as its wait is open:
//! the rows that appends and the sweeper look at are few.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0004_waitpoints"
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

fn tables() -> [TableCreateStatement; 2] {
    [
        table("waitpoint")
            .col(id("id"))
            .col(text("environment_id"))
            .col(text("kind"))
            .col(text_null("run_id"))
            .col(text_null("session_id"))
            .col(text_null("session_name"))
            .col(text_null("direction"))
            .col(big_null("from_seq_num"))
            .col(text_null("idempotency_key"))
            .col(big_null("idempotency_key_expires_at_ms"))
            .col(text_null("idempotency_claim"))
            .col(json("tags"))
            .col(big_null("timeout_at_ms"))
            .col(big_null("completed_at_ms"))
            .col(big("created_at_ms"))
            .col(text_null("output_type"))
            .col(flag("output_is_error"))
            .col(text_null("output"))
            .to_owned(),
        table("registration")
            .col(id("waitpoint_id"))
            .col(text("environment_id"))
            .col(text_null("session_id"))
            .col(text_null("session_name"))
            .col(text("direction"))
            .col(big("from_seq_num"))
            .foreign_key(&mut belongs_to("waitpoint_id", "waitpoint", "registration"))
            .to_owned(),
    ]
}

fn indexes() -> [IndexCreateStatement; 6] {
    let newest_first = Index::create()
        .name("waitpoint_list")
        .table("waitpoint")
        .col("environment_id")
        .col(("created_at_ms", IndexOrder::Desc))
        .col(("id", IndexOrder::Desc))
        .to_owned();
    let open_by_timeout = index("waitpoint_timeout_at", "waitpoint", &["timeout_at_ms"])
        .and_where(Expr::col("completed_at_ms").is_null())
        .and_where(Expr::col("timeout_at_ms").is_not_null())
        .to_owned();
    [
        newest_first,
        open_by_timeout,
        unique("waitpoint_idempotency_claim", "waitpoint", &["environment_id", "idempotency_claim"]),
        index_where_set("waitpoint_session", "waitpoint", &["session_id"], "session_id"),
        index_where_set(
            "registration_channel",
            "registration",
            &["session_id", "direction", "from_seq_num"],
            "session_id",
        ),
        index_where_set("registration_name", "registration", &["environment_id", "session_name"], "session_name"),
    ]
}
