//! The publication: which changes the log is read for.

use crate::sql::failed;
use continuo_domain::Result;
use tokio_postgres::Client;

/// Whether the stream was what it should be before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It was as it should be.
    Whole,
    /// It left out changes.
    Partial,
    /// It was not there. A slot that is older than its publication cannot be read.
    Missing,
}

/// Publishes every change of the table `session`.
pub(crate) async fn ensure(client: &Client, name: &str) -> Result<Before> {
    let quoted = quoted(name);
    let before = look(client, name).await?;
    let sql = match before {
        Before::Whole => return Ok(before),
        Before::Partial => {
            format!("ALTER PUBLICATION {quoted} SET TABLE session; ALTER PUBLICATION {quoted} SET ({PUBLISH})")
        }
        Before::Missing => format!("CREATE PUBLICATION {quoted} FOR TABLE session WITH ({PUBLISH})"),
    };
    client.batch_execute(&sql).await.map_err(failed)?;
    Ok(before)
}

const PUBLISH: &str = "publish = 'insert, update, delete, truncate'";

/// Looks and changes nothing.
pub(crate) async fn look(client: &Client, name: &str) -> Result<Before> {
    // A filter of rows or columns is of newer servers, and shows in the catalog row as JSON.
    let sql = "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND (p.puballtables OR EXISTS ( \
                   SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = CAST('session' AS regclass) \
                   AND to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL)) AS is_whole \
               FROM pg_publication p WHERE p.pubname = $1";
    let row = client.query_opt(sql, &[&name]).await.map_err(failed)?;
    Ok(match row.map(|row| row.get::<_, bool>("is_whole")) {
        Some(true) => Before::Whole,
        Some(false) => Before::Partial,
        None => Before::Missing,
    })
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
