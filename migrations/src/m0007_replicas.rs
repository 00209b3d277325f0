//! What a channel log that several processes share needs: the claims of part ids, and the basin of a session's streams. And
//! the link through which a worker holds a lease, which any replica may have.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0007_replicas"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, "session", [text_null("stream_basin_name")]).await?;
        add_columns(manager, "run", [text_null("lease_link")]).await?;
        create(manager, tables(), indexes()).await
    }
}

fn tables() -> [TableCreateStatement; 1] {
    [table("append_claim")
        .col(text("session_id"))
        .col(text("channel"))
        .col(text("part_id"))
        .col(flag("is_servers"))
        .col(bytes("digest"))
        .col(text("mark"))
        .col(big("from_seq_num"))
        .col(big("claimed_at_ms"))
        .col(big_null("seq_num"))
        .col(big_null("timestamp_ms"))
        .primary_key(Index::create().col("session_id").col("channel").col("part_id"))
        .foreign_key(&mut belongs_to("session_id", "session", "append_claim"))
        .to_owned()]
}

/// Only debts are looked for by age, and there are few.
fn indexes() -> [IndexCreateStatement; 1] {
    let unsettled = index("append_claim_unsettled", "append_claim", &["claimed_at_ms"]);
    [unsettled.to_owned().and_where(Expr::col("seq_num").is_null()).to_owned()]
}
