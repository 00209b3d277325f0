//! Reads outside a transaction, once more where the connection turned out to be dead.

use crate::error::{is_connection_lost, no_answer};
use sea_orm::{AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult};
use sea_orm::{IsolationLevel, QueryResult, Statement, TransactionTrait};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections for single reads. A connection that broke while it was idle (a restart of the server) shows it at its next
/// use: the read is repeated, on one that was tested or is new.
pub(crate) struct Reads {
    connections: DatabaseConnection,
    remote: Option<Remote>,
}

/// What there is to mind about a server on the other side of a network.
pub(crate) struct Remote {
    pub(crate) doubt: Doubt,
    /// How long an answer is waited for: past this the way to the server is cut, as the server gives up sooner.
    pub(crate) patience: Duration,
}

impl Reads {
    /// On connections that do not break by themselves.
    pub(crate) fn plain(connections: DatabaseConnection) -> Self {
        Self { connections, remote: None }
    }

    pub(crate) fn remote(connections: DatabaseConnection, remote: Remote) -> Self {
        Self { connections, remote: Some(remote) }
    }

    /// A transaction; READ ONLY if it has an isolation level.
    pub(crate) async fn begin(&self, isolation: Option<IsolationLevel>) -> Result<DatabaseTransaction, DbErr> {
        let access = isolation.map(|_| AccessMode::ReadOnly);
        self.twice(|connections| connections.begin_with_config(isolation, access)).await
    }

    pub(crate) async fn close(&self) {
        // The error type of sea-orm says nothing a caller could act on: the connections are gone either way.
        let _ = self.connections.close_by_ref().await;
    }

    /// Once, without a second try: for what is not a read.
    pub(crate) async fn once(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.within(self.connections.query_all_raw(statement)).await;
        rows.inspect_err(|error| self.note(error))
    }

    /// Tells the pool to test its connections, if this error says that one of them was dead.
    pub(crate) fn note(&self, error: &DbErr) {
        if let Some(remote) = self.remote.as_ref().filter(|_| is_connection_lost(error)) {
            remote.doubt.raise();
        }
    }

    /// Waits for an answer no longer than there is patience for.
    pub(crate) async fn within<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(remote) = &self.remote else { return answer.await };
        tokio::time::timeout(remote.patience, answer).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn twice<'s, T, F>(&'s self, ask: impl Fn(&'s DatabaseConnection) -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>> + Send,
    {
        match self.within(ask(&self.connections)).await {
            Err(error) if is_connection_lost(&error) => {
                self.note(&error);
                self.within(ask(&self.connections)).await
            }
            answer => answer,
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Reads {
    fn get_database_backend(&self) -> DbBackend {
        self.connections.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.twice(|connections| connections.execute_raw(statement.clone())).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.connections.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.twice(|connections| connections.query_one_raw(statement.clone())).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.twice(|connections| connections.query_all_raw(statement.clone())).await
    }
}

/// When a connection was last found dead. Whoever takes an idle connection asks whether it has been of use since; one that
/// has not is tested first. So an incident costs a round trip for each connection, and the hot path none.
#[derive(Clone)]
pub(crate) struct Doubt {
    origin: Instant,
    /// Microseconds after the origin; 0 for never.
    since: Arc<AtomicU64>,
}

impl Doubt {
    pub(crate) fn none() -> Self {
        Self { origin: Instant::now(), since: Arc::default() }
    }

    fn raise(&self) {
        self.since.fetch_max(self.micros(Instant::now()).max(1), Ordering::Relaxed);
    }

    /// Was a connection that has been idle for this long not of use since the doubt arose?
    pub(crate) fn covers(&self, idle_for: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let used_at = Instant::now().checked_sub(idle_for).unwrap_or(self.origin);
        since != 0 && self.micros(used_at) <= since
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_covers_what_was_idle_when_it_arose() {
        let doubt = Doubt::none();
        assert!(!doubt.covers(Duration::from_secs(9)));
        doubt.raise();
        assert!(doubt.covers(Duration::from_secs(9)));
        // Doubt counts in microseconds.
        let raised = Instant::now();
        while raised.elapsed() < Duration::from_micros(2) {
            std::hint::spin_loop();
        }
        assert!(!doubt.covers(Duration::ZERO), "returned to the pool after it");
        assert!(doubt.covers(Duration::from_secs(9)));
    }
}
