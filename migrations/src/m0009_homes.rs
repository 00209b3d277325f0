//! Where the parts that are no rows have their home: which channel log, which store of blobs belongs to this database.

use crate::table::*;
use sea_orm_migration::prelude::*;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0009_homes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, tables(), []).await
    }
}

fn tables() -> [TableCreateStatement; 1] {
    [table("home").col(id("part")).col(text("place")).col(big_null("position")).to_owned()]
}
