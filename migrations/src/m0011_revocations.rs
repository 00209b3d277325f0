//! What was revoked lately, found without a look at what was not: whoever holds streams open asks every second.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0011_revocations"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, [], indexes()).await
    }
}

fn indexes() -> [IndexCreateStatement; 4] {
    let not_before = |name, table| index_where_set(name, table, &["tokens_not_before_ms"], "tokens_not_before_ms");
    [
        not_before("environment_tokens_not_before", "environment"),
        not_before("session_tokens_not_before", "session"),
        index_where_set("api_key_revoked", "api_key", &["revoked_at_ms"], "revoked_at_ms"),
        index("rotated_key_valid_until", "rotated_key", &["valid_until_ms"]),
    ]
}
