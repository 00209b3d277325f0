//! Connections to Postgres, and transactions on them.
//!
//! Nothing here outlives a transaction: no lock, no setting, so any number of replicas may come and go. What a frozen or
//! cut-off replica holds in an open transaction is freed by the server's own clock.

use crate::error::{self, failed, is_worth_another_try, no_answer, not_committed};
use crate::reads::{Doubt, Reads, Remote};
use crate::replica::Replica;
use crate::schema;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Violation};
use futures_util::future::BoxFuture;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions, Connection};
use sea_orm::{DatabaseConnection, DatabaseTransaction, IsolationLevel};
use sea_orm::{QueryResult, SqlxPostgresConnector, Statement};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs of one job before its error is the caller's.
const TRIES_MAX: u32 = 5;
/// How long the loser of a deadlock stays away, the first time.
const GIVE_WAY: Duration = Duration::from_millis(20);
/// The server ends a transaction whose owner says nothing for this long: it is frozen or cut off, and others wait.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// How long a statement waits for a lock that another transaction holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// What a statement may take, unless it is said.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than the server's own limits an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection to the read replica is waited for: the primary would do.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);
/// Distinct statements that a connection keeps prepared. Lists of values of different lengths are different statements.
const STATEMENTS_PREPARED: usize = 512;

/// Where Postgres is and how it is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. Holds a secret.
    pub url: String,
    /// Connections of this process to the primary, at least 1.
    pub pool_max: u32,
    /// How long a caller waits for a free connection, and for the server to come back.
    pub acquire_timeout: Duration,
    /// After which the server gives a statement up; `None` leaves it to the server's own setting.
    pub statement_timeout: Option<Duration>,
    /// A standby of the primary for lists, of sessions, runs and waitpoints, with a pool of the same size. It is used only
    /// when it has replayed what was acknowledged before the list began, and only then; otherwise the primary is.
    pub read_replica_url: Option<String>,
    /// How this process calls itself in `pg_stat_activity`.
    pub application_name: String,
}

impl PostgresOptions {
    /// The defaults: 16 connections, 5 s to get one, 30 s for a statement.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_max: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Some(STATEMENT_TIMEOUT),
            read_replica_url: None,
            application_name: "continuo".into(),
        }
    }

    /// How long an answer may take before the way to the server counts as cut.
    fn patience(&self) -> Duration {
        self.acquire_timeout + self.statement_timeout.unwrap_or(STATEMENT_TIMEOUT) + PATIENCE
    }

    fn connect_options(&self) -> Result<PgConnectOptions> {
        // The text of the error may quote the URL, which holds a password.
        self.options_of("database_url", &self.url)
    }

    fn options_of(&self, field: &str, url: &str) -> Result<PgConnectOptions> {
        let options: PgConnectOptions =
            url.parse().map_err(|_| Violation::new(field, "is not a URL of a Postgres database"))?;
        Ok(options
            .application_name(&self.application_name)
            .statement_cache_capacity(STATEMENTS_PREPARED)
            .disable_statement_logging())
    }

    /// What the server is told to give up by itself.
    fn timeouts(&self) -> Vec<(&'static str, String)> {
        let mut timeouts =
            vec![("idle_in_transaction_session_timeout", ms(IDLE_IN_TRANSACTION)), ("lock_timeout", ms(LOCK_TIMEOUT))];
        timeouts.extend(self.statement_timeout.map(|timeout| ("statement_timeout", ms(timeout))));
        timeouts
    }
}

pub(crate) struct Postgres {
    options: PostgresOptions,
    reads: Reads,
    replica: Option<Replica>,
    round_trips: Arc<AtomicU64>,
}

impl Postgres {
    pub(crate) async fn connect(options: PostgresOptions) -> Result<Self> {
        let doubt = Doubt::none();
        let replica = match &options.read_replica_url {
            Some(url) => Some(replica(&options, options.options_of("read_replica_url", url)?)),
            None => None,
        };
        let connections = pool(options.pool_max, &options, doubt.clone())
            .connect_with(options.connect_options()?.options(options.timeouts()))
            .await
            .map_err(|e| Error::Unavailable(Cause::new(e)))?;
        let round_trips = Arc::new(AtomicU64::new(0));
        let connections = counted(SqlxPostgresConnector::from_sqlx_postgres_pool(connections), &round_trips);
        let remote = Remote { doubt, patience: options.patience() };
        Ok(Self { options, reads: Reads::remote(connections, remote), replica, round_trips })
    }

    /// A connection of its own that holds the lock under which one process at a time changes the schema. The lock goes with it.
    pub(crate) async fn turn(&self) -> Result<DatabaseConnection> {
        let connection = pool(1, &self.options, Doubt::none())
            .connect_with(self.options.connect_options()?)
            .await
            .map_err(|e| Error::Unavailable(Cause::new(e)))?;
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(connection);
        schema::take_turn(&connection).await?;
        Ok(connection)
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) async fn snapshot(&self) -> Result<DatabaseTransaction> {
        self.count(2);
        self.reads.begin(Some(IsolationLevel::RepeatableRead)).await.map_err(failed)
    }

    /// A snapshot of the read replica, where that is as good as one of the primary.
    pub(crate) async fn fresh_replica(&self) -> Result<Option<DatabaseTransaction>> {
        match &self.replica {
            Some(replica) => replica.snapshot(&self.reads).await,
            None => Ok(None),
        }
    }

    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T>
    where
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Clone + Send,
    {
        let mut tries = 1;
        loop {
            match self.try_write(job.clone()).await {
                Err(error) if tries < TRIES_MAX && is_worth_another_try(&error) => {
                    tracing::debug!(tries, cause = error.cause().map(Cause::for_log), "a transaction is run again");
                    give_way(&error, tries).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn try_write<T, F>(&self, job: F) -> Result<T>
    where
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send,
    {
        self.count(1);
        let transaction = self.reads.begin(None).await.map_err(failed)?;
        self.count(1);
        let done = tokio::time::timeout(self.options.patience(), job(&transaction)).await;
        match done.unwrap_or_else(|_| Err(failed(no_answer()))) {
            Ok(value) => {
                let committed = self.reads.within(transaction.commit()).await;
                committed.inspect_err(|e| self.reads.note(e)).map_err(not_committed)?;
                Ok(value)
            }
            Err(error) => {
                error::db_error(&error).inspect(|e| self.reads.note(e));
                // Fails where the connection is gone, and the transaction with it.
                let _ = self.reads.within(transaction.rollback()).await;
                Err(error)
            }
        }
    }

    /// In autocommit: an answer that is lost may be the one that says it is done.
    pub(crate) async fn write_one(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        let mut tries = 1;
        loop {
            let answer = self.reads.once(statement.clone()).await;
            match answer.map_err(error::failed_alone) {
                Err(error) if tries < TRIES_MAX && is_worth_another_try(&error) => {
                    give_way(&error, tries).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    pub(crate) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(&self) {
        self.reads.close().await;
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
    }

    fn count(&self, round_trips: u64) {
        self.round_trips.fetch_add(round_trips, Ordering::Relaxed);
    }
}

/// Lets the one that won a deadlock go on: who comes back at once may take the lock from under it, and they meet again.
async fn give_way(error: &Error, tries: u32) {
    if error::db_error(error).is_some() {
        tokio::time::sleep(GIVE_WAY * tries).await;
    }
}

/// Connections are not tested when they are taken, which would double the round trips of a read, but for those in doubt.
fn pool(size: u32, options: &PostgresOptions, doubt: Doubt) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size.max(1))
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(move |connection, known| {
            let is_in_doubt = doubt.covers(known.idle_for);
            Box::pin(async move {
                if is_in_doubt {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Not waited for: a replica that is away is no reason not to start. Who asks for it waits a moment only.
fn replica(options: &PostgresOptions, at: PgConnectOptions) -> Replica {
    let doubt = Doubt::none();
    let pool = pool(options.pool_max, options, doubt.clone())
        .acquire_timeout(options.acquire_timeout.min(REPLICA_TIMEOUT))
        .connect_lazy_with(at.options(options.timeouts()));
    let remote = Remote { doubt, patience: options.patience() };
    Replica::new(Reads::remote(SqlxPostgresConnector::from_sqlx_postgres_pool(pool), remote))
}

fn counted(mut connections: DatabaseConnection, round_trips: &Arc<AtomicU64>) -> DatabaseConnection {
    let round_trips = round_trips.clone();
    connections.set_metric_callback(move |_| {
        round_trips.fetch_add(1, Ordering::Relaxed);
    });
    connections
}

fn ms(timeout: Duration) -> String {
    timeout.as_millis().to_string()
}
