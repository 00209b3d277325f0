//! What does not start, as a process: one sentence that says what to set, exit code 2 where the settings are wrong and 1 where
//! another try may help. And what starts all the same.

use crate::support::postgres::PostgresDatabase;
use crate::support::process::{Ended, ServerProcess, run};
use crate::support::rest::Rest;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{ADMIN_KEY, KEY, TestNode, redis_url, s2_endpoint};
use continuo_database::SchemaStatus;
use sea_orm::ConnectionTrait;
use std::path::Path;

const MASTER_KEY: &str = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";
/// What every process on Postgres is given.
const KEYS: [(&str, &str); 2] = [("CONTINUO_MASTER_KEY", MASTER_KEY), ("CONTINUO_ADMIN_KEY", ADMIN_KEY)];

/// Does something behind everyone's back.
async fn execute(database: &PostgresDatabase, sql: &str) {
    let connection = sea_orm::Database::connect(&database.url).await.unwrap();
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn serve(settings: &[(&str, &str)]) -> Ended {
    run(&["serve"], settings).await
}

/// The settings of a process on this Postgres, and more.
fn on<'a>(database: &'a PostgresDatabase, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("CONTINUO_DATABASE_URL", database.url.as_str())], &KEYS[..], more].concat()
}

fn assert_refused(ended: &Ended, code: i32, sentence: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(sentence) && ended.stderr.trim().lines().count() == 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("hush") && ended.stdout.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn replicas_that_share_too_little_are_refused() {
    let url = ("CONTINUO_DATABASE_URL", "postgres://u:hush@127.0.0.1:9/d");
    let s2 = ("CONTINUO_S2_ENDPOINT", "http://127.0.0.1:9");
    let bucket = [
        ("CONTINUO_BLOBS_S3_ENDPOINT", "http://127.0.0.1:9"),
        ("CONTINUO_BLOBS_S3_BUCKET", "b"),
        ("CONTINUO_BLOBS_S3_ACCESS_KEY", "who"),
        ("CONTINUO_BLOBS_S3_SECRET_KEY", "hush"),
    ];
    let mut given = vec![("CONTINUO_REPLICAS", "3")];
    for (next, remedy) in [
        (vec![], "SQLite belongs to one process: set CONTINUO_DATABASE_URL"),
        (vec![url], "the embedded channel log belongs to one process: set CONTINUO_S2_ENDPOINT"),
        (vec![s2], "blobs are files of one machine: set CONTINUO_BLOBS_S3_ENDPOINT"),
        (bucket.to_vec(), "set CONTINUO_MASTER_KEY to one value on every replica"),
        (vec![("CONTINUO_MASTER_KEY", MASTER_KEY)], "set CONTINUO_ADMIN_KEY to one value on every replica"),
    ] {
        given.extend(next);
        assert_refused(&serve(&given).await, 2, remedy);
    }
    given.push(("CONTINUO_ADMIN_KEY", ADMIN_KEY));
    // Nothing is wrong with the settings any more: what they name is away.
    assert_refused(&serve(&given).await, 1, "cannot reach the database at postgres://(hidden)@127.0.0.1:9/d");
}

#[tokio::test]
async fn clickhouse_without_a_postgres_that_feeds_it_is_refused() {
    let remedy = "sessions are in SQLite, which has no log for ClickHouse to follow: set CONTINUO_DATABASE_URL";
    for name in ["CONTINUO_CLICKHOUSE_URL", "SESSION_REPLICATION_CLICKHOUSE_URL"] {
        let url = (name, "http://u:hush@127.0.0.1:9");
        for command in [&["serve"][..], &["dev"], &["config"], &["migrate", "up"], &["migrate", "status"]] {
            assert_refused(&run(command, &[url]).await, 2, remedy);
        }
    }
    let database = ("CONTINUO_DATABASE_URL", "postgres://u:hush@127.0.0.1:9/d");
    let clickhouse = ("CONTINUO_CLICKHOUSE_URL", "http://u:hush@127.0.0.1:9");
    let shown = run(&["config"], &[KEYS[0], KEYS[1], database, clickhouse]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        shown.stdout.contains("ClickHouse, http://(hidden)@127.0.0.1:9") && !shown.stdout.contains("hush"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn a_schema_is_migrated_on_purpose_and_never_served_behind_or_ahead() {
    let database = PostgresDatabase::migrated().await;
    execute(&database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    let settings = on(&database, &[]);
    assert_refused(&serve(&settings).await, 2, "run `continuo migrate up`, once for all replicas");
    assert_refused(
        &run(&["migrate", "status"], &settings[..1]).await,
        1,
        "there is no schema yet: run `continuo migrate up`",
    );

    // Whoever migrates need not know the keys; of several at once one does it.
    let up = ["migrate", "up"];
    let (one, two) = tokio::join!(run(&up, &settings[..1]), run(&up, &settings[..1]));
    assert_eq!((one.code, two.code), (0, 0), "{one:?} {two:?}");
    let status = run(&["migrate", "status"], &settings[..1]).await;
    assert_eq!((status.code, status.stdout.as_str()), (0, "current\n"));
    assert_eq!(database.connect().await.schema_status().await.unwrap(), SchemaStatus::Current);
    ServerProcess::start_with(&settings).await.stop().await;

    execute(&database, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)").await;
    for command in [&["serve"][..], &up] {
        assert_refused(
            &run(command, &settings).await,
            2,
            "older than the schema of the database, which has m9999_later",
        );
    }
    let ahead = run(&["migrate", "status"], &settings).await;
    assert!(ahead.code == 1 && ahead.stderr.contains("m9999_later\nerror: the schema is ahead"), "{ahead:?}");

    execute(&database, "DELETE FROM seaql_migrations WHERE version > 'm0007'").await;
    assert_refused(&serve(&settings).await, 2, "run `continuo migrate up`");
}

#[tokio::test]
async fn a_file_is_migrated_by_whoever_opens_it() {
    let server = ServerProcess::start().await;
    let data_dir = server.data_dir();
    let settings = [("CONTINUO_DATA_DIR", data_dir.to_str().unwrap())];
    assert_eq!(run(&["migrate", "status"], &settings).await.stdout, "current\n");
    assert_refused(&run(&["migrate", "status"], &[]).await, 1, "there is no schema yet");
    assert_eq!(run(&["migrate", "up"], &[]).await.code, 0);
}

#[tokio::test]
async fn an_engine_that_is_away_is_named() {
    let database = PostgresDatabase::migrated().await;
    let nowhere = format!("http://{NOWHERE}");
    let settings = on(&database, &[("CONTINUO_S2_ENDPOINT", &nowhere)]);
    assert_refused(&serve(&settings).await, 1, &format!("cannot reach S2 at {nowhere}"));
    let not_a_url = [("CONTINUO_DATABASE_URL", "postgres://u:hush@h:port/d"), KEYS[0], KEYS[1]];
    assert_refused(&serve(&not_a_url).await, 2, "database.url cannot be read as a URL of Postgres");
    assert_refused(&serve(&[("CONTINUO_REDIS_URL", "redis://u:hush@h:port")]).await, 2, "redis.url cannot be read");
}

#[tokio::test]
async fn a_redis_that_is_away_is_only_slower() {
    let server = ServerProcess::start_with(&[("CONTINUO_REDIS_URL", &format!("redis://:hush@{NOWHERE}"))]).await;
    let rest = Rest::new(&server.url, Some(KEY));
    assert_eq!(rest.status("GET", "/readyz", "").await, 200);
    let body = r#"{"type":"chat.agent","externalId":"c","taskIdentifier":"t","triggerConfig":{"basePayload":{}}}"#;
    assert_eq!(rest.status("POST", "/api/v1/sessions", body).await, 201);
    assert!(server.log().contains("Redis is away") && !server.log().contains("hush"));
    server.stop().await;
}

#[tokio::test]
async fn one_data_directory_is_for_one_process() {
    let server = ServerProcess::start().await;
    let data_dir = server.data_dir();
    let second = serve(&[("CONTINUO_DATA_DIR", data_dir.to_str().unwrap())]).await;
    assert_refused(&second, 2, "is in use by another process: stop that one, or set CONTINUO_DATA_DIR");
}

#[tokio::test]
async fn a_database_is_served_with_its_own_log_and_blobs_only() {
    let database = PostgresDatabase::migrated().await;
    let settings = on(&database, &[]);
    ServerProcess::start_with(&settings).await.stop().await;
    assert_refused(
        &serve(&settings).await,
        2,
        "are in the embedded log of another data directory: point CONTINUO_DATA_DIR",
    );

    let s2 = s2_endpoint();
    let on_s2 = on(&database, &[("CONTINUO_S2_ENDPOINT", &s2)]);
    assert_refused(&serve(&on_s2).await, 2, "are in the embedded log of another data directory");

    let database = PostgresDatabase::migrated().await;
    let on_s2 = on(&database, &[("CONTINUO_S2_ENDPOINT", &s2), ("CONTINUO_S2_BASIN_PREFIX", "starts-one")]);
    ServerProcess::start_with(&on_s2).await.stop().await;
    let other = on(&database, &[("CONTINUO_S2_ENDPOINT", &s2), ("CONTINUO_S2_BASIN_PREFIX", "starts-two")]);
    assert_refused(
        &serve(&other).await,
        2,
        "set CONTINUO_S2_ENDPOINT to it and CONTINUO_S2_BASIN_PREFIX to starts-one",
    );
    assert_refused(&serve(&on(&database, &[])).await, 2, "are in S2, in basins that begin with \"starts-one\"");
    assert_refused(&serve(&on_s2).await, 2, "the blobs of this database are in the files of another data directory");
}

/// All it takes to be one of several, on engines that run here.
#[tokio::test]
async fn replicas_that_start_at_once_on_a_fresh_database_serve_the_same() {
    let database = PostgresDatabase::migrated().await;
    let (s2, redis, bucket) = (s2_endpoint(), redis_url(), S3Server::start().await);
    let settings = on(
        &database,
        &[
            ("CONTINUO_REPLICAS", "2"),
            ("CONTINUO_S2_ENDPOINT", &s2),
            ("CONTINUO_S2_BASIN_PREFIX", "starts-many"),
            ("CONTINUO_REDIS_URL", &redis),
            ("CONTINUO_REDIS_PREFIX", "starts-many"),
            ("CONTINUO_BLOBS_S3_ENDPOINT", &bucket.endpoint),
            ("CONTINUO_BLOBS_S3_BUCKET", BUCKET),
            ("CONTINUO_BLOBS_S3_ACCESS_KEY", ACCESS_KEY),
            ("CONTINUO_BLOBS_S3_SECRET_KEY", SECRET_KEY),
        ],
    );
    let start = || ServerProcess::start_with(&settings);
    let (one, two) = tokio::join!(start(), start());
    let (first, second) = (Rest::new(&one.url, Some(KEY)), Rest::new(&two.url, Some(KEY)));
    let body = r#"{"type":"chat.agent","externalId":"c","taskIdentifier":"t","triggerConfig":{"basePayload":{}}}"#;
    assert_eq!(first.status("POST", "/api/v1/sessions", body).await, 201);
    assert_eq!(second.status("POST", "/realtime/v1/sessions/c/in/append", "hello").await, 200);
    let records = first.get("/realtime/v1/sessions/c/in/records").await;
    assert!(records.text().contains("hello"), "{}", records.text());
    for server in [one, two] {
        assert!(!server.data_dir().join("dev.key").exists() && !server.data_dir().join("master.key").exists());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_log_that_is_older_than_its_database_is_refused() {
    let mut node = TestNode::start().await;
    let (log, copy) = (node.dir().join("log"), node.dir().join("copy"));
    node.restart_after(async |_| copy_all(&log, &copy)).await;
    let client = node.client().await;
    let session = client.create(Some("older")).await.session.unwrap().id;
    client.append(&session, continuo_proto::v1::Direction::In, "kept nowhere but here").await.unwrap();
    let refused = node.refused_after(async |_| {
        std::fs::remove_dir_all(&log).unwrap();
        std::fs::rename(&copy, &log).unwrap();
    });
    let refused = refused.await;
    assert!(refused.contains("is older than the database") && refused.contains("restore a copy"), "{refused}");
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
