//! Pages of a list, by every filter, from ClickHouse and from Postgres' own index.

use super::side::{Side, Sides};
use crate::support::Client;
use crate::support::process::ServerProcess;
use crate::{ms, percentile, sized};
use continuo_proto::v1::{ListSessionsRequest, SessionFilter, SessionStatus};
use prost_types::Timestamp;
use std::time::{Duration, Instant};

const PAGE_SIZE: i32 = 25;
/// A page that takes long is not asked for so often: after this, what there is has to do.
const ASK_WITHIN: Duration = Duration::from_secs(3);
const SAMPLES_MIN: usize = 4;

/// What a page is asked for.
struct Ask {
    what: &'static str,
    filter: SessionFilter,
    is_deep: bool,
}

struct Answered {
    what: &'static str,
    rows: usize,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) async fn measure(sides: &Sides, server: ServerProcess, rows: usize) {
    let pages = sized(400).max(SAMPLES_MIN);
    let (drained, merged) = sides.until_merged().await;
    println!("  the drain left {drained} parts in ClickHouse, which merged them to {merged}");
    sides.analyze().await;
    let from_index = ask_all(sides, &server, rows, pages).await;
    server.stop().await;
    sides.index_in_postgres().await;
    let server = sides.start(Side::Postgres).await;
    let from_postgres = ask_all(sides, &server, rows, pages).await;
    server.stop().await;
    println!(
        "  pages of {PAGE_SIZE} over {rows} sessions, at most {pages} of each, through the server (wanted of ClickHouse: p50 60 ms, p99 250 ms)"
    );
    for (index, postgres) in from_index.iter().zip(&from_postgres) {
        println!(
            "    {:<38} {:>2} rows: ClickHouse p50 {:>6.1} ms, p99 {:>6.1} ms; Postgres p50 {:>7.1} ms, p99 {:>7.1} ms; ratio {:.2}",
            index.what,
            index.rows,
            index.p50_ms,
            index.p99_ms,
            postgres.p50_ms,
            postgres.p99_ms,
            index.p50_ms / postgres.p50_ms,
        );
        assert_eq!(index.rows, postgres.rows, "both say the same of {}", index.what);
    }
}

async fn ask_all(sides: &Sides, server: &ServerProcess, rows: usize, pages: usize) -> Vec<Answered> {
    let client = sides.client(server).await;
    let middle = deep_token(&client, sides.first_ms()).await;
    let mut answered = Vec::new();
    for ask in asks(sides, rows) {
        let page_token = if ask.is_deep { middle.clone() } else { String::new() };
        let request =
            ListSessionsRequest { filter: Some(ask.filter), page_size: PAGE_SIZE, page_token, ..Default::default() };
        // The first of each reads what nobody has read before.
        let rows = page(&client, &request).await.0;
        let (began, mut samples) = (Instant::now(), Vec::with_capacity(pages));
        while samples.len() < pages && (samples.len() < SAMPLES_MIN || began.elapsed() < ASK_WITHIN) {
            samples.push(page(&client, &request).await.1);
        }
        let (p50_ms, p99_ms) = (ms(percentile(&mut samples, 50)), ms(percentile(&mut samples, 99)));
        answered.push(Answered { what: ask.what, rows, p50_ms, p99_ms });
    }
    answered
}

async fn page(client: &Client, request: &ListSessionsRequest) -> (usize, Duration) {
    let began = Instant::now();
    let answer = client.sessions.clone().list_sessions(request.clone()).await.unwrap().into_inner();
    (answer.sessions.len(), began.elapsed())
}

/// The place after the first page of what was made before the middle of all that there is.
async fn deep_token(client: &Client, first_ms: i64) -> String {
    let filter = SessionFilter { created_to: Some(at(first_ms + DEEP_MS)), ..Default::default() };
    let request = ListSessionsRequest { filter: Some(filter), page_size: PAGE_SIZE, ..Default::default() };
    client.sessions.clone().list_sessions(request).await.unwrap().into_inner().next_page_token
}

/// A tenth of all sessions of a full run are older.
const DEEP_MS: i64 = 9 * 86_400_000;

fn asks(sides: &Sides, rows: usize) -> Vec<Ask> {
    let first = |what, filter| Ask { what, filter, is_deep: false };
    let deep = |what, filter| Ask { what, filter, is_deep: true };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let none = SessionFilter::default;
    let tags = |names: &[&str]| SessionFilter { tags: texts(names), ..none() };
    let statuses = |status: SessionStatus| SessionFilter { statuses: vec![status as i32], ..none() };
    vec![
        first("everything", none()),
        deep("everything, deep", none()),
        first("tag of 1 in 2", tags(&["often"])),
        first("tag of 1 in 100", tags(&["rare"])),
        deep("tag of 1 in 100, deep", tags(&["rare"])),
        first("tag of 1 in 10000", tags(&["user-7"])),
        deep("tag of 1 in 10000, deep", tags(&["user-7"])),
        first("tag that nothing has", tags(&["nobody"])),
        first("any of two tags", tags(&["rare", "user-8"])),
        first("type of 1 in 10", SessionFilter { types: texts(&["type-3"]), ..none() }),
        deep("type of 1 in 10, deep", SessionFilter { types: texts(&["type-3"]), ..none() }),
        first("task of 1 in 20", SessionFilter { task_identifiers: texts(&["task-5"]), ..none() }),
        first("external id", SessionFilter { external_id: Some(format!("bench-{}", rows / 2)), ..none() }),
        first("status ACTIVE", statuses(SessionStatus::Active)),
        first("status CLOSED", statuses(SessionStatus::Closed)),
        deep("status EXPIRED, deep", statuses(SessionStatus::Expired)),
        first("created before a tenth", SessionFilter { created_to: Some(at(sides.first_ms() + DEEP_MS)), ..none() }),
        first(
            "type, task, tag and status",
            SessionFilter {
                types: texts(&["type-7"]),
                task_identifiers: texts(&["task-7"]),
                tags: texts(&["rare"]),
                statuses: vec![SessionStatus::Active as i32],
                ..none()
            },
        ),
    ]
}

fn at(ms: i64) -> Timestamp {
    Timestamp { seconds: ms / 1_000, nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap() }
}
