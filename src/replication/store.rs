//! Rows into the index, whatever it takes.

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::parked::Parked;
use clickhouse::error::Error as ClickHouseError;
use continuo_clickhouse::{ClickHouse, Refusal, SessionRow, is_refused};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an insert may take. One that was given up may have been stored, and is stored again: the same row with the same
/// version counts once.
const INSERT_TIMEOUT: Duration = Duration::from_secs(20);

/// The table of the index.
pub(crate) struct Store {
    clickhouse: ClickHouse,
    table: String,
    parked: Arc<Parked>,
    metrics: Arc<Metrics>,
}

/// What became of one insert.
enum Answer {
    Stored,
    /// The rows are not to its liking, and will not be another time.
    Refused(Refusal),
    /// It did not answer, or is in trouble.
    Away(ClickHouseError),
}

impl Store {
    pub(crate) fn new(clickhouse: ClickHouse, parked: Arc<Parked>, metrics: Arc<Metrics>) -> Self {
        let table = clickhouse.table("sessions_v1");
        Self { clickhouse, table, parked, metrics }
    }

    /// Stores the rows, or parks those that are refused, however long that takes. Fails where the database fails in which they
    /// are parked.
    pub(crate) async fn store(&self, rows: &[SessionRow]) -> Result<()> {
        let mut rest = vec![rows];
        let mut backoff = Backoff::default();
        while let Some(part) = rest.pop() {
            let refusal = match self.insert(part).await {
                Answer::Stored => {
                    self.metrics.sessions_inserted.inc_by(part.len() as u64);
                    self.parked.stored(part).await?;
                    backoff = Backoff::default();
                    continue;
                }
                Answer::Refused(refusal) => refusal,
                Answer::Away(error) => {
                    let wait = backoff.next();
                    tracing::warn!(error = %brief(&error), rows = part.len(), ?wait, "the index does not take rows; trying again");
                    self.again(part, wait, &mut rest).await;
                    continue;
                }
            };
            match part {
                [row] if self.parked.has_room() => self.parked.park(row, &refusal).await?,
                // So many refused rows are no accident of the rows. Nothing is lost by waiting for somebody to look.
                [_] => {
                    let wait = backoff.next();
                    tracing::error!(code = refusal.code, ?wait, "too many rows are parked already; waiting");
                    self.again(part, wait, &mut rest).await;
                }
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    rest.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    async fn again<'a>(&self, part: &'a [SessionRow], wait: Duration, rest: &mut Vec<&'a [SessionRow]>) {
        self.metrics.insert_retries.get_or_create(&[("operation", "insert")]).inc();
        self.metrics.batches_flushed.get_or_create(&[("success", "false")]).inc();
        sleep(wait).await;
        rest.push(part);
    }

    /// Tries a parked row once more. `Ok(Err(…))` where it is refused again.
    pub(crate) async fn retry(&self, row: &SessionRow) -> Result<Result<(), Refusal>> {
        self.metrics.insert_retries.get_or_create(&[("operation", "parked")]).inc();
        match self.insert(std::slice::from_ref(row)).await {
            Answer::Stored => Ok(Ok(())),
            Answer::Refused(refusal) => Ok(Err(refusal)),
            Answer::Away(error) => Err(away(error)),
        }
    }

    /// The newest version that the index has of the row's session.
    pub(crate) async fn newest(&self, row: &SessionRow) -> Result<u64> {
        let newest = format!(
            "SELECT max(_version) FROM {} WHERE organization_id = ? AND project_id = ? AND environment_id = ?
             AND created_at = fromUnixTimestamp64Milli(?) AND session_id = ?",
            self.table
        );
        let query = self.clickhouse.client().query(&newest);
        let query = query.bind(&row.organization_id).bind(&row.project_id).bind(&row.environment_id);
        let newest = query.bind(row.created_at).bind(&row.session_id).fetch_one::<u64>();
        timeout(INSERT_TIMEOUT, newest).await.unwrap_or(Err(ClickHouseError::TimedOut)).map_err(away)
    }

    async fn insert(&self, rows: &[SessionRow]) -> Answer {
        if rows.is_empty() {
            return Answer::Stored;
        }
        let insert = async {
            let mut insert = self.clickhouse.client().insert_unescaped::<SessionRow>(&self.table).await?;
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        };
        match timeout(INSERT_TIMEOUT, insert).await.unwrap_or(Err(ClickHouseError::TimedOut)) {
            Ok(()) => Answer::Stored,
            Err(error) => is_refused(&error).map_or_else(|| Answer::Away(error), Answer::Refused),
        }
    }
}

fn away(error: ClickHouseError) -> Error {
    Error::Unavailable(Cause::new(error))
}

/// ClickHouse quotes what it was sent: the log gets the beginning, which names the kind of trouble.
fn brief(error: &ClickHouseError) -> String {
    error.to_string().chars().take(120).collect()
}
