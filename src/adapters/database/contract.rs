//! The contract suites of the ports, on SQLite.

#[path = "../../../tests/it/contract/environments.rs"]
mod environments;
#[path = "../../../tests/it/contract/rows.rs"]
pub(crate) mod rows;
#[path = "../../../tests/it/contract/run_store.rs"]
mod run_store;
#[path = "../../../tests/it/contract/session_index.rs"]
mod session_index;
#[path = "../../../tests/it/contract/session_store.rs"]
mod session_store;
#[path = "../../../tests/it/contract/triggers.rs"]
mod triggers;

use crate::{Database, SqlStore};
use environments::environments_contract;
use rows::{Rows, rows_tests};
use run_store::run_store_contract;
use session_index::session_index_contract;
use session_store::session_store_contract;
use std::sync::Arc;
use tempfile::TempDir;
use triggers::triggers_contract;

async fn on_a_temp_dir() -> (Rows, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path().join("continuo.sqlite")).await.unwrap();
    let store = Arc::new(SqlStore::new(database));
    let rows = Rows { sessions: store.clone(), index: store.clone(), runs: store.clone(), environments: store.clone() };
    (rows, directory)
}

session_store_contract!(sessions_on_sqlite, crate::contract::session_store, on_a_temp_dir());
session_index_contract!(index_on_sqlite, crate::contract::session_index, on_a_temp_dir());
run_store_contract!(runs_on_sqlite, crate::contract::run_store, on_a_temp_dir());
triggers_contract!(triggers_on_sqlite, crate::contract::triggers, on_a_temp_dir());
environments_contract!(environments_on_sqlite, crate::contract::environments, on_a_temp_dir());
