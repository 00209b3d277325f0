//! `continuo replication`, beside a worker and without one.

use crate::support::clickhouse::{ClickHouseDatabase, clickhouse_url};
use crate::support::postgres::PostgresDatabase;
use crate::support::process::{Ended, run};
use continuo_in_process::EveryLease;
use continuo_replication::{Metrics, Options, Worker};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// For what must happen, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    postgres: PostgresDatabase,
    clickhouse: ClickHouseDatabase,
}

impl World {
    async fn run(&self, args: &[&str]) -> Ended {
        let settings = [
            ("CONTINUO_DATABASE_URL", self.postgres.url.as_str()),
            ("CONTINUO_CLICKHOUSE_URL", &clickhouse_url()),
            ("CONTINUO_CLICKHOUSE_DATABASE", &self.clickhouse.name),
            ("CONTINUO_REPLICATION_SLOT_NAME", &self.clickhouse.name),
        ];
        run(args, &settings).await
    }

    async fn replication(&self, args: &[&str]) -> Ended {
        self.run(&[&["replication"], args].concat()).await
    }

    async fn execute(&self, sql: &str) {
        let connection = sea_orm::Database::connect(&self.postgres.url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    fn worker(&self) -> Worker {
        let options = Options {
            database_url: self.postgres.url.clone(),
            clickhouse: continuo_clickhouse::Options { url: clickhouse_url(), database: self.clickhouse.name.clone() },
            slot_name: self.clickhouse.name.clone(),
            publication_name: "sessions_to_clickhouse_v1_publication".into(),
            flush_interval: Duration::from_millis(20),
            batch_rows: 100,
            flights: 2,
            application_name: "the worker".into(),
        };
        Worker::new(options, Arc::new(EveryLease), Arc::new(Metrics::default())).unwrap()
    }
}

const INSERT: &str = "INSERT INTO session (id, session_type, task_identifier, organization_id, project_id, environment_id,
        environment_type, tags, is_test, current_run_version, close_finished, boot_read_seq_num, boot_tail_seq_num,
        boot_failures, created_at_ms, updated_at_ms, trigger_options, base_payload)
    SELECT 'session_' || n, 'chat.agent', 'agent', 'org_a', 'proj_a', 'env_a', 'PRODUCTION', '[]', false, 0, false, 0, 0, 0,
        1790000000000, 1790000000000, '{}', '{}' FROM generate_series(1, 3) n";

#[track_caller]
fn assert_ended(ended: &Ended, code: i32, text: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(format!("{}{}", ended.stdout, ended.stderr).contains(text), "{text}: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_copies_looks_mends_and_takes_back() {
    let world = World { postgres: PostgresDatabase::migrated().await, clickhouse: ClickHouseDatabase::new() };
    world.execute(INSERT).await;
    assert_ended(&world.replication(&["status"]).await, 1, "there is no replication slot");
    assert_ended(&world.replication(&["reconcile"]).await, 2, "run `continuo migrate up`");
    assert_ended(&world.run(&["migrate", "up"]).await, 0, "");
    assert_ended(&world.replication(&["reconcile"]).await, 2, "names no slot of this database yet");
    assert_ended(&world.replication(&["backfill"]).await, 0, "3 sessions compared, 3 written, 0 removed\n");
    assert_ended(&world.replication(&["status"]).await, 1, "nobody reads the replication slot");

    let stopping = CancellationToken::new();
    let worker = world.worker();
    let working = tokio::spawn({
        let stopping = stopping.clone();
        async move { worker.run(stopping).await }
    });
    let give_up = Instant::now() + PATIENCE;
    let status = loop {
        let status = world.replication(&["status"]).await;
        if status.code == 0 {
            break status;
        }
        assert!(Instant::now() < give_up, "{status:?}");
        sleep(Duration::from_millis(100)).await;
    };
    for line in ["slot           reserved", "leader         the worker (pid ", "complete       yes", "parked         0"]
    {
        assert!(status.stdout.contains(line), "{line}: {status:?}");
    }
    world
        .execute(
            "INSERT INTO session_parked VALUES ((SELECT slot_name FROM session_replication), 'session_9', 7, '{}',
        'Code: 117. because', 2, 1790000000000, 7900000000000)",
        )
        .await;
    assert_ended(&world.replication(&["status"]).await, 0, "session_9       2026-09-21T14:13:20.000Z  2      2220-");
    let status: Value = serde_json::from_str(&world.replication(&["status", "--json"]).await.stdout).unwrap();
    assert_eq!(
        (&status["is_complete"], &status["epoch"], &status["parked_count"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!(status["parked"][0]["reason"], "Code: 117. because");
    assert_eq!((&status["slot"]["leader"], &status["slot"]["is_lost"]), (&json!("the worker"), &json!(false)));

    assert_ended(&world.replication(&["reconcile", "--check"]).await, 0, "3 sessions compared, 0 differ\n");
    let lose = "ALTER TABLE {database}.sessions_v1 DELETE WHERE session_id = 'session_2' SETTINGS mutations_sync = 2";
    world.clickhouse.ask(lose).await;
    let check = world.replication(&["reconcile", "--check"]).await;
    assert_ended(&check, 1, "3 sessions compared, 1 differ\n");
    assert!(check.stderr.contains("run `continuo replication reconcile`"), "{check:?}");
    let mended = world.replication(&["reconcile", "--json"]).await;
    let mended: Value = serde_json::from_str(&mended.stdout).unwrap_or_else(|error| panic!("{error}: {mended:?}"));
    assert_eq!(mended, json!({"compared": 3, "differing": 1, "written": 1, "removed": 0}));
    assert_ended(&world.replication(&["reconcile", "--check"]).await, 0, "3 sessions compared, 0 differ\n");

    assert_ended(&world.replication(&["drop"]).await, 1, "is active for PID");
    stopping.cancel();
    working.await.unwrap();
    assert_ended(&world.replication(&["drop"]).await, 0, "lists come from the database");
    assert_ended(&world.replication(&["status", "--json"]).await, 1, "\"slot\":null");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_clickhouse_there_is_nothing_to_ask() {
    for command in ["status", "backfill", "reconcile", "drop"] {
        let database = ("CONTINUO_DATABASE_URL", "postgres://u:hush@127.0.0.1:9/d");
        assert_ended(&run(&["replication", command], &[database]).await, 2, "clickhouse.url is not set");
        let both = [database, ("CONTINUO_CLICKHOUSE_URL", "http://u:hush@127.0.0.1:9")];
        let away = run(&["replication", command], &both).await;
        assert_eq!(away.code, 1, "{away:?}");
        assert!(!away.stderr.contains("hush"), "{away:?}");
    }
}
