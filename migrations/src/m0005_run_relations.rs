//! What triggers ask for beside the run itself: parents, debounce, labels of their origin; tokens that count once; with
//! which lease an attempt began; and the indexes of filtered lists and of the queue's limits.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0005_run_relations"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, "run", run_columns()).await?;
        add_columns(manager, "waitpoint", [text_null("awaited_run_id")]).await?;
        // Replaced by one that tells a full queue without a look at each row.
        manager.drop_index(Index::drop().name("run_queue").table("run").to_owned()).await?;
        create(manager, [spent_tokens()], indexes()).await
    }
}

fn run_columns() -> [ColumnDef; 16] {
    [
        text_null("external_deployment_id"),
        text_null("parent_run_id"),
        text_null("root_run_id"),
        int("depth").default(0).to_owned(),
        flag("parent_waits").default(false).to_owned(),
        text_null("batch_id"),
        text_null("bulk_action_id"),
        text_null("limits"),
        text_null("user_key"),
        text_null("user_key_scope"),
        text_null("debounce_key"),
        big_null("debounce_delay_ms"),
        flag("debounce_is_trailing").default(false).to_owned(),
        big_null("debounce_max_delay_ms"),
        text_null("debounce_claim"),
        big("attempt_lease").default(0).to_owned(),
    ]
}

fn spent_tokens() -> TableCreateStatement {
    table("spent_token").col(id("id")).col(text("environment_id")).col(big("expires_at_ms")).to_owned()
}

fn indexes() -> [IndexCreateStatement; 8] {
    let queue = Index::create()
        .name("run_queue_places")
        .table("run")
        .col("environment_id")
        .col("task_identifier")
        .col(("priority", IndexOrder::Desc))
        .col("available_at_ms")
        .col("id")
        .col("queue_name")
        .col("concurrency_key")
        .col("queue_limit")
        .and_where(Expr::col("available_at_ms").is_not_null())
        .to_owned();
    let newest_of = |name, column| {
        Index::create()
            .name(name)
            .table("run")
            .col("environment_id")
            .col(column)
            .col(("created_at_ms", IndexOrder::Desc))
            .col(("id", IndexOrder::Desc))
            .to_owned()
    };
    [
        queue,
        newest_of("run_list_by_task", "task_identifier"),
        newest_of("run_list_by_status", "status"),
        index_where_set("run_parent", "run", &["parent_run_id", "created_at_ms", "id"], "parent_run_id"),
        index_where_set("run_batch", "run", &["environment_id", "batch_id", "created_at_ms", "id"], "batch_id"),
        unique("run_debounce_claim", "run", &["environment_id", "task_identifier", "debounce_claim"]),
        index_where_set("waitpoint_awaited_run", "waitpoint", &["awaited_run_id"], "awaited_run_id"),
        index("spent_token_expires_at", "spent_token", &["expires_at_ms"]),
    ]
}
