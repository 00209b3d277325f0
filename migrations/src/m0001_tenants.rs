//! Organizations, projects, environments and their keys.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_tenants"
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

fn tables() -> [TableCreateStatement; 5] {
    [
        table("organization").col(id("id")).col(big("created_at_ms")).to_owned(),
        table("project")
            .col(id("id"))
            .col(text("organization_id"))
            .col(big("created_at_ms"))
            .foreign_key(&mut belongs_to("organization_id", "organization", "project"))
            .to_owned(),
        table("environment")
            .col(id("id"))
            .col(text("organization_id"))
            .col(text("project_id"))
            .col(text("environment_type"))
            .col(text("slug"))
            .col(bytes("root_key_sealed"))
            .col(bytes("root_key_hash"))
            .col(big_null("tokens_not_before_ms"))
            .col(big("created_at_ms"))
            .foreign_key(&mut belongs_to("project_id", "project", "environment"))
            .to_owned(),
        table("rotated_key")
            .col(text("environment_id"))
            .col(bytes("hash"))
            .col(bytes("sealed"))
            .col(big("valid_until_ms"))
            .primary_key(Index::create().col("environment_id").col("hash"))
            .foreign_key(&mut belongs_to("environment_id", "environment", "rotated_key"))
            .to_owned(),
        table("api_key")
            .col(id("id"))
            .col(text("environment_id"))
            .col(text("name"))
            .col(bytes("hash"))
            .col(json("scopes"))
            .col(big("created_at_ms"))
            .col(big_null("revoked_at_ms"))
            .foreign_key(&mut belongs_to("environment_id", "environment", "api_key"))
            .to_owned(),
    ]
}

fn indexes() -> [IndexCreateStatement; 4] {
    [
        unique("environment_root_key_hash", "environment", &["root_key_hash"]),
        index("rotated_key_hash", "rotated_key", &["hash"]),
        unique("api_key_hash", "api_key", &["hash"]),
        index("api_key_environment", "api_key", &["environment_id", "created_at_ms", "id"]),
    ]
}
