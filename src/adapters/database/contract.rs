//! The contract suites of the ports, on SQLite and on Postgres.

#[path = "../../../tests/it/contract/append_claims.rs"]
mod append_claims;
#[path = "../../../tests/it/contract/environments.rs"]
mod environments;
#[path = "../../../tests/it/contract/new_sessions.rs"]
mod new_sessions;
#[path = "../../../tests/it/support/postgres.rs"]
pub(crate) mod postgres;
#[path = "../../../tests/it/contract/queues.rs"]
mod queues;
#[path = "../../../tests/it/contract/rows.rs"]
pub(crate) mod rows;
#[path = "../../../tests/it/contract/run_store.rs"]
mod run_store;
#[path = "../../../tests/it/contract/session_index.rs"]
mod session_index;
#[path = "../../../tests/it/contract/session_store.rs"]
mod session_store;
#[path = "../../../tests/it/contract/session_walk.rs"]
mod session_walk;
#[path = "../../../tests/it/contract/triggers.rs"]
mod triggers;
#[path = "../../../tests/it/contract/worker_store.rs"]
mod worker_store;

use crate::{Database, SqlStore};
use append_claims::append_claims_contract;
use environments::environments_contract;
use postgres::PostgresDatabase;
use queues::queues_contract;
use rows::{Rows, rows_tests};
use run_store::run_store_contract;
use session_index::{Lists, session_index_contract};
use session_store::session_store_contract;
use std::sync::Arc;
use tempfile::TempDir;
use triggers::triggers_contract;
use worker_store::worker_store_contract;

async fn on_sqlite() -> (Rows, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path().join("continuo.sqlite")).await.unwrap();
    (rows_of(database), directory)
}

async fn on_postgres() -> (Rows, PostgresDatabase) {
    let database = PostgresDatabase::migrated().await;
    (rows_of(database.connect().await), database)
}

pub(crate) fn rows_of(database: Database) -> Rows {
    let store = Arc::new(SqlStore::new(database));
    Rows {
        sessions: store.clone(),
        index: store.clone(),
        runs: store.clone(),
        workers: store.clone(),
        environments: store.clone(),
        claims: store,
    }
}

async fn lists<G>(on: impl Future<Output = (Rows, G)>) -> (Lists, G) {
    let (rows, guard) = on.await;
    (Lists { sessions: rows.sessions, index: rows.index }, guard)
}

session_store_contract!(sessions_on_sqlite, crate::contract::session_store, on_sqlite());
session_store_contract!(sessions_on_postgres, crate::contract::session_store, on_postgres());
session_index_contract!(index_on_sqlite, crate::contract::session_index, lists(on_sqlite()));
session_index_contract!(index_on_postgres, crate::contract::session_index, lists(on_postgres()));
run_store_contract!(runs_on_sqlite, crate::contract::run_store, on_sqlite());
run_store_contract!(runs_on_postgres, crate::contract::run_store, on_postgres());
triggers_contract!(triggers_on_sqlite, crate::contract::triggers, on_sqlite());
triggers_contract!(triggers_on_postgres, crate::contract::triggers, on_postgres());
environments_contract!(environments_on_sqlite, crate::contract::environments, on_sqlite());
environments_contract!(environments_on_postgres, crate::contract::environments, on_postgres());
append_claims_contract!(claims_on_sqlite, crate::contract::append_claims, on_sqlite());
append_claims_contract!(claims_on_postgres, crate::contract::append_claims, on_postgres());
queues_contract!(queues_on_sqlite, crate::contract::queues, on_sqlite());
queues_contract!(queues_on_postgres, crate::contract::queues, on_postgres());
worker_store_contract!(workers_on_sqlite, crate::contract::worker_store, on_sqlite());
worker_store_contract!(workers_on_postgres, crate::contract::worker_store, on_postgres());
