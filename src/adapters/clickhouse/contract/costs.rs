//! What a page costs: rounds, and what of the table is read.

use super::interleaved::{Moment, active, index};
use super::new_sessions::*;
use super::worker::{Worker, row_of};
use crate::SessionRow;
use crate::conditions::{Bound, Scope};
use crate::questions::Versions;
use continuo_domain::session::{ListFilter, PageFrom, Session};
use continuo_domain::{SessionId, Timestamp};
use continuo_ports::SessionIndex;
use continuo_ports::indexed_rows::ListOrder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Rows of sessions that the database does not have, above all others.
fn ghosts(count: u32, is_deleted: bool) -> Vec<SessionRow> {
    let ghost = |i| {
        let session = Session::new(new_session(&format!("ghost{i:05}"), None), after(1_000 + u64::from(i)));
        SessionRow { _is_deleted: is_deleted.into(), ..row_of(session, 1 + u64::from(is_deleted)) }
    };
    (0..count).map(ghost).collect()
}

/// A page of two, and how often the truth was asked for it.
async fn page_of_two(worker: &Worker) -> (Vec<String>, bool, u32) {
    let rounds = Arc::new(AtomicU32::new(0));
    let counted = rounds.clone();
    let index = index(worker, Moment::BeforeTheTruth, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    });
    let page = index.list(&env(), &active(), &PageFrom::Start, 2, T0).await.unwrap();
    let ids = page.sessions.iter().map(|session| session.id.to_string()).collect();
    (ids, page.has_older, rounds.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_takes_one_round_and_few_where_much_is_refused() {
    let worker = Worker::start().await;
    for body in ["a", "b", "c"] {
        worker.sessions.upsert(new_session(body, None), T0).await.unwrap();
    }
    worker.store_noted(|_| true).await;
    let expected = || (vec!["session_c".to_owned(), "session_b".to_owned()], true);
    let of = |(ids, has_older, rounds)| ((ids, has_older), rounds);
    assert_eq!(of(page_of_two(&worker).await), (expected(), 1));
    worker.insert(&ghosts(16, false)).await;
    assert_eq!(of(page_of_two(&worker).await), (expected(), 1), "a few cost nothing");
    worker.insert(&ghosts(150, false)).await;
    assert_eq!(of(page_of_two(&worker).await), (expected(), 2));
    // As after a mass deletion: the older versions are there until they are merged away.
    worker.insert(&ghosts(9_000, false)).await;
    assert_eq!(of(page_of_two(&worker).await), (expected(), 5), "that nobody deleted: as far as the index is behind");
    worker.insert(&ghosts(9_000, true)).await;
    assert_eq!(of(page_of_two(&worker).await), (expected(), 4), "the fourth looks at newest versions only");
    worker.merge().await;
    assert_eq!(of(page_of_two(&worker).await), (expected(), 1));
}

/// What the server says it would do for a page.
async fn plan(worker: &Worker, filter: &ListFilter, bound: Option<&Bound>) -> String {
    let tenant = worker.rows.tenant(&env()).await.unwrap().unwrap();
    let environment = env();
    let scope = Scope { tenant, environment: &environment, filter, now: T0 };
    let query = worker.clickhouse.candidates_query(&scope, ListOrder::NewestFirst, bound, Versions::Any, 42);
    let explain = format!("EXPLAIN indexes = 1 {}", query.sql_display());
    let lines: Vec<String> = worker.clickhouse.client.query_raw(&explain).fetch_all().await.unwrap();
    lines.iter().map(|line| line.trim_matches([' ', '│', '└', '─'])).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_a_range_of_the_order_key_and_names_and_tags_have_indexes() {
    let worker = Worker::start().await;
    worker.insert(&ghosts(9, false)).await;
    let deep = Bound { created_at: after(1_005), id: SessionId::from_body("x"), is_inclusive: false };
    let all = plan(&worker, &ListFilter::default(), Some(&deep)).await;
    assert!(all.contains("Read type: InReverseOrder"), "{all}");
    let key = all.split_once("PrimaryKey").unwrap().1;
    for range in
        ["organization_id in [", "project_id in [", "environment_id in [", "created_at in (-Inf, '1700000001.005'])"]
    {
        assert!(key.contains(range), "{range}: {all}");
    }
    let past = Bound { created_at: Timestamp(0), id: SessionId::from_body("x"), is_inclusive: false };
    let none = plan(&worker, &ListFilter::default(), Some(&past)).await;
    assert!(none.contains("Parts: 0/1"), "a month is a partition: {none}");
    let tagged = ListFilter { tags: vec!["never".into(), "nowhere".into()], ..ListFilter::default() };
    let named = ListFilter { external_id: Some("nobody".into()), ..ListFilter::default() };
    for (filter, names) in [(tagged, vec!["tags_words", "tags_whole"]), (named, vec!["external_id_whole"])] {
        let plan = plan(&worker, &filter, None).await;
        assert!(names.iter().any(|name| plan.contains(&format!("Name: {name}"))), "{plan}");
        assert!(plan.contains("Granules: 0/1"), "nothing of the table is read: {plan}");
    }
}
