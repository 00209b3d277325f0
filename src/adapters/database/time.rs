//! The database's time, which all its replicas can ask for.

use crate::Database;
use crate::error::{damaged, failed};
use continuo_domain::{Error, Result, Timestamp};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

impl Database {
    /// What time it is there: Postgres' own clock, on SQLite this machine's. An answer says besides that the database can be
    /// reached.
    pub async fn time(&self) -> Result<Timestamp> {
        let backend = self.backend();
        let sql = match backend {
            DbBackend::Postgres => "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms",
            _ => "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS ms",
        };
        let row = self.readers().query_one_raw(Statement::from_string(backend, sql)).await.map_err(failed)?;
        let row = row.ok_or_else(|| Error::internal("the database has no time"))?;
        row.try_get("", "ms").map(Timestamp).map_err(|e| damaged("clock", "ms", e))
    }
}
