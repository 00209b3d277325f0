//! Pages of sessions from ClickHouse, on a real server and a real Postgres: how long they take over a million sessions.
//!
//! ```sh
//! eval "$(tests/services up)"
//! cargo bench -p continuo-clickhouse --bench lists [-- <sessions> [<pages of each>]]
//! ```
//!
//! Both stores are filled by statements of their own, in databases that are dropped afterwards. A third of the sessions is closed, a
//! fifth of them in a newer version that is not merged with the older one, and a thousand are noted as changed.

use continuo_clickhouse::{ClickHouse, ClickHouseIndex, Options};
use continuo_database::{Database, PostgresOptions, SqlStore};
use continuo_domain::session::{ListFilter, ListPosition, PageFrom, SessionStatus};
use continuo_domain::{EnvironmentId, SessionId, Timestamp};
use continuo_ports::SessionIndex;
use sea_orm::sqlx::{self, Connection, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DATABASE: &str = "continuo_bench_lists";
const SLOT: &str = "bench";
const SIZE: u32 = 25;
/// Of the first session; each third one is 23 s later than the one before.
const FIRST_MS: i64 = 1_780_000_000_000;
const STEP_MS: i64 = 23_000;

const TENANT: &str = "
INSERT INTO organization (id, created_at_ms) VALUES ('org_bench', 0);
INSERT INTO project (id, organization_id, created_at_ms) VALUES ('proj_bench', 'org_bench', 0);
INSERT INTO environment (id, organization_id, project_id, environment_type, slug, root_key_sealed, root_key_hash, created_at_ms)
VALUES ('env_bench', 'org_bench', 'proj_bench', 'PRODUCTION', 'bench', '', 'bench', 0);
INSERT INTO session_replication (slot_name, system_identifier, timeline, epoch, is_complete) VALUES ('bench', '', 1, 1, true);
DROP INDEX session_list;";

const POSTGRES_ROWS: &str = "
INSERT INTO session (id, external_id, session_type, task_identifier, organization_id, project_id, environment_id,
    environment_type, tags, is_test, current_run_version, closed_at_ms, closed_reason, close_finished, expires_at_ms,
    boot_read_seq_num, boot_tail_seq_num, boot_failures, created_at_ms, updated_at_ms, trigger_options, metadata, base_payload)
SELECT 'session_' || lpad(n::text, 9, '0'), 'chat-' || n, (ARRAY['chat.agent', 'support', 'batch'])[n % 3 + 1], 'task-' || n % 7,
    'org_bench', 'proj_bench', 'env_bench', 'PRODUCTION',
    to_jsonb(ARRAY['user:' || n % 50000] || CASE WHEN n % 10 = 0 THEN ARRAY['vip'] ELSE '{}' END
        || CASE WHEN n % 1000 = 0 THEN ARRAY['rare'] ELSE '{}' END),
    false, 0, CASE WHEN n % 3 = 0 THEN t + 60000 END, CASE WHEN n % 3 = 0 THEN 'done' END, n % 3 = 0,
    CASE WHEN n % 5 = 1 THEN t + 3600000 END, 0, 0, 0, t, t, '{}', json_build_object('n', n)::text, '{}'
FROM (SELECT n, $2 + n / 3 * $3 AS t FROM generate_series(0::bigint, $1 - 1) AS s(n)) AS numbered";

const NOTES: &str = "INSERT INTO session_change (transaction_id, session_id, environment_id, created_at_ms)
SELECT 1, id, environment_id, created_at_ms FROM session ORDER BY id DESC LIMIT 1000";

/// All as they were made, open.
const CLICKHOUSE_ROWS: &str = "INSERT INTO {table} (environment_id, organization_id, project_id, session_id, environment_type,
    friendly_id, external_id, type, task_identifier, tags, metadata, closed_at, expires_at, created_at, updated_at, _version)
SELECT 'env_bench', 'org_bench', 'proj_bench', concat('session_', leftPad(toString(number), 9, '0')) AS id, 'PRODUCTION', id,
    concat('chat-', toString(number)), ['chat.agent', 'support', 'batch'][number % 3 + 1], concat('task-', toString(number % 7)),
    arrayConcat([concat('user:', toString(number % 50000))], if(number % 10 = 0, ['vip'], []), if(number % 1000 = 0, ['rare'], [])),
    concat('{\"data\":{\"n\":', toString(number), '}}'),
    if(number % 3 = 0 AND number % 15 != 0, fromUnixTimestamp64Milli(t + 60000), NULL),
    if(number % 5 = 1, fromUnixTimestamp64Milli(t + 3600000), NULL),
    fromUnixTimestamp64Milli(t), fromUnixTimestamp64Milli(t), 1
FROM (SELECT number, toInt64(? + intDiv(number, 3) * ?) AS t FROM numbers(?))";

/// A fifth of the closed ones was closed later than the rest, and nothing has merged the two versions.
const NEWER_VERSIONS: &str =
    "INSERT INTO {table} SELECT * REPLACE (created_at + toIntervalSecond(60) AS closed_at, 2 AS _version)
FROM {table} WHERE toUInt64(substring(session_id, 9)) % 15 = 0";

#[tokio::main]
async fn main() {
    let mut given = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let (count, runs) = (i64::from(given.next().unwrap_or(1_000_000)), given.next().unwrap_or(100).max(1) as usize);
    let (database, clickhouse) = fill(count).await;
    let store = SqlStore::new(database.clone());
    let index = ClickHouseIndex::new(clickhouse.clone(), store.indexed_rows(SLOT), Arc::new(store));
    println!("{count} sessions, pages of {SIZE}, {runs} of each");
    println!("{:<38}{:>9}{:>9}{:>9}", "", "min ms", "p50 ms", "p99 ms");
    for (name, filter) in filters() {
        for (place, depth) in [("first page", None), ("in the middle", Some(2)), ("near the end", Some(100))] {
            let after = depth.map(|part| position(count / part));
            let times = measure(&index, &filter, after, runs).await;
            let (min, p50, p99) = (times[0], times[runs / 2], times[(runs * 99).div_ceil(100) - 1]);
            println!("{:<38}{:>9.1}{:>9.1}{:>9.1}", format!("{name}, {place}"), ms(min), ms(p50), ms(p99));
        }
    }
    database.close().await;
    drop_all(&clickhouse).await;
}

fn filters() -> Vec<(&'static str, ListFilter)> {
    let none = ListFilter::default;
    let texts = |text: &str| vec![text.to_owned()];
    let time = |part: i64| Some(Timestamp(FIRST_MS + STEP_MS * part));
    vec![
        ("all", none()),
        ("active", ListFilter { statuses: vec![SessionStatus::Active], ..none() }),
        ("closed", ListFilter { statuses: vec![SessionStatus::Closed], ..none() }),
        ("expired", ListFilter { statuses: vec![SessionStatus::Expired], ..none() }),
        ("type", ListFilter { types: texts("support"), ..none() }),
        ("task", ListFilter { task_identifiers: texts("task-3"), ..none() }),
        ("task of none", ListFilter { task_identifiers: texts("task-99"), ..none() }),
        ("tag of a tenth", ListFilter { tags: texts("vip"), ..none() }),
        ("tag of a thousandth", ListFilter { tags: texts("rare"), ..none() }),
        ("tag of twenty", ListFilter { tags: texts("user:77"), ..none() }),
        ("tag of none", ListFilter { tags: texts("nobody"), ..none() }),
        ("name", ListFilter { external_id: Some("chat-77777".into()), ..none() }),
        ("time", ListFilter { created_from: time(1_000), created_to: time(200_000), ..none() }),
        (
            "closed, type, rare tag",
            ListFilter {
                statuses: vec![SessionStatus::Closed],
                types: texts("chat.agent"),
                tags: texts("rare"),
                ..none()
            },
        ),
    ]
}

/// At the session of this number.
fn position(number: i64) -> ListPosition {
    ListPosition {
        created_at: Timestamp(FIRST_MS + number / 3 * STEP_MS),
        id: SessionId::from_body(&format!("{number:09}")),
    }
}

/// How long each of the pages took, shortest first.
async fn measure(
    index: &ClickHouseIndex,
    filter: &ListFilter,
    after: Option<ListPosition>,
    runs: usize,
) -> Vec<Duration> {
    let environment = EnvironmentId::from_body("bench");
    let from = after.map_or(PageFrom::Start, PageFrom::After);
    // Statuses are of a moment in the middle.
    let now = Timestamp(FIRST_MS + 100_000 * STEP_MS);
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        index.list(&environment, filter, &from, SIZE, now).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    times
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn fill(count: i64) -> (Database, ClickHouse) {
    let options = Options { url: url("CONTINUO_TEST_CLICKHOUSE_URL"), database: DATABASE.into() };
    let clickhouse = ClickHouse::new(&options).unwrap();
    drop_all(&clickhouse).await;
    let server = url("CONTINUO_TEST_POSTGRES_URL");
    let mut connection = PgConnection::connect(&server).await.unwrap();
    sqlx::query("CREATE DATABASE continuo_bench_lists").execute(&mut connection).await.unwrap();
    let own = format!("{}/{DATABASE}", server.rsplit_once('/').unwrap().0);
    let database = Database::connect(PostgresOptions::new(&own)).await.unwrap();
    database.migrate().await.unwrap();
    let mut connection = PgConnection::connect(&own).await.unwrap();
    sqlx::raw_sql(TENANT).execute(&mut connection).await.unwrap();
    let rows = sqlx::query(POSTGRES_ROWS).bind(count).bind(FIRST_MS).bind(STEP_MS);
    rows.execute(&mut connection).await.unwrap();
    sqlx::query(NOTES).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.unwrap();

    clickhouse.migrate().await.unwrap();
    let table = clickhouse.table("sessions_v1");
    let client = clickhouse.client();
    let rows = client.query(&CLICKHOUSE_ROWS.replace("{table}", &table)).bind(FIRST_MS).bind(STEP_MS).bind(count);
    rows.execute().await.unwrap();
    let stop_merges = format!("SYSTEM STOP MERGES {table}");
    for statement in [&stop_merges, &NEWER_VERSIONS.replace("{table}", &table)] {
        client.query(statement).execute().await.unwrap();
    }
    (database, clickhouse)
}

async fn drop_all(clickhouse: &ClickHouse) {
    let drop = format!("DROP DATABASE IF EXISTS `{DATABASE}` SYNC");
    clickhouse.client().query(&drop).execute().await.unwrap();
    let mut server = PgConnection::connect(&url("CONTINUO_TEST_POSTGRES_URL")).await.unwrap();
    let drop = "DROP DATABASE IF EXISTS continuo_bench_lists WITH (FORCE)";
    sqlx::query(drop).execute(&mut server).await.unwrap();
}

fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("no {name}; start the services with: eval \"$(tests/services up)\""))
}
