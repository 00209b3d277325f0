//! A copy is the same rows, whatever is copied twice.

use super::*;
use crate::SqlStore;
use crate::contract::postgres::PostgresDatabase;
use crate::contract::rows::*;
use continuo_domain::SessionId;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction, PartId, Position};
use continuo_domain::id::ApiKeyId;
use continuo_domain::principal::{OneTimeToken, Scope};
use continuo_domain::waitpoint::{ChannelWait, WaitedSession, Waitpoint};
use continuo_ports::environments::{ApiKey, Environment, RotatedKey};
use continuo_ports::run_store::NewTrigger;
use continuo_ports::{Environments, RunStore, SessionStore, WorkerStore};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

async fn open(directory: &TempDir, name: &str) -> Database {
    Database::open(directory.path().join(name)).await.unwrap()
}

fn options(claims: Vec<Claim>) -> CopyOptions {
    CopyOptions {
        basin: Arc::new(|organization| format!("basin-of-{organization}")),
        claims: claims.into(),
        progress: Arc::new(|_| {}),
    }
}

fn environment(root_key: &[u8]) -> Environment {
    Environment {
        tenant: tenant(env()),
        slug: "dev".into(),
        root_key_sealed: b"sealed".to_vec(),
        root_key_hash: root_key.to_vec(),
        rotated: vec![RotatedKey { sealed: b"old".to_vec(), hash: b"older".to_vec(), valid_until: after(9) }],
        tokens_not_before: Some(T0),
    }
}

/// At least a row in every table.
async fn fill(database: &Database) -> SessionId {
    let store = SqlStore::new(database.clone());
    Environments::put(&store, environment(b"root"), T0).await.unwrap();
    let scopes = vec![Scope::parse("read:sessions").unwrap()];
    let (id, hash) = (ApiKeyId::from_body("k"), b"key".to_vec());
    let key = ApiKey { id, environment: env(), name: "ci".into(), hash, scopes, created_at: T0, revoked_at: None };
    store.add_key(key).await.unwrap();
    let made = store.create(new_session("a", Some("chat-1")), new_run("first"), T0).await.unwrap().session;
    for i in 0..CHUNK + 2 {
        store.upsert(new_session(&format!("many{i}"), None), after(i as u64)).await.unwrap();
    }
    store.register_channel(&made.id, &ChannelName::parse("tools").unwrap()).await.unwrap();
    // Its task goes along. It itself does not: it is connected to the server that stopped.
    store.connect_worker(&worker("w", "link", 0), T0).await.unwrap();
    let rows = Rows {
        sessions: Arc::new(store.clone()),
        index: Arc::new(store.clone()),
        runs: Arc::new(store.clone()),
        workers: Arc::new(store.clone()),
        environments: Arc::new(store.clone()),
        claims: Arc::new(store.clone()),
    };
    let taken = rows.dequeue(1, T0).await.pop().unwrap().run;
    let holder = continuo_domain::run::Holder::Lease(taken.lease.unwrap().number);
    rows.apply(&taken.spec.id, continuo_domain::run::RunCommand::Start(holder), T0).await;
    let one_time_token = Some(OneTimeToken { id: "token".into(), expires_at: after(60_000) });
    store.trigger(NewTrigger { one_time_token, ..new_run("alone").into() }, T0).await.unwrap();
    let wait = ChannelWait { session: WaitedSession::Id(made.id.clone()), direction: Direction::In, from_seq_num: 3 };
    let waitpoint = Waitpoint {
        run: Some(taken.spec.id),
        channel: Some(wait),
        idempotency_key: Some("once".into()),
        idempotency_key_expires_at: Some(after(7)),
        tags: vec!["ü".into()],
        timeout_at: Some(after(8)),
        ..waitpoint("w")
    };
    store.create_waitpoint(waitpoint).await.unwrap();
    made.id
}

/// Every row of every table, in an order that no database has a say in.
async fn dump(database: &Database) -> BTreeMap<&'static str, Vec<String>> {
    let snapshot = database.snapshot().await.unwrap();
    let mut tables = BTreeMap::new();
    macro_rules! dump {
        ($($table:ident)+) => { $(
            let rows = entity::$table::Entity::find().all(&snapshot).await.unwrap();
            let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
            rows.sort();
            tables.insert(stringify!($table), rows);
        )+ };
    }
    dump!(organization project environment rotated_key api_key session session_channel session_run run run_payload attempt
        waitpoint registration worker_task spent_token append_claim);
    tables
}

fn claim_on(session: &SessionId) -> Claim {
    Claim {
        channel: ChannelKey::reserved(session.clone(), Direction::In),
        part_id: PartId::parse("p").unwrap(),
        is_servers: false,
        digest: [7; 32],
        mark: "moved".into(),
        from_seq_num: 4,
        claimed_at: T0,
        settled_at: Some(Position { seq_num: 4, timestamp: T0 }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_one_file_to_another() {
    let directory = tempfile::tempdir().unwrap();
    a_copy_has_every_row_and_a_second_one_changes_nothing(open(&directory, "to").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_file_to_postgres() {
    let target = PostgresDatabase::migrated().await;
    a_copy_has_every_row_and_a_second_one_changes_nothing(target.connect().await).await;
}

async fn a_copy_has_every_row_and_a_second_one_changes_nothing(to: Database) {
    let directory = tempfile::tempdir().unwrap();
    let from = open(&directory, "from").await;
    let session = fill(&from).await;
    let mut expected = dump(&from).await;
    let empty: Vec<_> = expected.iter().filter(|(_, rows)| rows.is_empty()).map(|(table, _)| *table).collect();
    assert_eq!(empty, ["append_claim"], "a table without rows shows nothing");
    let told = Arc::new(AtomicU64::new(0));
    let teller = told.clone();
    let progress: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(move |rows| {
        teller.fetch_add(rows, Ordering::Relaxed);
    });
    for _ in 0..2 {
        let copy = CopyOptions { progress: progress.clone(), ..options(vec![claim_on(&session)]) };
        from.copy_to(&to, copy).await.unwrap();
    }
    let mut copied = dump(&to).await;
    assert_eq!(copied.remove("append_claim").unwrap().len(), 1);
    expected.remove("append_claim");
    for row in expected.get_mut("session").unwrap() {
        *row = row.replace("stream_basin_name: None", r#"stream_basin_name: Some("basin-of-org_o")"#);
    }
    assert_eq!(copied, expected);
    assert_eq!(told.load(Ordering::Relaxed), 2 * from.count_rows().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_with_another_root_key_is_not_mixed_in() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (open(&directory, "from").await, open(&directory, "to").await);
    fill(&from).await;
    Environments::put(&SqlStore::new(to.clone()), environment(b"another"), T0).await.unwrap();
    let before = dump(&to).await;
    let refused = from.copy_to(&to, options(vec![])).await.unwrap_err();
    assert!(refused.to_string().contains("another root key"), "{refused}");
    assert_eq!(dump(&to).await, before, "nothing arrived");
}
