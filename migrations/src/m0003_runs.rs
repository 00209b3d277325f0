//! Runs, their attempts and the tasks workers announced. A payload never changes and may be long, so it has a row of its
//! own: a heartbeat must not rewrite it.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_runs"
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

fn tables() -> [TableCreateStatement; 4] {
    [
        table("run")
            .col(id("id"))
            .col(text("environment_id"))
            .col(text_null("session_id"))
            .col(big("session_version"))
            .col(text("task_identifier"))
            .col(text("status"))
            .col(text("queue_name"))
            .col(text_null("queue"))
            .col(big_null("queue_limit"))
            .col(text_null("concurrency_key"))
            .col(int("priority"))
            .col(big_null("available_at_ms"))
            .col(big_null("due_at_ms"))
            .col(big("snapshot"))
            .col(int("attempt_number"))
            .col(big_null("lease_number"))
            .col(text_null("lease_worker"))
            .col(big_null("lease_until_ms"))
            .col(text_null("waiting_on"))
            .col(big_null("executing_since_ms"))
            .col(big("executed_ms"))
            .col(big_null("stop_by_ms"))
            .col(big("read_seq_num"))
            .col(text("payload_type"))
            .col(text_null("machine"))
            .col(text_null("region"))
            .col(text_null("lock_to_version"))
            .col(int("max_attempts"))
            .col(big_null("max_duration_s"))
            .col(big_null("ttl_ms"))
            .col(big_null("delay_until_ms"))
            .col(text_null("idempotency_key"))
            .col(big_null("idempotency_key_ttl_ms"))
            .col(text_null("idempotency_claim"))
            .col(json("tags"))
            .col(flag("is_test"))
            .col(big("created_at_ms"))
            .col(big_null("started_at_ms"))
            .col(big("updated_at_ms"))
            .col(big_null("completed_at_ms"))
            .col(text_null("output_type"))
            .col(text_null("error_name"))
            .col(text_null("error_message"))
            .col(text_null("error_stack_trace"))
            .col(text_null("metadata"))
            .col(text_null("output"))
            .to_owned(),
        table("run_payload")
            .col(id("run_id"))
            .col(text("payload"))
            .foreign_key(&mut belongs_to("run_id", "run", "run_payload"))
            .to_owned(),
        table("attempt")
            .col(text("run_id"))
            .col(int("number"))
            .col(text("worker"))
            .col(big("started_at_ms"))
            .col(big_null("ended_at_ms"))
            .col(text_null("error_name"))
            .col(text_null("error_message"))
            .col(text_null("error_stack_trace"))
            .primary_key(Index::create().col("run_id").col("number"))
            .foreign_key(&mut belongs_to("run_id", "run", "attempt"))
            .to_owned(),
        table("worker_task")
            .col(text("environment_id"))
            .col(text("task_identifier"))
            .col(text("worker"))
            .col(big("announced_at_ms"))
            .primary_key(Index::create().col("environment_id").col("task_identifier"))
            .to_owned(),
    ]
}

fn indexes() -> [IndexCreateStatement; 9] {
    let newest_first = Index::create()
        .name("run_list")
        .table("run")
        .col("environment_id")
        .col(("created_at_ms", IndexOrder::Desc))
        .col(("id", IndexOrder::Desc))
        .to_owned();
    let queue = Index::create()
        .name("run_queue")
        .table("run")
        .col("environment_id")
        .col("task_identifier")
        .col(("priority", IndexOrder::Desc))
        .col("available_at_ms")
        .col("id")
        .and_where(Expr::col("available_at_ms").is_not_null())
        .to_owned();
    [
        newest_first,
        queue,
        index("run_concurrency", "run", &["environment_id", "queue_name", "status", "concurrency_key"]),
        index_where_set("run_available_at", "run", &["available_at_ms"], "available_at_ms"),
        index_where_set("run_due_at", "run", &["due_at_ms"], "due_at_ms"),
        index_where_set("run_waiting_on", "run", &["waiting_on"], "waiting_on"),
        index_where_set("run_completed_at", "run", &["completed_at_ms", "session_id"], "completed_at_ms"),
        index_where_set("run_session", "run", &["session_id", "created_at_ms", "id"], "session_id"),
        unique("run_idempotency_claim", "run", &["environment_id", "task_identifier", "idempotency_claim"]),
    ]
}
