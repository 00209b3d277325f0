//! A database with its slot, an index, and workers between them.

use super::proxy::Proxy;
use crate::{Metrics, Options, Worker};
use continuo_clickhouse::{ClickHouse, SessionRow};
use continuo_in_process::EveryLease;
use continuo_migrations::{Migrator, MigratorTrait};
use continuo_ports::Leases;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

/// For what must happen, on a machine however busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    server: String,
    name: String,
    pub(super) postgres: Client,
    pub(super) clickhouse: ClickHouse,
    pub(super) options: Options,
}

/// A worker in a task.
pub(super) struct Running {
    pub(super) metrics: Arc<Metrics>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    /// Set up, and known to be complete: there is nothing in either.
    pub(super) async fn new() -> Self {
        let world = Self::bare().await;
        crate::prepare(&world.options).await.unwrap();
        world.sql("UPDATE session_replication SET is_complete = true").await;
        world
    }

    /// Migrated, and nothing more.
    pub(super) async fn bare() -> Self {
        Self::on(&of_services("CONTINUO_TEST_POSTGRES_URL")).await
    }

    /// In a database of that server.
    pub(super) async fn on(server: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("continuo_worker_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        destroy(server, &name).await;
        let maintenance = connect(server).await;
        maintenance.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = of_database(server, &name);
        let migrated = sea_orm::Database::connect(&url).await.unwrap();
        Migrator::up(&migrated, None).await.unwrap();
        migrated.close().await.unwrap();
        let postgres = connect(&url).await;
        let index = continuo_clickhouse::Options { url: clickhouse_url(), database: name.clone() };
        let clickhouse = ClickHouse::new(&index).unwrap();
        clickhouse.migrate().await.unwrap();
        let options = Options {
            database_url: url,
            clickhouse: index,
            slot_name: name.clone(),
            publication_name: name.clone(),
            flush_interval: Duration::from_millis(20),
            batch_rows: 100,
            flights: 2,
            application_name: "continuo test".into(),
        };
        Self { server: server.to_owned(), name, postgres, clickhouse, options }
    }

    /// The options, with a way to the index that can be broken.
    pub(super) async fn index_behind_proxy(&self) -> (Proxy, Options) {
        let (proxy, url) = behind_proxy(&self.options.clickhouse.url).await;
        let clickhouse = continuo_clickhouse::Options { url, ..self.options.clickhouse.clone() };
        (proxy, Options { clickhouse, ..self.options.clone() })
    }

    /// The options, with a way to the database that can be broken.
    pub(super) async fn database_behind_proxy(&self) -> (Proxy, Options) {
        let (proxy, database_url) = behind_proxy(&self.options.database_url).await;
        (proxy, Options { database_url, ..self.options.clone() })
    }

    pub(super) fn start(&self) -> Running {
        Running::start(&self.options)
    }

    pub(super) async fn sql(&self, sql: &str) -> u64 {
        self.postgres.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let row = self.postgres.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        row.get(0)
    }

    pub(super) async fn index_sql(&self, sql: &str) {
        let sql = sql.replace("TABLE_OF_SESSIONS", &self.clickhouse.table("sessions_v1"));
        self.clickhouse.client().query_raw(&sql).execute().await.unwrap();
    }

    /// Makes sessions `<name>_<number>`.
    pub(super) async fn insert(&self, name: &str, count: i32) {
        self.sql(&insert(name, count)).await;
    }

    pub(super) async fn notes(&self) -> i64 {
        self.number("SELECT count(*) FROM session_change").await
    }

    pub(super) async fn parked(&self) -> i64 {
        self.number("SELECT count(*) FROM session_parked").await
    }

    /// Where the log ends now.
    pub(super) async fn written(&self) -> i64 {
        self.number("SELECT CAST(pg_current_wal_flush_lsn() - CAST('0/0' AS pg_lsn) AS bigint)").await
    }

    /// What the slot was told is stored.
    pub(super) async fn confirmed(&self) -> i64 {
        let name = &self.name;
        self.number(&format!(
            "SELECT CAST(confirmed_flush_lsn - CAST('0/0' AS pg_lsn) AS bigint) FROM pg_replication_slots
             WHERE slot_name = '{name}'"
        ))
        .await
    }

    /// Where the first transaction was committed that wrote sessions of this name, as the index has it.
    pub(super) async fn first_commit(&self, name: &str) -> i64 {
        let sql = format!(
            "SELECT toInt64(bitAnd(min(_version), 0xffffffffffffff)) FROM {} WHERE startsWith(session_id, '{name}')",
            self.clickhouse.table("sessions_v1")
        );
        self.clickhouse.client().query(&sql).fetch_one::<i64>().await.unwrap()
    }

    /// Waits until everything written so far was acknowledged.
    pub(super) async fn caught_up(&self) {
        let written = self.written().await;
        until("the slot is told that everything is stored", async || self.confirmed().await >= written).await;
    }

    /// Waits until the index has what the database has, row by row, and nothing is left over.
    pub(super) async fn is_equal(&self) {
        self.caught_up().await;
        let (database, index) = (self.database_rows().await, self.index_rows().await);
        let differing = database.iter().filter(|row| !index.contains(row)).count();
        assert_eq!((database.len(), differing), (index.len(), 0), "{:#?}", {
            let missing = database.iter().filter(|row| !index.contains(row)).take(3).collect::<Vec<_>>();
            (missing, index.iter().filter(|row| !database.contains(row)).take(3).collect::<Vec<_>>())
        });
        until("no note is left", async || self.notes().await == 0).await;
    }

    async fn database_rows(&self) -> Vec<Comparable> {
        let sql = "SELECT id, environment_id, organization_id, project_id, environment_type, coalesce(external_id, ''),
            session_type, task_identifier, CAST(tags AS text), metadata, closed_at_ms, coalesce(closed_reason, ''),
            expires_at_ms, created_at_ms, updated_at_ms, is_test FROM session ORDER BY id";
        let rows = self.postgres.query(sql, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| {
            let metadata: Option<String> = row.get(9);
            let texts = [0, 1, 2, 3, 4, 5, 6, 7, 11].map(|index| row.get::<_, String>(index));
            Comparable {
                texts,
                tags: serde_json::from_str(&row.get::<_, String>(8)).unwrap(),
                metadata: metadata.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default(),
                times: [row.get(10), row.get(12), Some(row.get(13)), Some(row.get(14))],
                is_test: row.get(15),
            }
        };
        rows.iter().map(row).collect()
    }

    /// A session as the index has it.
    pub(super) async fn index_row(&self, id: &str) -> SessionRow {
        let table = self.clickhouse.table("sessions_v1");
        let sql = format!("SELECT ?fields FROM {table} FINAL WHERE session_id = ?");
        self.clickhouse.client().query(&sql).bind(id).fetch_one::<SessionRow>().await.unwrap()
    }

    async fn index_rows(&self) -> Vec<Comparable> {
        let table = self.clickhouse.table("sessions_v1");
        let sql = format!("SELECT ?fields FROM {table} FINAL WHERE _is_deleted = 0 ORDER BY session_id");
        let rows = self.clickhouse.client().query(&sql).fetch_all::<SessionRow>().await.unwrap();
        let row = |row: SessionRow| {
            assert_eq!(row.friendly_id, row.session_id);
            let mut metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
            Comparable {
                texts: [
                    row.session_id,
                    row.environment_id,
                    row.organization_id,
                    row.project_id,
                    row.environment_type,
                    row.external_id,
                    row.r#type,
                    row.task_identifier,
                    row.closed_reason,
                ],
                tags: row.tags,
                metadata: metadata["data"].take(),
                times: [row.closed_at, row.expires_at, Some(row.created_at), Some(row.updated_at)],
                is_test: row.is_test == 1,
            }
        };
        rows.into_iter().map(row).collect()
    }
}

/// A session as either side has it. The index keeps no null in metadata, so none of the tests' has one.
#[derive(Clone, Debug, PartialEq)]
struct Comparable {
    texts: [String; 9],
    tags: Vec<String>,
    metadata: serde_json::Value,
    times: [Option<i64>; 4],
    is_test: bool,
}

impl Drop for World {
    /// Also after a failure: a slot keeps the log of the whole server.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(destroy(&server, &name));
        });
        let _ = cleaning.join();
    }
}

impl Running {
    pub(super) fn start(options: &Options) -> Self {
        Self::start_by(options, Arc::new(EveryLease))
    }

    pub(super) fn start_by(options: &Options, leases: Arc<dyn Leases>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let worker = Worker::new(options.clone(), leases, metrics.clone()).unwrap();
        let stopping = CancellationToken::new();
        let token = stopping.clone();
        let task = tokio::spawn(async move { worker.run(token).await });
        Self { metrics, stopping, task }
    }

    /// Ends it without a last word.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Ends it in order.
    pub(super) async fn stop(self) {
        self.stopping.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the worker does not end").unwrap();
    }

    /// A line of what is shown to whoever collects metrics.
    pub(super) fn shown(&self, line: &str) -> Option<f64> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().find_map(|shown| shown.strip_prefix(line)?.trim().parse().ok())
    }

    pub(super) async fn leads(&self) {
        until("the worker leads", async || self.metrics.leader.get() == 1).await;
    }
}

/// Waits for what must come true.
pub(super) async fn until(what: &str, is_true: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The statement that makes sessions `<name>_<number>`, with metadata that is stored out of line.
pub(super) fn insert(name: &str, count: i32) -> String {
    format!(
        r#"INSERT INTO session (id, external_id, session_type, task_identifier, organization_id, project_id, environment_id,
            environment_type, tags, is_test, current_run_version, close_finished, boot_read_seq_num, boot_tail_seq_num,
            boot_failures, created_at_ms, updated_at_ms, trigger_options, metadata, base_payload)
        SELECT '{name}_' || n, CASE WHEN n % 3 = 0 THEN '{name} ' || n END, 'chat.agent', 'agent', 'org_a', 'proj_a', 'env_a',
            'PRODUCTION', jsonb_build_array('user:' || n % 7, 'it''s "ü"'), n % 2 = 0, 0, false, 0, 0, 0,
            1790000000000 + n, 1790000000000 + n, '{{}}',
            CASE WHEN n % 4 = 0 THEN NULL ELSE jsonb_build_object('n', n, 'pad',
                (SELECT string_agg(md5(CAST(n * 1000 + k AS text)), '') FROM generate_series(1, 40 + 200 * (n % 10) / 9) k))
            END, '{{}}'
        FROM generate_series(1, {count}) n"#
    )
}

async fn destroy(server: &str, name: &str) {
    let server = connect(server).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active";
        server.execute(end, &[&name]).await.unwrap();
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        if server.execute(drop, &[&name]).await.is_ok() || Instant::now() > deadline {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    let options = continuo_clickhouse::Options { url: clickhouse_url(), database: name.to_owned() };
    let clickhouse = ClickHouse::new(&options).unwrap();
    clickhouse.client().query(&format!("DROP DATABASE IF EXISTS {name} SYNC")).execute().await.unwrap();
}

pub(super) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn of_database(server: &str, database: &str) -> String {
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

fn clickhouse_url() -> String {
    of_services("CONTINUO_TEST_CLICKHOUSE_URL")
}

fn of_services(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} names nothing; run: eval \"$(tests/services up)\""))
}

async fn behind_proxy(url: &str) -> (Proxy, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (account, rest) = rest.rsplit_once('@').map_or(("", rest), |(account, rest)| (account, rest));
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let proxy = Proxy::start(address.parse::<SocketAddr>().unwrap()).await;
    let account = if account.is_empty() { String::new() } else { format!("{account}@") };
    let url = format!("{scheme}://{account}127.0.0.1:{}/{path}", proxy.port);
    (proxy, url.trim_end_matches('/').to_owned())
}
