//! Database and index compared, row by row, while both go on; what differs is written, what is too much is removed. The first
//! copy is the same thing with an empty index.
//!
//! What is written must beat what is wrong in the index, and lose against every change that the comparison does not know of.
//! So it gets the version of a position L0 of the log that was read *before* the snapshot: every transaction that the snapshot
//! does not show has its end after L0. That is not so by itself, because a commit is in the log for a moment, or for as long as
//! a standby takes, before anyone sees it. Therefore the snapshot waits until every transaction that had begun at L0 is over.
//! Rows of the index that are newer than L0 are the stream's business, and left alone.

mod compare;
mod snapshot;

use crate::database::Database;
use crate::flights::Lsn;
use crate::metrics::Metrics;
use crate::parked::Parked;
use crate::slot::Slot;
use crate::sql::{connect, failed, lsn};
use crate::store::Store;
use crate::{Options, index};
use compare::Comparison;
use continuo_clickhouse::{ClickHouse, SessionRow};
use continuo_domain::error::Cause;
use continuo_domain::{Error, IndexPosition, Result, Violation};
use continuo_postgres_link::Link;
use snapshot::Snapshot;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

/// How often it is looked whether others are so far.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A slot that nobody reads for so long is not waited for.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// A batch that is not stored within this fails the comparison, which begins anew. The snapshot it was read from holds up the
/// database's housekeeping.
const STORE_TIMEOUT: Duration = Duration::from_secs(120);

/// What is done about differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They are counted.
    Check,
    /// The index is made to have what the database has.
    Mend,
}

/// What a comparison found, or has found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions of either side that were looked at.
    pub compared: u64,
    /// Those that are missing in the index, or other than in the database, or too much.
    pub differing: u64,
    /// Those that were written, or parked because the index refuses them.
    pub written: u64,
    /// Those that were removed from the index.
    pub removed: u64,
}

/// What a comparison is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Transactions that were open when it began have to end first.
    AwaitsTransactions,
    /// The stream has to bring what the snapshot has.
    AwaitsStream,
    /// Rows are compared; so far this was found.
    Compares(Report),
}

/// Compares all sessions. It may be given up at any point, by dropping it, and done again; a worker may stream meanwhile, and
/// should. `step` hears what it is at, again and again.
///
/// With [`Scope::Mend`] the index is complete afterwards. Fails with a violation where an operator has to act, and with
/// [`Error::Unavailable`] where a later try may pass.
pub async fn reconcile(
    options: &Options,
    scope: Scope,
    metrics: &Arc<Metrics>,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<Report> {
    let clickhouse = index::open(options).await?;
    let asking = connect(options).await?;
    // Nothing that is written here is worth waiting for a standby.
    asking.batch_execute("SET synchronous_commit = local").await.map_err(failed)?;
    let begun = Begun::find(&asking, &options.slot_name).await?;
    slot(&asking, options).await?;
    let position = after_all_that_is_open(&asking, step).await?;
    let mut reading = connect(options).await?;
    let (mut snapshot, taken_at) = Snapshot::take(&mut reading).await?;
    await_stream(&asking, options, scope, taken_at, step).await?;
    let version = IndexPosition { epoch: begun.epoch, lsn: position }.version();
    let writer = match scope {
        Scope::Check => None,
        Scope::Mend => Some(Writer::open(options, &clickhouse, metrics).await?),
    };
    let rows_max = options.batch_rows.max(1);
    let mut comparison = Comparison::new(&clickhouse, version, writer, rows_max);
    loop {
        step(Step::Compares(comparison.report()));
        // Each part is a look through all ids of the index.
        let part = snapshot.next(2 * rows_max).await?;
        let is_last = part.is_last;
        comparison.compare(part).await?;
        if is_last {
            break;
        }
    }
    let report = comparison.finish().await?;
    metrics.reconcile_differences.set(i64::try_from(report.differing).unwrap_or(i64::MAX));
    if scope == Scope::Mend {
        begun.complete(&asking, &options.slot_name).await?;
    }
    Ok(report)
}

/// What was known of the index when the comparison began.
struct Begun {
    epoch: u8,
    /// The row's own mark, which every change of it changes: a slot made anew meanwhile, an index known to be incomplete.
    mark: String,
}

impl Begun {
    async fn find(client: &Client, slot_name: &str) -> Result<Self> {
        let sql = "SELECT epoch, CAST(xmin AS text) AS mark FROM session_replication WHERE slot_name = $1";
        let row = client.query_opt(sql, &[&slot_name]).await.map_err(failed)?.ok_or_else(not_set_up)?;
        let epoch = u8::try_from(row.get::<_, i64>("epoch")).map_err(Error::internal)?;
        Ok(Self { epoch, mark: row.get("mark") })
    }

    /// Notes that the index has everything, unless what that would be said of is not what was compared.
    async fn complete(&self, client: &Client, slot_name: &str) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let sql = "UPDATE session_replication SET is_complete = true, reconciled_at_ms = $3 \
                   WHERE slot_name = $1 AND CAST(xmin AS text) = $2";
        if client.execute(sql, &[&slot_name, &self.mark, &now]).await.map_err(failed)? > 0 {
            return Ok(());
        }
        // Another comparison may have come to its end first, which is as good.
        let sql = "SELECT FROM session_replication WHERE slot_name = $1 AND epoch = $2 AND is_complete";
        let is_complete = client.query_opt(sql, &[&slot_name, &i64::from(self.epoch)]).await.map_err(failed)?.is_some();
        if is_complete { Ok(()) } else { Err(unavailable("the stream began anew during the comparison")) }
    }
}

async fn slot(client: &Client, options: &Options) -> Result<Slot> {
    let slot = Slot::find(client, &options.slot_name).await?.ok_or_else(not_set_up)?;
    if slot.is_lost {
        return Err(unavailable("the replication slot is lost; a server makes it anew"));
    }
    Ok(slot)
}

fn not_set_up() -> Error {
    let problem = "names no slot of this database yet: a server that replicates makes it when it starts";
    Violation::new("replication.slot_name", problem).into()
}

/// A position of the log; on return every transaction that could have its end before it is over, for all to see.
async fn after_all_that_is_open(client: &Client, step: &(dyn Fn(Step) + Send + Sync)) -> Result<Lsn> {
    // A record of our own: no commit ends exactly here.
    let sql =
        "SELECT CAST(pg_logical_emit_message(false, 'continuo', '') - CAST('0/0' AS pg_lsn) AS bigint) AS position";
    let position = lsn(&client.query_one(sql, &[]).await.map_err(failed)?, "position");
    // A number of our own: all that had theirs at that position are below it. The end of a snapshot would not do, because it
    // leaves out who has the highest number and is in the middle of its commit.
    let sql = "SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS number";
    let number: i64 = client.query_one(sql, &[]).await.map_err(failed)?.get("number");
    let sql = "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest";
    while client.query_one(sql, &[]).await.map_err(failed)?.get::<_, i64>("oldest") < number {
        step(Step::AwaitsTransactions);
        sleep(LOOK_EVERY).await;
    }
    Ok(position)
}

/// Waits until the stream has brought everything that the snapshot shows. Without that the comparison would still be right, and
/// find what is merely on its way.
async fn await_stream(
    client: &Client,
    options: &Options,
    scope: Scope,
    taken_at: Lsn,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<()> {
    // Something behind the position, so that a reader who has everything gets there.
    let sql = "SELECT FROM pg_logical_emit_message(true, 'continuo', '')";
    client.execute(sql, &[]).await.map_err(failed)?;
    let mut read_at = Instant::now();
    loop {
        let slot = slot(client, options).await?;
        if slot.confirmed_lsn >= taken_at {
            return Ok(());
        }
        if slot.reader_pid.is_some() {
            read_at = Instant::now();
        }
        match scope {
            Scope::Mend if read_at.elapsed() >= READER_TIMEOUT => return Ok(()),
            Scope::Check if read_at.elapsed() >= READER_TIMEOUT => {
                return Err(unavailable("the index is behind, and no server replicates: start one"));
            }
            _ => {}
        }
        step(Step::AwaitsStream);
        sleep(LOOK_EVERY).await;
    }
}

/// Stores as the worker does: what is refused is parked.
struct Writer(Store);

impl Writer {
    async fn open(options: &Options, clickhouse: &ClickHouse, metrics: &Arc<Metrics>) -> Result<Self> {
        let database = Arc::new(Database::connect(options, &Link::parse(&options.database_url)?).await?);
        let parked = Arc::new(Parked::load(database, metrics.clone()).await?);
        Ok(Self(Store::new(clickhouse.clone(), parked, metrics.clone())))
    }

    async fn write(&self, rows: &[SessionRow]) -> Result<()> {
        let stored = timeout(STORE_TIMEOUT, self.0.store(rows)).await;
        stored.unwrap_or_else(|_| Err(unavailable("the index does not take rows")))
    }
}

fn unavailable(text: &'static str) -> Error {
    Error::Unavailable(Cause::new(text))
}
