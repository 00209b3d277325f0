//! What is SQLite's own: durability, the batching writer, the plans of the queries that must stay cheap.

use crate::contract::rows::*;
use crate::entity::session;
use crate::{Database, SqlStore, list, queues, session_index, workers};
use continuo_domain::session::{ListFilter, Session};
use continuo_domain::{Error, SessionId};
use continuo_ports::run_store::LeaseRef;
use continuo_ports::worker_store::WorkerPosition;
use continuo_ports::{RunStore, SessionStore};
use futures_util::FutureExt;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use sea_orm::{QueryTrait, Statement};
use std::path::PathBuf;
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("continuo.sqlite");
    (directory, path)
}

async fn open(path: &PathBuf) -> (Database, SqlStore) {
    let database = Database::open(path).await.unwrap();
    (database.clone(), SqlStore::new(database))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_reopen() {
    let (_directory, path) = directory();
    for round in 0..3 {
        let (database, store) = open(&path).await;
        let made = store.upsert(new_session(&format!("s{round}"), Some("chat-1")), after(round)).await.unwrap();
        assert_eq!((made.is_new, made.session.id), (round == 0, SessionId::from_body("s0")));
        let id = SessionId::from_body("s0");
        store.claim_run(claim(&id, round, &format!("r{round}")), T0).await.unwrap();
        assert_eq!(store.session_runs(&id).await.unwrap().len() as u64, round + 1);
        // Closed in order, dropped, and dropped after a close: all the same.
        if round != 1 {
            database.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_takes_no_more_writes() {
    let (_directory, path) = directory();
    let (database, store) = open(&path).await;
    let writes: Vec<_> = (0..16)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.upsert(new_session(&format!("s{i}"), None), T0).await })
        })
        .collect();
    database.close().await;
    let mut written = 0;
    for write in writes {
        match write.await.unwrap() {
            Ok(_) => written += 1,
            Err(Error::Stopping) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(matches!(store.upsert(new_session("late", None), T0).await, Err(Error::Stopping)));
    let (database, _) = open(&path).await;
    assert_eq!(session::Entity::find().count(database.readers()).await.unwrap(), written, "told is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pragmas_are_in_force() {
    let (_directory, path) = directory();
    let (database, _) = open(&path).await;
    let pragma = "SELECT (SELECT journal_mode FROM pragma_journal_mode) || ' ' || \
                  (SELECT synchronous FROM pragma_synchronous) || ' ' || \
                  (SELECT foreign_keys FROM pragma_foreign_keys) AS answer";
    let pragma = Statement::from_string(DbBackend::Sqlite, pragma);
    let read = pragma.clone();
    let answer = database
        .write(move |tx| async move { Ok(tx.query_one_raw(read).await.unwrap().unwrap()) }.boxed())
        .await
        .unwrap();
    assert_eq!(answer.try_get::<String>("", "answer").unwrap(), "wal 2 1");
    let refused = database.readers().execute_unprepared("DELETE FROM session").await;
    assert!(refused.is_err(), "readers only read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_share_commits() {
    let (_directory, path) = directory();
    let (database, store) = open(&path).await;
    let before = database.writer_stats();
    let made = together(64, |writer| {
        let store = store.clone();
        async move {
            let mut made = 0;
            for i in 0..50 {
                let name = format!("chat-{writer}-{i}");
                let new = new_session(&format!("w{writer}i{i}"), Some(&name));
                made += u32::from(store.upsert(new, T0).await.unwrap().is_new);
            }
            made
        }
    });
    assert_eq!(made.await.into_iter().sum::<u32>(), 3_200);
    let stats = database.writer_stats();
    let (jobs, commits) = (stats.jobs - before.jobs, stats.commits - before.commits);
    assert_eq!((jobs, stats.failures), (3_200, 0));
    assert!(commits * 4 < jobs, "{commits} commits for {jobs} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_job_takes_nothing_with_it() {
    let (_directory, path) = directory();
    let (database, store) = open(&path).await;
    let results = together(48, |i| {
        let (database, store) = (database.clone(), store.clone());
        async move {
            let body = format!("s{i}");
            if i % 3 == 0 {
                return store.upsert(new_session(&body, None), T0).await.map(drop);
            }
            let row = crate::convert::session_row(&store_row(&body));
            database
                .write(move |tx| {
                    async move {
                        session::Entity::insert(row).exec_without_returning(tx).await.unwrap();
                        assert!(i % 3 != 2, "a bug in a job");
                        Err::<(), _>(Error::SessionNotFound)
                    }
                    .boxed()
                })
                .await
        }
    });
    for (i, result) in results.await.into_iter().enumerate() {
        match (i % 3, result) {
            (0, Ok(())) | (1, Err(Error::SessionNotFound)) | (2, Err(Error::Internal(_))) => {}
            (_, other) => panic!("{i}: {other:?}"),
        }
    }
    assert_eq!(session::Entity::find().count(database.readers()).await.unwrap(), 16);
    assert_eq!(database.writer_stats().failures, 0);
}

fn store_row(body: &str) -> continuo_domain::session::Session {
    let new = new_session(body, None);
    Session::new(new, T0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_breaks_is_told_to_all_and_then_over() {
    let (_directory, path) = directory();
    let (database, store) = open(&path).await;
    // Ends the transaction under the writer's feet, as SQLite itself does when the disk is full.
    let broken = database
        .write(|tx| {
            async move {
                tx.execute_unprepared("ROLLBACK").await.unwrap();
                Ok(())
            }
            .boxed()
        })
        .await;
    assert!(broken.is_err(), "{broken:?}");
    assert_eq!(database.writer_stats().failures, 1);
    assert!(store.upsert(new_session("a", None), T0).await.unwrap().is_new, "the next connection is sound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_workers_and_found_names_cost_no_transaction() {
    let (_directory, path) = directory();
    let (database, store) = open(&path).await;
    store.upsert(new_session("a", Some("chat-1")), T0).await.unwrap();
    let before = database.writer_stats();
    for _ in 0..10 {
        assert!(store.dequeue(request("w", 9, T0), T0).await.unwrap().is_empty());
        assert!(!store.upsert(new_session("b", Some("chat-1")), T0).await.unwrap().is_new);
    }
    assert_eq!(database.writer_stats(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_newer_release_is_refused_and_left_as_it_is() {
    let (_directory, path) = directory();
    let (database, _) = open(&path).await;
    let later = Statement::from_string(DbBackend::Sqlite, "INSERT INTO seaql_migrations VALUES ('m9999_later', 0)");
    database.write_one(later).await.unwrap();
    database.close().await;
    let refused = Database::open(&path).await.map(drop);
    assert!(
        matches!(&refused, Err(e @ Error::InvalidArgument(_)) if e.to_string().contains("m9999_later")),
        "{refused:?}"
    );
}

async fn plan(database: &Database, select: Statement) -> String {
    let explain = Statement { sql: format!("EXPLAIN QUERY PLAN {}", select.sql), ..select };
    let rows = database.readers().query_all_raw(explain).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
    lines.join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_a_range_of_the_index() {
    let (_directory, path) = directory();
    let (database, _) = open(&path).await;
    let matching = session_index::matching(DbBackend::Sqlite, &env(), &ListFilter::default(), T0);
    let start = session_index::newest_first(matching.clone()).limit(21);
    let position = list::Position { created_at_ms: T0.0, id: "session_a".into() };
    let (created_at, id) = (session::Column::CreatedAtMs, session::Column::Id);
    let older = session_index::newest_first(matching.clone().filter(list::older(created_at, id, &position))).limit(21);
    let newer = session_index::oldest_first(matching.filter(list::newer(created_at, id, &position))).limit(21);
    for (select, range) in [(start, "environment_id=?"), (older, "created_at_ms,id)<"), (newer, "created_at_ms,id)>")] {
        let plan = plan(&database, select.build(DbBackend::Sqlite)).await;
        assert!(plan.contains("USING INDEX session_list") && plan.contains(range), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_a_clock_or_in_the_writer_walks_an_index() {
    let (_directory, path) = directory();
    let (database, _) = open(&path).await;
    let plans = [
        crate::session_store::without_live_run(T0, T0).limit(9).build(DbBackend::Sqlite),
        crate::waitpoints::timed_out(T0, 9).build(DbBackend::Sqlite),
        crate::waitpoints::open_after(None, 9).build(DbBackend::Sqlite),
        crate::queue::in_turn(&env(), TASK, None, T0).build(DbBackend::Sqlite),
        crate::revocations::select(DbBackend::Sqlite, T0, T0),
        session::Entity::find()
            .filter(session::Column::ClosedAtMs.is_not_null())
            .filter(session::Column::CloseFinished.eq(false))
            .build(DbBackend::Sqlite),
    ];
    for select in plans {
        let sql = select.sql.clone();
        let plan = plan(&database, select).await;
        let scans = plan.split("; ").filter(|line| line.starts_with("SCAN") && !line.contains("USING"));
        assert_eq!(scans.count(), 0, "{plan}\n{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_and_leases_are_counted_from_the_index_by_status() {
    let (_directory, path) = directory();
    let (database, _) = open(&path).await;
    let queues = plan(&database, queues::counting(DbBackend::Sqlite, &env(), 9, T0)).await;
    assert!(queues.contains("SEARCH run USING INDEX run_list_by_status (environment_id=? AND status=?)"), "{queues}");
    let after = WorkerPosition { connected_at: T0, id: "w".into() };
    for after in [None, Some(&after)] {
        let workers = plan(&database, DbBackend::Sqlite.build(&workers::listing(&env(), T0, after, 9))).await;
        assert!(
            workers.contains("SEARCH run USING INDEX run_list_by_status (environment_id=? AND status=?)"),
            "{workers}"
        );
        assert!(workers.contains("SEARCH worker USING INDEX worker_list"), "{workers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_does_not_rewrite_the_payload() {
    let (_directory, path) = directory();
    let (_database, store) = open(&path).await;
    let mut spec = new_run("a");
    spec.payload = format!("\"{}\"", "x".repeat(2_000_000));
    store.trigger(spec.into(), T0).await.unwrap();
    let taken = store.dequeue(request("w", 1, T0), T0).await.unwrap().pop().unwrap().run;
    let wal = path.with_extension("sqlite-wal");
    let size = || std::fs::metadata(&wal).unwrap().len();
    let before = size();
    let lease = LeaseRef { run: taken.spec.id, number: taken.lease.unwrap().number };
    for i in 0..20 {
        let renewed =
            store.renew(&env(), std::slice::from_ref(&lease), None, after(100_000 + i), after(i)).await.unwrap();
        assert!(renewed[0].is_ok());
    }
    assert!(size() - before < 1_000_000, "{} bytes for 20 changes", size() - before);
}
