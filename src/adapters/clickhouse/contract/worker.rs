//! A test in the place of the replication worker: it stores noted sessions when it is told to, and removes their notes.

use super::new_sessions::{env, other_env, tenant};
use super::postgres::PostgresDatabase;
use super::session_walk::Random;
use crate::tests::ClickHouseDatabase;
use crate::{ClickHouse, ClickHouseIndex, SessionRow};
use continuo_database::SqlStore;
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{EnvironmentId, SessionId};
use continuo_ports::environments::Environment;
use continuo_ports::{Environments, IndexedRows, SessionIndex, SessionStore};
use sea_orm::sqlx::{self, PgPool};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

const SLOT: &str = "the slot";

/// How far the worker gets before a question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    /// Nowhere: everything is noted.
    Nothing,
    /// Up to the last change.
    Everything,
    /// Some sessions and not others; old rows come again; parts are merged at times.
    ThisAndThat,
}

/// A copy is the same worker.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) sessions: Arc<dyn SessionStore>,
    pub(super) rows: Arc<dyn IndexedRows>,
    pub(super) sql: Arc<dyn SessionIndex>,
    store: SqlStore,
    pub(super) clickhouse: ClickHouse,
    pub(super) pool: PgPool,
    version: Arc<AtomicU64>,
    /// What was stored last of each session.
    stored: Arc<Mutex<HashMap<String, SessionRow>>>,
    _databases: Arc<(PostgresDatabase, ClickHouseDatabase)>,
}

impl Worker {
    /// Empty databases, with the trigger that notes changes, and an index that is complete.
    pub(super) async fn start() -> Self {
        let postgres = PostgresDatabase::migrated().await;
        let table = ClickHouseDatabase::migrated().await;
        let store = Arc::new(SqlStore::new(postgres.connect().await));
        let pool = PgPool::connect(&postgres.url).await.unwrap();
        sqlx::raw_sql(continuo_migrations::replication::INSTALL).execute(&pool).await.unwrap();
        note_complete(&pool, SLOT).await;
        for environment in [env(), other_env()] {
            let slug = environment.to_string();
            let environment = Environment {
                tenant: tenant(environment),
                root_key_hash: slug.clone().into_bytes(),
                slug,
                root_key_sealed: vec![],
                rotated: vec![],
                tokens_not_before: None,
            };
            Environments::put(&*store, environment, super::new_sessions::T0).await.unwrap();
        }
        Self {
            rows: store.indexed_rows(SLOT),
            sessions: store.clone(),
            sql: store.clone(),
            store: SqlStore::clone(&store),
            clickhouse: table.clickhouse.clone(),
            pool,
            version: Arc::new(AtomicU64::new(1)),
            stored: Arc::default(),
            _databases: Arc::new((postgres, table)),
        }
    }

    /// A slot that is there, of an index that is complete. It goes with the database.
    pub(super) async fn make_slot(&self) -> String {
        let name = "SELECT 'index_' || oid FROM pg_database WHERE datname = current_database()";
        let name: String = sqlx::query_scalar(name).fetch_one(&self.pool).await.unwrap();
        let make = sqlx::query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')");
        make.bind(&name).execute(&self.pool).await.unwrap();
        note_complete(&self.pool, &name).await;
        name
    }

    /// The rows beside another slot.
    pub(super) fn rows_of_slot(&self, slot_name: &str) -> Arc<dyn IndexedRows> {
        self.store.indexed_rows(slot_name)
    }

    pub(super) fn index(&self) -> ClickHouseIndex {
        self.index_on(self.rows.clone())
    }

    pub(super) fn index_on(&self, rows: Arc<dyn IndexedRows>) -> ClickHouseIndex {
        ClickHouseIndex::new(self.clickhouse.clone(), rows, self.sql.clone())
    }

    pub(super) async fn feed(&self, feed: Feed, random: &mut Random) {
        match feed {
            Feed::Nothing => {}
            Feed::Everything => self.store_noted(|_| true).await,
            Feed::ThisAndThat => {
                self.store_noted(|_| random.below(4) == 0).await;
                if random.below(8) == 0 {
                    self.repeat(random).await;
                }
                if random.below(24) == 0 {
                    self.merge().await;
                }
            }
        }
    }

    /// Stores the noted sessions that are chosen, as they are now, and removes the notes that were there before.
    pub(super) async fn store_noted(&self, mut choose: impl FnMut(&str) -> bool) {
        let notes = "SELECT transaction_id, session_id, environment_id FROM session_change ORDER BY 1, 2";
        let notes: Vec<(i64, String, String)> = sqlx::query_as(notes).fetch_all(&self.pool).await.unwrap();
        let mut rows = Vec::new();
        let mut done = Vec::new();
        for (transaction, session, environment) in notes {
            if !choose(&session) {
                continue;
            }
            rows.extend(self.row(&session, &environment).await);
            done.push((transaction, session));
        }
        self.insert(&rows).await;
        for (transaction, session) in done {
            let remove = sqlx::query("DELETE FROM session_change WHERE transaction_id = $1 AND session_id = $2");
            remove.bind(transaction).bind(session).execute(&self.pool).await.unwrap();
        }
    }

    pub(super) async fn insert(&self, rows: &[SessionRow]) {
        if rows.is_empty() {
            return;
        }
        let table = self.clickhouse.table("sessions_v1");
        let mut insert = self.clickhouse.client.insert_unescaped::<SessionRow>(&table).await.unwrap();
        for row in rows {
            insert.write(row).await.unwrap();
        }
        insert.end().await.unwrap();
    }

    /// The session as it is, or that it is no more: none for one that came and went unseen.
    async fn row(&self, session: &str, environment: &str) -> Option<SessionRow> {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let (id, environment) = (SessionId::parse(session).unwrap(), EnvironmentId::parse(environment).unwrap());
        let mut stored = self.stored.lock().await;
        let row = match self.sessions.get(&environment, &SessionRef::Id(id)).await.unwrap() {
            Some(session) => row_of(session, version),
            None => SessionRow { _is_deleted: 1, _version: version, ..stored.get(session)?.clone() },
        };
        stored.insert(session.to_owned(), row.clone());
        Some(row)
    }

    /// Rows that were stored already come again, and one comes as nobody remembers it.
    async fn repeat(&self, random: &mut Random) {
        let stored = self.stored.lock().await;
        let again: Vec<_> = stored.values().filter(|_| random.below(4) == 0).cloned().collect();
        let older = again.iter().map(|row| SessionRow { _version: 0, _is_deleted: 0, closed_at: None, ..row.clone() });
        let rows: Vec<_> = older.chain(again.iter().cloned()).collect();
        self.insert(&rows).await;
    }

    /// Of each session the newest version is left.
    pub(super) async fn merge(&self) {
        let merge = format!("OPTIMIZE TABLE {} FINAL", self.clickhouse.table("sessions_v1"));
        self.clickhouse.client.query(&merge).execute().await.unwrap();
    }
}

async fn note_complete(pool: &PgPool, slot_name: &str) {
    let complete = "INSERT INTO session_replication (slot_name, system_identifier, timeline, epoch, is_complete) \
                    VALUES ($1, '', 1, 1, true)";
    sqlx::query(complete).bind(slot_name).execute(pool).await.unwrap();
}

pub(super) fn row_of(session: Session, version: u64) -> SessionRow {
    SessionRow {
        environment_id: session.tenant.environment.to_string(),
        organization_id: session.tenant.organization.to_string(),
        project_id: session.tenant.project.to_string(),
        session_id: session.id.to_string(),
        environment_type: session.tenant.environment_type.as_str().into(),
        friendly_id: session.id.to_string(),
        external_id: session.external_id.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        r#type: session.session_type,
        task_identifier: session.task_identifier,
        tags: session.tags,
        metadata: r#"{"data":null}"#.into(),
        closed_at: session.closed_at.map(|at| at.0),
        closed_reason: session.closed_reason.unwrap_or_default(),
        expires_at: session.expires_at.map(|at| at.0),
        created_at: session.created_at.0,
        updated_at: session.updated_at.0,
        _version: version,
        _is_deleted: 0,
        is_test: session.is_test.into(),
    }
}
