//! When the index does not answer by the table: it is away, too far behind, or not complete.

use super::new_sessions::*;
use super::worker::Worker;
use crate::{ClickHouse, ClickHouseIndex, NOTED_SESSIONS_MAX, Options};
use continuo_domain::session::{ListFilter, PageFrom};
use continuo_domain::{Error, IndexPosition, Timestamp};
use continuo_ports::SessionIndex;
use sea_orm::sqlx;

async fn is_unavailable(index: &ClickHouseIndex) -> bool {
    let filter = ListFilter::default();
    let counted = index.count(&env(), &filter, T0).await.map(drop);
    let tagged = index.tags(&env(), "", 9).await.map(drop);
    [counted, tagged]
        .iter()
        .all(|outcome| matches!(outcome, Err(error @ Error::Unavailable(_)) if error.is_retryable()))
}

async fn page(index: &ClickHouseIndex, now: Timestamp) -> continuo_domain::Result<Vec<String>> {
    let page = index.list(&env(), &ListFilter::default(), &PageFrom::Start, 9, now).await?;
    Ok(page.sessions.iter().map(|session| session.id.to_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_clickhouse_every_question_is_unavailable() {
    let worker = Worker::start().await;
    worker.sessions.upsert(new_session("a", None), T0).await.unwrap();
    let nowhere = Options { url: "http://127.0.0.1:1".into(), database: "none".into() };
    let index = ClickHouseIndex::new(ClickHouse::new(&nowhere).unwrap(), worker.rows.clone(), worker.sql.clone());
    assert!(is_unavailable(&index).await);
    assert!(matches!(page(&index, T0).await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_table_is_complete_the_database_answers() {
    let worker = Worker::start().await;
    let index = worker.index();
    worker.sessions.upsert(new_session("a", None), T0).await.unwrap();
    sqlx::query("DELETE FROM session_change").execute(&worker.pool).await.unwrap();
    assert!(page(&index, T0).await.unwrap().is_empty(), "neither stored nor noted");
    for incomplete in ["UPDATE session_replication SET is_complete = false", "DELETE FROM session_replication"] {
        sqlx::query(incomplete).execute(&worker.pool).await.unwrap();
        assert_eq!(page(&index, T0).await.unwrap(), ["session_a"]);
        assert_eq!(index.count(&env(), &ListFilter::default(), T0).await.unwrap(), 1);
        assert!(index.tags(&env(), "", 9).await.unwrap().is_empty());
        assert_eq!((index.as_of().await.unwrap(), index.tip().await.unwrap()), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_environment_that_is_not_known_the_database_answers() {
    let worker = Worker::start().await;
    let index = worker.index();
    worker.sessions.upsert(new_session("a", None), T0).await.unwrap();
    worker.store_noted(|_| true).await;
    sqlx::query("DELETE FROM environment").execute(&worker.pool).await.unwrap();
    assert_eq!(page(&index, T0).await.unwrap(), ["session_a"]);
    assert_eq!(index.count(&env(), &ListFilter::default(), T0).await.unwrap(), 1);
}

/// Lists go on; counts and tags say that they cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_far_behind_lists_and_does_not_count() {
    let worker = Worker::start().await;
    let index = worker.index();
    worker.sessions.upsert(new_session("a", None), T0).await.unwrap();
    let note = "INSERT INTO session_change SELECT i, 'session_' || i, $1, 0 FROM generate_series(1, $2) AS s(i)";
    let note = sqlx::query(note).bind(env().to_string());
    note.bind(i64::from(NOTED_SESSIONS_MAX) - 1).execute(&worker.pool).await.unwrap();
    assert_eq!(index.count(&env(), &ListFilter::default(), T0).await.unwrap(), 1, "as many as it can do with");
    assert!(index.tags(&env(), "", 9).await.unwrap().is_empty());
    worker.sessions.upsert(new_session("b", None), T0).await.unwrap();
    assert!(is_unavailable(&index).await);
    assert_eq!(page(&index, T0).await.unwrap(), ["session_b", "session_a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_it_is_up_is_below_the_oldest_row_it_refused() {
    let worker = Worker::start().await;
    let nothing = IndexPosition { epoch: 1, lsn: 0 };
    assert_eq!(worker.index().as_of().await.unwrap(), Some(nothing), "without a slot nothing is sure");
    let before = worker.index().tip().await.unwrap().unwrap();
    let slot = worker.make_slot().await;
    let rows = worker.rows_of_slot(&slot);
    let up_to = rows.state().await.unwrap().as_of;
    assert!(up_to >= before && up_to <= rows.tip().await.unwrap(), "{before} {up_to}");
    let park = "INSERT INTO session_parked \
                (slot_name, session_id, version, index_row, error, attempts, parked_at_ms, retry_at_ms) \
                VALUES ($1, $2, $3, '{}', '', 1, 0, 0)";
    for (session, lsn, as_of) in [("a", up_to.lsn + 9, up_to.lsn), ("b", 8, 7), ("c", 9, 7)] {
        let version = IndexPosition { epoch: 1, lsn }.version().cast_signed();
        sqlx::query(park).bind(&slot).bind(session).bind(version).execute(&worker.pool).await.unwrap();
        assert_eq!(rows.state().await.unwrap().as_of, IndexPosition { epoch: 1, lsn: as_of });
    }
    sqlx::query("SELECT pg_drop_replication_slot($1)").bind(&slot).execute(&worker.pool).await.unwrap();
    assert_eq!(rows.state().await.unwrap().as_of, nothing);
}
