//! On Postgres the waits of a session's name are bound by a function. What it executes sees what was committed until then,
//! also within a statement that began before: that statement may wait for the lock of the name first.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0008_bind_waits"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        manager.get_connection().execute_unprepared(BIND_WAITS).await.map(drop)
    }
}

/// VOLATILE is what the promise above hangs on. Without a name nothing is bound. The wait comes before its registration, the
/// order in which a wait that ends locks them.
const BIND_WAITS: &str = "
CREATE FUNCTION bind_waits(environment text, name text, session text) RETURNS void
LANGUAGE sql VOLATILE STRICT AS $$
    UPDATE waitpoint SET session_id = $3, session_name = NULL WHERE id IN
        (SELECT waitpoint_id FROM registration WHERE environment_id = $1 AND session_name = $2);
    UPDATE registration SET session_id = $3, session_name = NULL WHERE environment_id = $1 AND session_name = $2;
$$";
