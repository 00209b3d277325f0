//! Connected workers: a row for each, by its own name, which the link that came last keeps up to date.
//!
//! `seen_at_ms` is in no index on purpose: a heartbeat then changes the row in place and touches no index. What looks for rows
//! by it alone is the sweeper, once a minute, and the table is as long as there are workers.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0012_workers"
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

fn tables() -> [TableCreateStatement; 1] {
    [table("worker")
        .col(text("environment_id"))
        .col(text("worker_id"))
        .col(text("link_id"))
        .col(text("version"))
        .col(json("task_identifiers"))
        .col(int("capacity"))
        .col(flag("is_draining"))
        .col(big("connected_at_ms"))
        .col(big("seen_at_ms"))
        .primary_key(Index::create().col("environment_id").col("worker_id"))
        .to_owned()]
}

fn indexes() -> [IndexCreateStatement; 1] {
    let newest_first = Index::create()
        .name("worker_list")
        .table("worker")
        .col("environment_id")
        .col(("connected_at_ms", IndexOrder::Desc))
        .col(("worker_id", IndexOrder::Desc))
        .to_owned();
    [newest_first]
}
