//! The sessions of the database as one snapshot shows them, in the order of their ids, without holding them all.

use crate::change::index_metadata;
use crate::flights::Lsn;
use crate::sql::{bytes_of, failed, lsn};
use continuo_clickhouse::SessionRow;
use continuo_domain::{Error, Result};
use futures_util::TryStreamExt;
use std::pin::Pin;
use tokio_postgres::{Client, Row, RowStream, Transaction};

/// A part ends at so many bytes of what sessions carry, however few they are.
const PART_BYTES: usize = 8 << 20;

/// A transaction that reads.
pub(super) struct Snapshot<'a> {
    rows: Pin<Box<RowStream>>,
    before: String,
    /// Kept open: the rows are its.
    _transaction: Transaction<'a>,
}

/// Sessions next to each other.
pub(super) struct Part {
    /// Behind the last id of the part before.
    pub(super) after: String,
    /// All of the database between there and the last of them; behind that there is nothing if this is the last part.
    pub(super) rows: Vec<SessionRow>,
    pub(super) is_last: bool,
}

impl<'a> Snapshot<'a> {
    /// Takes it, and says where the log was just after.
    pub(super) async fn take(client: &'a mut Client) -> Result<(Self, Lsn)> {
        let transaction = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        let transaction = transaction.read_only(true).start().await.map_err(failed)?;
        // In the order of the key, row by row: sorting first would take as much room again. A slow reader is no reason to stop.
        let plan = "SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0; \
                    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
        transaction.batch_execute(plan).await.map_err(failed)?;
        let position = concat!("SELECT ", bytes_of!("pg_current_wal_insert_lsn()"), " AS position");
        let position = lsn(&transaction.query_one(position, &[]).await.map_err(failed)?, "position");
        let sql = "SELECT id, environment_id, organization_id, project_id, environment_type, external_id, session_type, \
                   task_identifier, CAST(tags AS text) AS tags, metadata, closed_at_ms, closed_reason, expires_at_ms, \
                   created_at_ms, updated_at_ms, is_test FROM session ORDER BY id COLLATE \"C\"";
        let rows = transaction.query_raw(sql, None::<bool>).await.map_err(failed)?;
        Ok((Self { rows: Box::pin(rows), before: String::new(), _transaction: transaction }, position))
    }

    /// The next part, of at most `rows_max` rows.
    pub(super) async fn next(&mut self, rows_max: usize) -> Result<Part> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < rows_max && bytes < PART_BYTES {
            let Some(row) = self.rows.try_next().await.map_err(failed)? else {
                return Ok(Part { after: std::mem::take(&mut self.before), rows, is_last: true });
            };
            let row = session(&row)?;
            bytes += row.metadata.len() + row.tags.iter().map(String::len).sum::<usize>();
            rows.push(row);
        }
        let last = rows.last().map(|row| row.session_id.clone()).unwrap_or_default();
        Ok(Part { after: std::mem::replace(&mut self.before, last), rows, is_last: false })
    }
}

/// As the stream makes it of the log.
fn session(row: &Row) -> Result<SessionRow> {
    let text = |name| row.try_get::<_, String>(name).map_err(Error::internal);
    let optional = |name| row.try_get::<_, Option<String>>(name).map_err(Error::internal);
    let time = |name| row.try_get::<_, Option<i64>>(name).map_err(Error::internal);
    let session_id = text("id")?;
    Ok(SessionRow {
        environment_id: text("environment_id")?,
        organization_id: text("organization_id")?,
        project_id: text("project_id")?,
        friendly_id: session_id.clone(),
        session_id,
        environment_type: text("environment_type")?,
        external_id: optional("external_id")?.unwrap_or_default(),
        r#type: text("session_type")?,
        task_identifier: text("task_identifier")?,
        tags: serde_json::from_str(&text("tags")?).map_err(Error::internal)?,
        metadata: index_metadata(optional("metadata")?.as_deref()),
        closed_at: time("closed_at_ms")?,
        closed_reason: optional("closed_reason")?.unwrap_or_default(),
        expires_at: time("expires_at_ms")?,
        created_at: time("created_at_ms")?.unwrap_or_default(),
        updated_at: time("updated_at_ms")?.unwrap_or_default(),
        _version: 0,
        _is_deleted: 0,
        is_test: u8::from(row.try_get::<_, bool>("is_test").map_err(Error::internal)?),
    })
}
