//! On a real server. Each test has a database of its own.

use crate::{ClickHouse, IndexSchema, Options, SessionRow, is_refused};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) fn server_url() -> String {
    std::env::var("CONTINUO_TEST_CLICKHOUSE_URL")
        .expect("no ClickHouse to test on; start one with: eval \"$(tests/services up)\"")
}

/// A database of its own for a test, dropped when the test is over.
pub(crate) struct ClickHouseDatabase {
    pub(crate) clickhouse: ClickHouse,
}

impl ClickHouseDatabase {
    pub(crate) async fn migrated() -> Self {
        let database = fresh().await;
        database.clickhouse.migrate().await.unwrap();
        database
    }
}

impl Drop for ClickHouseDatabase {
    /// On a thread of its own: the test's runtime may be the one that drops it.
    fn drop(&mut self) {
        let options = Options { url: server_url(), database: self.clickhouse.database.clone() };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(drop_database(&ClickHouse::new(&options).unwrap()));
        });
        // A panic here would hide the one that ended the test.
        let _ = dropping.join();
    }
}

async fn drop_database(clickhouse: &ClickHouse) {
    let drop = format!("DROP DATABASE IF EXISTS {} SYNC", clickhouse.quoted_database());
    clickhouse.client.query(&drop).execute().await.unwrap();
}

async fn fresh() -> ClickHouseDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let database = format!("continuo_test_{}_{count}", std::process::id());
    let clickhouse = ClickHouse::new(&Options { url: server_url(), database }).unwrap();
    drop_database(&clickhouse).await;
    ClickHouseDatabase { clickhouse }
}

#[tokio::test]
async fn the_schema_is_made_once_and_seen() {
    let database = fresh().await;
    let clickhouse = &database.clickhouse;
    assert_eq!(clickhouse.schema().await.unwrap(), IndexSchema::Behind(vec!["c0001_sessions".into()]));
    let (one, other) = tokio::join!(clickhouse.migrate(), clickhouse.migrate());
    assert_eq!((one.is_ok(), other.is_ok()), (true, true));
    assert_eq!(clickhouse.schema().await.unwrap(), IndexSchema::Current);
    let later = format!("INSERT INTO {} (name) VALUES ('c9999_later')", clickhouse.table("schema_migrations"));
    clickhouse.client.query(&later).execute().await.unwrap();
    assert_eq!(clickhouse.schema().await.unwrap(), IndexSchema::Ahead(vec!["c9999_later".into()]));
}

pub(crate) fn row(id: &str) -> SessionRow {
    SessionRow {
        environment_id: "env_a".into(),
        organization_id: "org_a".into(),
        project_id: "proj_a".into(),
        session_id: id.into(),
        environment_type: "PRODUCTION".into(),
        friendly_id: id.into(),
        external_id: "chat-1".into(),
        r#type: "chat.agent".into(),
        task_identifier: "agent".into(),
        tags: vec!["ü".into(), "it's".into()],
        metadata: r#"{"data":{"b":1.5}}"#.into(),
        closed_at: Some(1_790_000_000_001),
        closed_reason: "done".into(),
        expires_at: None,
        created_at: 1_790_000_000_000,
        updated_at: 1_790_000_000_002,
        _version: 7,
        _is_deleted: 0,
        is_test: 1,
    }
}

#[tokio::test]
async fn rows_come_back_as_they_went() {
    let database = ClickHouseDatabase::migrated().await;
    let clickhouse = &database.clickhouse;
    let mut insert = clickhouse.client.insert_unescaped::<SessionRow>(&clickhouse.table("sessions_v1")).await.unwrap();
    insert.write(&row("session_1")).await.unwrap();
    insert.end().await.unwrap();
    let all = format!("SELECT ?fields FROM {} FINAL", clickhouse.table("sessions_v1"));
    assert_eq!(clickhouse.client.query(&all).fetch_all::<SessionRow>().await.unwrap(), [row("session_1")]);
}

#[tokio::test]
async fn metadata_that_a_client_may_write_is_stored() {
    let database = ClickHouseDatabase::migrated().await;
    let clickhouse = &database.clickhouse;
    let metadata = [
        (
            r#"{"data":{"a":"2026-01-02T10:00:00Z","b":"2026-1-2"}}"#,
            r#"{"data":{"a":"2026-01-02T10:00:00Z","b":"2026-1-2"}}"#,
        ),
        (r#"{"data":{"a":1,"a":2}}"#, r#"{"data":{"a":1}}"#),
        (r#"{"data":{"a.b":1,"a":{"b":2}}}"#, r#"{"data":{"a":{"b":1}}}"#),
    ];
    let mut insert = clickhouse.client.insert_unescaped::<SessionRow>(&clickhouse.table("sessions_v1")).await.unwrap();
    for (number, (written, _)) in metadata.iter().enumerate() {
        insert.write(&SessionRow { metadata: (*written).into(), ..row(&format!("session_{number}")) }).await.unwrap();
    }
    insert.end().await.unwrap();
    let all = format!("SELECT ?fields FROM {} FINAL ORDER BY session_id", clickhouse.table("sessions_v1"));
    let stored: Vec<_> = clickhouse
        .client
        .query(&all)
        .fetch_all::<SessionRow>()
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.metadata)
        .collect();
    assert_eq!(stored, metadata.map(|(_, read)| read));
}

#[tokio::test]
async fn a_refused_row_is_told_from_a_server_in_trouble() {
    let database = ClickHouseDatabase::migrated().await;
    let clickhouse = &database.clickhouse;
    let mut insert = clickhouse.client.insert_unescaped::<SessionRow>(&clickhouse.table("sessions_v1")).await.unwrap();
    insert.write(&SessionRow { metadata: "{\"data\":".into(), ..row("session_1") }).await.unwrap();
    let refused = insert.end().await.unwrap_err();
    assert!(is_refused(&refused).is_some(), "{refused}");
    let nowhere = clickhouse.client.clone().with_url("http://127.0.0.1:1");
    let away = nowhere.query("SELECT 1").execute().await.unwrap_err();
    assert_eq!(is_refused(&away), None);
}
