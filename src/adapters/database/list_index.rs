//! The index for lists of sessions, which Postgres has only while it serves them.

use crate::Database;
use crate::error::failed;
use continuo_domain::Result;
use continuo_migrations::list_index::{DROP_LIST_INDEX, LIST_INDEX, MAKE_LIST_INDEX};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

impl Database {
    /// Can lists be served from here at the cost of a page? SQLite's always can.
    pub async fn has_list_index(&self) -> Result<bool> {
        match self.backend() {
            DbBackend::Postgres => is_there(self.readers()).await,
            _ => Ok(true),
        }
    }

    /// Makes the index for lists, or drops it, while everybody reads and writes on. Says whether anything had to be done. Takes as
    /// long as transactions do that are open, and to make it on a large table may take minutes. SQLite's stays.
    pub async fn keep_list_index(&self, is_wanted: bool) -> Result<bool> {
        if self.has_list_index().await? == is_wanted {
            return Ok(false);
        }
        let Some(connection) = self.turn().await? else { return Ok(false) };
        let kept = if is_wanted { make(&connection).await } else { drop_it(&connection).await };
        let _ = connection.close().await;
        kept.map(|()| true)
    }

    /// The index that this slot feeds is empty: lists come from here until it has a whole copy again.
    pub async fn begin_copy(&self, slot_name: &str) -> Result<()> {
        if self.backend() != DbBackend::Postgres {
            return Ok(());
        }
        let sql = "UPDATE session_replication SET is_complete = FALSE WHERE slot_name = $1";
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [slot_name.into()]);
        self.write_repeatable(statement).await.map(drop)
    }
}

/// An index that was broken off while it was made is there in name only.
async fn is_there<C: ConnectionTrait>(connection: &C) -> Result<bool> {
    let sql = format!("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{LIST_INDEX}') AND indisvalid");
    let found = connection.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.map_err(failed)?;
    Ok(!found.is_empty())
}

async fn make<C: ConnectionTrait>(connection: &C) -> Result<()> {
    // Another process may have made it while this one waited for its turn.
    if is_there(connection).await? {
        return Ok(());
    }
    drop_it(connection).await?;
    connection.execute_unprepared(MAKE_LIST_INDEX).await.map(drop).map_err(failed)
}

async fn drop_it<C: ConnectionTrait>(connection: &C) -> Result<()> {
    connection.execute_unprepared(DROP_LIST_INDEX).await.map(drop).map_err(failed)
}
