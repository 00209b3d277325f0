//! What is Postgres' own: what a broken connection means, how many round trips things take, the schema, the plans.

use crate::contract::postgres::PostgresDatabase;
use crate::contract::rows::*;
use crate::{Database, PostgresOptions, SchemaStatus, SqlStore, list, session_index};
use continuo_domain::run::NewRun;
use continuo_domain::session::{ListFilter, SessionRef};
use continuo_domain::{Error, SessionId};
use continuo_ports::{RunStore, SessionStore, WorkerStore};
use futures_util::FutureExt;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Statement};
use std::time::Duration;

fn sql(text: impl Into<String>) -> Statement {
    Statement::from_string(DbBackend::Postgres, text.into())
}

async fn texts(handle: &Database, statement: Statement, column: &str) -> Vec<String> {
    let rows = handle.readers().query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", column).unwrap()).collect()
}

async fn fresh() -> (PostgresDatabase, Database, SqlStore) {
    let database = PostgresDatabase::migrated().await;
    let handle = database.connect().await;
    (database, handle.clone(), SqlStore::new(handle))
}

/// Ends every session of the database but the one that asks, as a restart of the server does.
async fn end_sessions(handle: &Database) {
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    handle.readers().query_all_raw(sql(end)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_writes_go_on_after_a_restart() {
    let (database, handle, store) = fresh().await;
    let other = database.connect().await;
    for round in 0..3 {
        // All eight connections are open and idle, or nothing would be found dead.
        let gate = std::sync::Arc::new(tokio::sync::Barrier::new(8));
        together(8, |_| {
            let (handle, gate) = (handle.clone(), gate.clone());
            async move {
                let held = handle.snapshot().await.unwrap();
                gate.wait().await;
                held.commit().await.unwrap();
            }
        })
        .await;
        end_sessions(&other).await;
        let answers = together(16, |i| {
            let store = store.clone();
            async move {
                if i % 2 == 0 {
                    return SessionStore::get(&store, &env(), &by_name("chat")).await.map(drop);
                }
                store.upsert(new_session(&format!("r{round}s{i}"), None), T0).await.map(drop)
            }
        });
        for answer in answers.await {
            answer.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unavailable() {
    let (database, ..) = fresh().await;
    let nowhere = PostgresOptions {
        acquire_timeout: Duration::from_millis(100),
        ..PostgresOptions::new("postgres://postgres@127.0.0.1:1/none")
    };
    let refused = Database::connect(nowhere).await.map(drop);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let no_url = Database::connect(PostgresOptions::new("secret text")).await.map(drop);
    assert!(
        matches!(&no_url, Err(Error::InvalidArgument(_))) && !format!("{no_url:?}").contains("secret"),
        "{no_url:?}"
    );
    let one = PostgresOptions {
        pool_max: 1,
        acquire_timeout: Duration::from_millis(100),
        statement_timeout: Some(Duration::from_millis(100)),
        ..PostgresOptions::new(&database.url)
    };
    let handle = Database::connect(one).await.unwrap();
    let slow = handle.write(|tx| {
        async move { tx.execute_unprepared("SELECT pg_sleep(9)").await.map_err(crate::error::failed) }.boxed()
    });
    let slow = slow.await.map(drop);
    assert!(matches!(slow, Err(Error::Unavailable(_))), "{slow:?}");
    let held = handle.snapshot().await.unwrap();
    let busy = SessionStore::get(&SqlStore::new(handle.clone()), &env(), &by_name("a")).await;
    assert!(matches!(busy, Err(Error::Unavailable(_))), "{busy:?}");
    drop(held);
    handle.close().await;
    let closed = SqlStore::new(handle).upsert(new_session("a", None), T0).await;
    assert!(matches!(closed, Err(Error::Stopping)), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unknown_and_a_refused_one_is_not() {
    let (_database, handle, store) = fresh().await;
    // A deferred trigger runs inside COMMIT: one ends the session there, the other refuses.
    let ddl = "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF NEW.id = 'session_lost' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
               IF NEW.id = 'session_refused' THEN RAISE serialization_failure; END IF; RETURN NULL; END $$; \
               CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON session DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION at_commit()";
    handle.readers().execute_unprepared(ddl).await.unwrap();
    let lost = store.upsert(new_session("lost", None), T0).await;
    assert!(matches!(lost, Err(Error::OutcomeUnknown(_))), "{lost:?}");
    let before = handle.round_trips();
    let refused = store.upsert(new_session("refused", None), T0).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(handle.round_trips() - before, 5 * 3, "BEGIN, INSERT, COMMIT, and again up to the limit");
    assert!(store.upsert(new_session("fine", None), T0).await.unwrap().is_new);
    assert_eq!(
        SessionStore::get(&store, &env(), &SessionRef::Id(SessionId::from_body("refused"))).await.unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_job_leaves_nothing() {
    let (_database, handle, store) = fresh().await;
    let row = crate::convert::session_row(&continuo_domain::session::Session::new(new_session("a", None), T0));
    let failed = handle.write(move |tx| {
        async move {
            crate::entity::session::Entity::insert(row).exec_without_returning(tx).await.unwrap();
            Err::<(), _>(Error::SessionNotFound)
        }
        .boxed()
    });
    assert!(matches!(failed.await, Err(Error::SessionNotFound)));
    assert!(store.upsert(new_session("a", None), T0).await.unwrap().is_new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_character_that_postgres_does_not_store_is_refused_by_name() {
    let (_database, _handle, store) = fresh().await;
    let mut new = new_session("a", None);
    new.task_identifier = "a\0b".into();
    let refused = store.upsert(new, T0).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    let mut new = new_session("b", None);
    new.tags = vec!["a\0b".into()];
    let refused = store.upsert(new, T0).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_reads_are_one_round_trip() {
    let (_database, handle, store) = fresh().await;
    store.upsert(new_session("a", Some("chat")), T0).await.unwrap();
    let before = handle.round_trips();
    SessionStore::get(&store, &env(), &by_name("chat")).await.unwrap().unwrap();
    assert_eq!(handle.round_trips() - before, 1);
    assert!(!store.upsert(new_session("b", Some("chat")), T0).await.unwrap().is_new);
    assert_eq!(handle.round_trips() - before, 2, "a name that is found");
    assert!(store.dequeue(request("w", 9, T0), T0).await.unwrap().is_empty());
    assert_eq!(handle.round_trips() - before, 3, "an idle worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_leaves_open_is_freed_by_the_server() {
    let (_database, handle, _store) = fresh().await;
    for (setting, value) in
        [("idle_in_transaction_session_timeout", "10s"), ("lock_timeout", "10s"), ("statement_timeout", "30s")]
    {
        assert_eq!(texts(&handle, sql(format!("SHOW {setting}")), setting).await, [value], "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_says_how_it_stands_to_this_release() {
    let (_database, handle, _store) = fresh().await;
    assert_eq!(handle.schema_status().await.unwrap(), SchemaStatus::Current);
    let note = |text: &'static str| handle.readers().execute_unprepared(text);
    note("DELETE FROM seaql_migrations WHERE version = 'm0007_replicas'").await.unwrap();
    let missing = vec!["m0007_replicas".to_owned()];
    assert_eq!(handle.schema_status().await.unwrap(), SchemaStatus::Behind { missing });
    note("INSERT INTO seaql_migrations VALUES ('m9999_later', 0)").await.unwrap();
    let unknown = vec!["m9999_later".to_owned()];
    assert_eq!(handle.schema_status().await.unwrap(), SchemaStatus::Ahead { unknown });
    let refused = handle.migrate().await;
    assert!(
        matches!(&refused, Err(e @ Error::InvalidArgument(_)) if e.to_string().contains("m9999_later")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_compares_by_its_bytes() {
    let (_database, handle, _store) = fresh().await;
    let provider = "SELECT datlocprovider::text AS provider FROM pg_database WHERE datname = current_database()";
    assert_eq!(texts(&handle, sql(provider), "provider").await, ["i"], "in a locale that sorts otherwise");
    let others = "SELECT c.relname || '.' || a.attname AS name FROM pg_attribute a \
                  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation l ON l.oid = a.attcollation \
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND l.collname <> 'C' \
                  AND c.relname <> 'seaql_migrations'";
    assert_eq!(texts(&handle, sql(others), "name").await, Vec::<String>::new());
}

async fn plan(handle: &Database, select: Statement) -> String {
    let tx = handle.snapshot().await.unwrap();
    tx.execute_unprepared("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await.unwrap();
    let explain = Statement { sql: format!("EXPLAIN {}", select.sql), ..select };
    let rows = tx.query_all_raw(explain).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", "QUERY PLAN").unwrap()).collect();
    lines.join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_a_range_of_the_index() {
    let (_database, handle, _store) = fresh().await;
    let matching = session_index::matching(DbBackend::Postgres, &env(), &ListFilter::default(), T0);
    let start = session_index::newest_first(matching.clone()).limit(21);
    let position = list::Position { created_at_ms: T0.0, id: "session_a".into() };
    use crate::entity::session::Column::{CreatedAtMs, Id};
    let older = session_index::newest_first(matching.clone().filter(list::older(CreatedAtMs, Id, &position))).limit(21);
    let newer = session_index::oldest_first(matching.filter(list::newer(CreatedAtMs, Id, &position))).limit(21);
    for (select, range) in
        [(start, "Index Cond"), (older, "ROW(created_at_ms, id) <"), (newer, "ROW(created_at_ms, id) >")]
    {
        let plan = plan(&handle, select.build(DbBackend::Postgres)).await;
        assert!(plan.contains("using session_list") && plan.contains(range), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_a_clock_or_takes_work_walks_an_index() {
    let (_database, handle, _store) = fresh().await;
    use crate::entity::{run, session};
    let by_key = run::Entity::find()
        .filter(run::Column::EnvironmentId.eq("env_a"))
        .filter(run::Column::TaskIdentifier.eq(TASK))
        .filter(run::Column::IdempotencyClaim.eq("k"));
    let closing = session::Entity::find()
        .filter(session::Column::ClosedAtMs.is_not_null())
        .filter(session::Column::CloseFinished.eq(false));
    let plans = [
        crate::session_store::without_live_run(T0, T0).limit(9).build(DbBackend::Postgres),
        crate::waitpoints::timed_out(T0, 9).build(DbBackend::Postgres),
        crate::waitpoints::open_after(None, 9).build(DbBackend::Postgres),
        crate::queue::in_turn(&env(), TASK, None, T0).build(DbBackend::Postgres),
        crate::sessions::by_ref(&env(), &by_name("chat")).build(DbBackend::Postgres),
        by_key.build(DbBackend::Postgres),
        closing.build(DbBackend::Postgres),
    ];
    for select in plans {
        let sql = select.sql.clone();
        let plan = plan(&handle, select).await;
        assert!(!plan.contains("Seq Scan") && plan.contains("Index"), "{plan}\n{sql}");
    }
}

/// As the planner likes it.
async fn free_plan(handle: &Database, select: Statement) -> String {
    let explain = Statement { sql: format!("EXPLAIN {}", select.sql), ..select };
    let rows = handle.readers().query_all_raw(explain).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", "QUERY PLAN").unwrap()).collect();
    lines.join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_and_leases_are_counted_without_the_runs_that_are_over() {
    let (_database, handle, store) = fresh().await;
    for i in 0..20 {
        store.trigger(new_run(&format!("alive{i}")).into(), T0).await.unwrap();
    }
    let taken = store.dequeue(request("w", 5, T0), T0).await.unwrap();
    assert_eq!(taken.len(), 5);
    let over = "INSERT INTO run SELECT (jsonb_populate_record(run, jsonb_build_object( \
                'id', 'run_over' || i, 'status', 'COMPLETED_SUCCESSFULLY', 'available_at_ms', NULL, 'completed_at_ms', i, \
                'created_at_ms', i))).* \
                FROM run, generate_series(1, 20000) i WHERE id = 'run_alive19'";
    handle.readers().execute_unprepared(over).await.unwrap();
    handle.readers().execute_unprepared("ANALYZE run").await.unwrap();
    let queues = crate::queues::counting(DbBackend::Postgres, &env(), 9, T0);
    let workers = DbBackend::Postgres.build(&crate::workers::listing(&env(), T0, None, 9));
    for select in [queues, workers] {
        let plan = free_plan(&handle, select).await;
        assert!(plan.contains("run_list_by_status") && !plan.contains("Seq Scan on run"), "{plan}");
        assert!(plan.contains("(status = ANY"), "{plan}");
    }
    let counted = store.queues(&env(), 9, T0).await.unwrap().queues;
    assert_eq!((counted.len(), counted[0].pending, counted[0].dequeued), (1, 15, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_of_a_worker_is_one_round_trip_and_touches_no_index() {
    let (database, handle, store) = fresh().await;
    let mut worker = worker("w", "link", 0);
    store.connect_worker(&worker, T0).await.unwrap();
    let before = handle.round_trips();
    for i in 1..=10 {
        worker.seen_at = after(i);
        store.note_worker(&worker, T0).await.unwrap();
    }
    assert_eq!(handle.round_trips() - before, 10);
    // Its counters are written when its session ends at the latest.
    handle.close().await;
    let handle = database.connect().await;
    let counts = "SELECT n_tup_upd || ' ' || n_tup_hot_upd AS counts FROM pg_stat_user_tables WHERE relname = 'worker'";
    assert_eq!(texts(&handle, sql(counts), "counts").await, ["10 10"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_read_in_the_order_of_its_index() {
    let (_database, handle, store) = fresh().await;
    for i in 0..50 {
        store.trigger(NewRun { priority: i % 5, ..new_run(&format!("r{i}")) }.into(), T0).await.unwrap();
    }
    let plan = plan(&handle, crate::queue::in_turn(&env(), TASK, None, T0).build(DbBackend::Postgres)).await;
    assert!(plan.contains("run_queue_places") && !plan.contains("Sort"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_index_goes_and_comes_back_as_it_was() {
    let (database, handle, store) = fresh().await;
    store.upsert(new_session("chat", None), T0).await.unwrap();
    let definition = "SELECT pg_get_indexdef(to_regclass('session_list')) AS definition";
    let definition = async || texts(&handle, sql(definition), "definition").await;
    let made = definition().await;
    assert!(handle.has_list_index().await.unwrap());
    assert!(!handle.keep_list_index(true).await.unwrap(), "there is nothing to do");

    // Whoever makes it waits for every statement that is under way, also of those that wait for their turn: none may.
    let others = [database.connect().await, database.connect().await, database.connect().await];
    for is_wanted in [false, true, false] {
        let kept = together(3, |i| {
            let other = others[i].clone();
            async move { (other.keep_list_index(is_wanted).await, other.migrate().await) }
        })
        .await;
        assert!(kept.iter().all(|(kept, migrated)| kept.is_ok() && migrated.is_ok()), "{kept:?}");
        assert_eq!(handle.has_list_index().await.unwrap(), is_wanted);
    }

    // One that was broken off while it was made is there in name only.
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY session_list ON session ((1), environment_id)";
    store.upsert(new_session("other", None), T0).await.unwrap();
    assert!(handle.readers().execute_unprepared(broken).await.is_err());
    assert_eq!(definition().await.len(), 1);
    assert!(!handle.has_list_index().await.unwrap());
    assert!(handle.keep_list_index(true).await.unwrap());
    assert_eq!(definition().await, made);
}
