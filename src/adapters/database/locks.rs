//! Advisory locks of Postgres, each by the text it stands for and until its transaction ends: for what no row stands for
//! yet. Two texts may share a lock, which costs a wait and no more. SQLite needs none: it has one writer.

use crate::error::failed;
use continuo_domain::Result;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult, Statement};

/// Waits for the lock. Others may have it at the same time, if they take it so too.
pub(crate) async fn shared(tx: &DatabaseTransaction, text: &str) -> Result<()> {
    one(tx, "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", text).await
}

/// Waits for the lock, and has it alone.
pub(crate) async fn exclusive(tx: &DatabaseTransaction, text: &str) -> Result<()> {
    one(tx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", text).await
}

async fn one(tx: &DatabaseTransaction, sql: &'static str, text: &str) -> Result<()> {
    if tx.get_database_backend() == DbBackend::Postgres {
        ask(tx, sql, text.into()).await?;
    }
    Ok(())
}

/// Waits for all of them, in one order whoever asks: nobody waits in a circle who holds none before. Postgres only.
pub(crate) async fn all(tx: &DatabaseTransaction, texts: &[String]) -> Result<()> {
    let sql = "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(text, 0) AS key \
               FROM jsonb_array_elements_text($1) AS t(text) ORDER BY key) AS keys";
    ask(tx, sql, serde_json::Value::from(texts).into()).await.map(drop)
}

/// Takes those that nobody else has, without waiting, and returns them. Postgres only.
pub(crate) async fn those_free(tx: &DatabaseTransaction, texts: &[String]) -> Result<Vec<String>> {
    let sql = "SELECT text FROM jsonb_array_elements_text($1) AS t(text) \
               WHERE pg_try_advisory_xact_lock(hashtextextended(text, 0))";
    let rows = ask(tx, sql, serde_json::Value::from(texts).into()).await?;
    rows.iter().map(|row| row.try_get("", "text").map_err(failed)).collect()
}

async fn ask(tx: &DatabaseTransaction, sql: &'static str, value: sea_orm::Value) -> Result<Vec<QueryResult>> {
    tx.query_all_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [value])).await.map_err(failed)
}
