//! A database of each kind for one run, and servers over them.

use crate::support::postgres::PostgresDatabase;
use crate::support::process::{ServerProcess, run};
use crate::support::{ADMIN_KEY, Client, KEY};
use continuo_clickhouse::{ClickHouse, Options};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

const MASTER_KEY: &str = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
const GIVE_UP_AFTER: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// No part came or went for so long: the merges are done.
const MERGED_AFTER: Duration = Duration::from_secs(3);
const DAY_MS: i64 = 86_400_000;
/// Rows are spread over so many days before now.
const DAYS: i64 = 90;

/// Where a server takes its lists from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    ClickHouse,
    Postgres,
}

pub(crate) struct Sides {
    postgres: PostgresDatabase,
    sql: DatabaseConnection,
    clickhouse: ClickHouse,
    /// Its URL and database.
    address: (String, String),
    slot: String,
    /// The embedded log belongs to the database, whichever server has it open.
    data: TempDir,
    began_ms: i64,
    /// Between two rows.
    step_ms: i64,
}

impl Sides {
    /// For so many rows.
    pub(crate) async fn new(rows: usize) -> Self {
        let url = std::env::var("CONTINUO_TEST_CLICKHOUSE_URL")
            .expect("no ClickHouse to measure; start one with: eval \"$(tests/services up)\"");
        let name = format!("continuo_bench_{}", std::process::id());
        let postgres = PostgresDatabase::migrated().await;
        let sql = sea_orm::Database::connect(&postgres.url).await.unwrap();
        let clickhouse = ClickHouse::new(&Options { url: url.clone(), database: name.clone() }).unwrap();
        let began_ms =
            one(&sql, "SELECT CAST(extract(epoch FROM now()) * 1000 AS bigint)").await.try_get_by_index(0).unwrap();
        let step_ms = ((DAYS - 1) * DAY_MS / rows as i64).max(1);
        let (address, data) = ((url, name.clone()), tempfile::tempdir().unwrap());
        let sides = Self { postgres, sql, clickhouse, address, slot: name, data, began_ms, step_ms };
        let settings = sides.settings(Side::ClickHouse);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let migrated = run(&["migrate", "up"], &settings).await;
        assert_eq!(migrated.code, 0, "{}", migrated.stderr);
        sides
    }

    fn settings(&self, side: Side) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("CONTINUO_DATABASE_URL", self.postgres.url.clone()),
            ("CONTINUO_MASTER_KEY", MASTER_KEY.to_owned()),
            ("CONTINUO_ADMIN_KEY", ADMIN_KEY.to_owned()),
            ("CONTINUO_DATA_DIR", self.data.path().to_str().unwrap().to_owned()),
            ("CONTINUO_LOG", "warn".to_owned()),
        ];
        if side == Side::ClickHouse {
            settings.push(("CONTINUO_CLICKHOUSE_URL", self.address.0.clone()));
            settings.push(("CONTINUO_CLICKHOUSE_DATABASE", self.address.1.clone()));
            settings.push(("CONTINUO_REPLICATION_SLOT_NAME", self.slot.clone()));
            settings.push(("CONTINUO_REPLICATION_PUBLICATION_NAME", self.slot.clone()));
        }
        settings
    }

    pub(crate) async fn start(&self, side: Side) -> ServerProcess {
        let settings = self.settings(side);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ServerProcess::start_with(&settings).await
    }

    pub(crate) async fn client(&self, server: &ServerProcess) -> Client {
        Client::connect(&server.url, KEY).await
    }

    /// Does Postgres wait for the disk?
    pub(crate) async fn fsync(&self) -> String {
        one(&self.sql, "SHOW fsync").await.try_get_by_index(0).unwrap()
    }

    /// Until the index has everything that was there before the slot.
    pub(crate) async fn until_complete(&self) {
        let slot = &self.slot;
        let is_complete =
            format!("SELECT count(*) FROM session_replication WHERE slot_name = '{slot}' AND is_complete");
        self.until(&is_complete, "the first copy is complete").await;
    }

    /// Until the slot knows that everything is stored.
    pub(crate) async fn until_acknowledged(&self) {
        let tip: String =
            one(&self.sql, "SELECT CAST(pg_current_wal_flush_lsn() AS text)").await.try_get_by_index(0).unwrap();
        let slot = &self.slot;
        let is_up = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND confirmed_flush_lsn >= '{tip}'"
        );
        self.until(&is_up, "everything is acknowledged").await;
    }

    async fn until(&self, count: &str, what: &str) {
        let began = Instant::now();
        while one(&self.sql, count).await.try_get_by_index::<i64>(0).unwrap() == 0 {
            assert!(began.elapsed() < GIVE_UP_AFTER, "not within {GIVE_UP_AFTER:?}: {what}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Bytes of the log that the slot was not told are stored.
    pub(crate) async fn waiting_bytes(&self) -> i64 {
        let slot = &self.slot;
        let sql = format!(
            "SELECT CAST(pg_current_wal_lsn() - confirmed_flush_lsn AS bigint) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        one(&self.sql, &sql).await.try_get_by_index(0).unwrap()
    }

    /// Rows in ClickHouse, of which no id is there twice here.
    pub(crate) async fn stored(&self) -> u64 {
        let count = format!("SELECT count() FROM {}", self.clickhouse.table("sessions_v1"));
        self.clickhouse.client().query(&count).fetch_one().await.unwrap()
    }

    pub(crate) async fn until_stored(&self, rows: u64) {
        let began = Instant::now();
        while self.stored().await < rows {
            assert!(began.elapsed() < GIVE_UP_AFTER, "{rows} rows are not stored after {GIVE_UP_AFTER:?}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Until ClickHouse has merged the small parts that a drain leaves, which it does by itself; how many there were, and are.
    pub(crate) async fn until_merged(&self) -> (u64, u64) {
        let (began, first) = (Instant::now(), self.parts().await);
        let (mut parts, mut since) = (first, began);
        while since.elapsed() < MERGED_AFTER {
            assert!(began.elapsed() < GIVE_UP_AFTER, "parts are merged still after {GIVE_UP_AFTER:?}");
            sleep(LOOK_EVERY).await;
            let now = self.parts().await;
            if now != parts {
                (parts, since) = (now, Instant::now());
            }
        }
        (first, parts)
    }

    async fn parts(&self) -> u64 {
        let count = "SELECT count() FROM system.parts WHERE active AND database = ? AND table = 'sessions_v1'";
        self.clickhouse.client().query(count).bind(&self.address.1).fetch_one().await.unwrap()
    }

    /// One transaction with the rows from `first` to before `end`: one in a hundred has the rare tag, one in two is closed.
    pub(crate) async fn insert(&self, template: &str, first: usize, end: usize) {
        let created_at_ms = format!("{} + g * {}", self.first_ms(), self.step_ms);
        self.insert_as(template, "bench", first, end, &created_at_ms).await;
    }

    /// One row by itself, younger than every other. Its id.
    pub(crate) async fn insert_fresh(&self, template: &str, number: usize) -> String {
        self.insert_as(template, "fresh", number, number + 1, &format!("{} + g", self.began_ms)).await;
        format!("session_fresh{number:010}")
    }

    async fn insert_as(&self, template: &str, prefix: &str, first: usize, end: usize, created_at_ms: &str) {
        let sql = format!(
            "INSERT INTO session SELECT r.* FROM session t, generate_series(CAST({first} AS bigint), {end} - 1) g,
             jsonb_populate_record(t, jsonb_build_object(
                'id', 'session_{prefix}' || lpad(CAST(g AS text), 10, '0'), 'external_id', '{prefix}-' || g,
                'session_type', 'type-' || g % 10, 'task_identifier', 'task-' || g % 20,
                'tags', jsonb_build_array('user-' || g % 10000, 'plan-' || g % 3, case when g % 100 = 7 then 'rare' else 'often' end),
                'metadata', '{{\"user\": {{\"id\": ' || g || ', \"name\": \"somebody\"}}, \"locale\": \"en\"}}',
                'closed_at_ms', case when g % 2 = 0 then {created_at_ms} + 1000 end, 'close_finished', g % 2 = 0,
                'expires_at_ms', case when g % 10 = 1 then {created_at_ms} + 60000 end,
                'current_run_id', null, 'current_run_version', 0,
                'created_at_ms', {created_at_ms}, 'updated_at_ms', {created_at_ms})) r
             WHERE t.id = '{template}'"
        );
        self.sql.execute_unprepared(&sql).await.unwrap();
    }

    /// Looks for the rows of [`Sides::insert_fresh`].
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher { clickhouse: self.clickhouse.clone(), since_ms: self.began_ms }
    }

    /// Makes Postgres' own list index anew, which a server on ClickHouse does without.
    pub(crate) async fn index_in_postgres(&self) {
        let index = "CREATE INDEX IF NOT EXISTS session_list ON session (environment_id, created_at_ms DESC, id DESC)";
        self.sql.execute_unprepared(index).await.unwrap();
    }

    /// Tells Postgres what is in its tables, as it would find out by itself within a minute.
    pub(crate) async fn analyze(&self) {
        self.sql.execute_unprepared("ANALYZE session, session_change").await.unwrap();
    }

    /// When the oldest of so many rows was made, in milliseconds.
    pub(crate) fn first_ms(&self) -> i64 {
        self.began_ms - DAYS * DAY_MS
    }

    /// Of this run nothing stays.
    pub(crate) async fn remove(self) {
        let slot = &self.slot;
        let free = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active");
        self.until(&free, "the slot is free").await;
        self.sql.execute_unprepared(&format!("SELECT pg_drop_replication_slot('{slot}')")).await.unwrap();
        let drop = format!("DROP DATABASE IF EXISTS `{}` SYNC", self.address.1);
        self.clickhouse.client().query(&drop).execute().await.unwrap();
    }
}

/// Notes when rows are seen first.
pub(crate) struct Watcher {
    clickhouse: ClickHouse,
    since_ms: i64,
}

impl Watcher {
    pub(crate) async fn until_seen(self, rows: usize, every: Duration, within: Duration) -> HashMap<String, Instant> {
        let query = format!(
            "SELECT session_id FROM {} WHERE created_at >= fromUnixTimestamp64Milli({}) AND session_id LIKE 'session_fresh%'",
            self.clickhouse.table("sessions_v1"),
            self.since_ms
        );
        let (began, mut seen) = (Instant::now(), HashMap::with_capacity(rows));
        while seen.len() < rows {
            assert!(began.elapsed() < within, "{} of {rows} rows are seen after {within:?}", seen.len());
            let found = self.clickhouse.client().query(&query).fetch_all::<String>().await.unwrap();
            let now = Instant::now();
            for id in found {
                seen.entry(id).or_insert(now);
            }
            sleep(every).await;
        }
        seen
    }
}

async fn one(sql: &DatabaseConnection, query: &str) -> QueryResult {
    sql.query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await.unwrap().unwrap()
}
