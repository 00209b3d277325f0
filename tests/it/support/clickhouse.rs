//! A database of its own in the ClickHouse that all tests share, dropped when the test is over.

use super::rest::Rest;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the server is.
pub(crate) fn clickhouse_url() -> String {
    std::env::var("CONTINUO_TEST_CLICKHOUSE_URL")
        .expect("no ClickHouse to test on; start one with: eval \"$(tests/services up)\"")
}

pub(crate) struct ClickHouseDatabase {
    /// Its name; a slot may have the same one, as all of them are of one Postgres.
    pub(crate) name: String,
}

impl ClickHouseDatabase {
    /// A name that nobody has yet. Whoever migrates makes the database.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("continuo_test_it_{}_{count}", std::process::id()) }
    }

    /// What a statement answers.
    pub(crate) async fn ask(&self, statement: &str) -> String {
        ask(statement.replace("{database}", &self.name)).await
    }
}

impl Drop for ClickHouseDatabase {
    /// On a thread of its own: the test's runtime may be the one that drops it.
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} SYNC", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ask(drop));
        });
        // A panic here would hide the one that ended the test.
        let _ = dropping.join();
    }
}

async fn ask(statement: String) -> String {
    let answer = Rest::new(clickhouse_url().trim_end_matches('/'), None).post("/", statement.clone()).await;
    assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
    answer.text().trim_end().to_owned()
}
