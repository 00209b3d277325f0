//! The list index in ClickHouse: how fast the worker drains the log of Postgres, how soon a commit is seen, and what a page costs
//! beside the same page from Postgres' own index.
//!
//! `cargo bench --bench server -- replication [--rows 1000000]`, after `eval "$(tests/services up)"`; with
//! `CONTINUO_SERVICES_DURABLE=1` before `up` Postgres syncs what it commits. A line says whether it did.

mod pages;
mod side;

use crate::support::process::ServerProcess;
use crate::{ms, percentile, sized};
use side::{Side, Sides};
use std::env;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Rows of one transaction that fills the log.
const TRANSACTION_ROWS: usize = 1_000;
/// Between two looks at ClickHouse while its rows are counted.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks for single rows; a sample is late by half of it.
const WATCH_EVERY: Duration = Duration::from_millis(4);
const ROWS_PER_SECOND: usize = 100;
const GIVE_UP_AFTER: Duration = Duration::from_secs(900);

pub(crate) async fn run() {
    let rows = rows();
    let sides = Sides::new(rows).await;
    println!("replication of sessions into ClickHouse; Postgres with fsync={}", sides.fsync().await);
    let template = prepare(&sides).await;
    let server = drain(&sides, &template, rows).await;
    freshness(&sides, &template).await;
    pages::measure(&sides, server, rows).await;
    sides.remove().await;
}

fn rows() -> usize {
    let arguments: Vec<String> = env::args().collect();
    let told = arguments.iter().position(|argument| argument == "--rows");
    told.map_or_else(|| sized(1_000_000), |place| arguments[place + 1].parse().unwrap())
}

/// Makes slot and index, and a session that every other one is a copy of.
async fn prepare(sides: &Sides) -> String {
    let server = sides.start(Side::ClickHouse).await;
    let template = sides.client(&server).await.create(Some("template")).await.session.unwrap().id;
    sides.until_complete().await;
    sides.until_stored(1).await;
    server.stop().await;
    template
}

/// Commits rows while nobody follows; then a server starts and has to catch up.
async fn drain(sides: &Sides, template: &str, rows: usize) -> ServerProcess {
    let idle = sides.start(Side::Postgres).await;
    let without = rss_mib(&idle, "VmHWM:");
    idle.stop().await;
    let began = Instant::now();
    for first in (0..rows).step_by(TRANSACTION_ROWS) {
        sides.insert(template, first, rows.min(first + TRANSACTION_ROWS)).await;
    }
    println!("  {rows} rows committed in transactions of {TRANSACTION_ROWS}, at {:.0}/s", per_second(rows, began));
    let log = sides.waiting_bytes().await;
    let server = sides.start(Side::ClickHouse).await;
    let began = Instant::now();
    let first_at = until_more_than(sides, 1).await;
    let after_first = Instant::now();
    sides.until_stored(rows as u64 + 1).await;
    let drained = began.elapsed();
    sides.until_acknowledged().await;
    println!(
        "  drained {:.0} MiB of log at {:.0} rows/s (wanted: 15000), from ready to the last row in {:.1} s, of which {:.1} s to the first; \
         {:.0} rows/s from then on",
        log as f64 / 1_048_576.0,
        rows as f64 / drained.as_secs_f64(),
        drained.as_secs_f64(),
        first_at.as_secs_f64(),
        per_second(rows, after_first),
    );
    println!(
        "  memory of the whole server: peak {} MiB, peak of one that does not replicate {without} MiB (wanted: less than 64 MiB apart)",
        rss_mib(&server, "VmHWM:"),
    );
    server
}

async fn until_more_than(sides: &Sides, stored: u64) -> Duration {
    let began = Instant::now();
    while sides.stored().await <= stored {
        assert!(began.elapsed() < GIVE_UP_AFTER, "nothing is stored after {:?}", began.elapsed());
        sleep(LOOK_EVERY).await;
    }
    began.elapsed()
}

/// One row at a time, so many in a second: from the end of its commit until ClickHouse shows it.
async fn freshness(sides: &Sides, template: &str) {
    let rows = sized(2_000);
    let mut clock = interval(Duration::from_secs(1) / ROWS_PER_SECOND as u32);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = tokio::spawn(sides.watcher().until_seen(rows, WATCH_EVERY, GIVE_UP_AFTER));
    let mut committed = Vec::with_capacity(rows);
    for number in 0..rows {
        clock.tick().await;
        let id = sides.insert_fresh(template, number).await;
        committed.push((id, Instant::now()));
    }
    let seen = watching.await.unwrap();
    let mut samples: Vec<_> = committed.iter().map(|(id, at)| seen[id].saturating_duration_since(*at)).collect();
    println!(
        "  commit to visible at {ROWS_PER_SECOND} rows/s, {rows} rows, looked for every {} ms: p50 {:.0} ms (wanted: 80), p99 {:.0} ms \
         (wanted: 150)",
        WATCH_EVERY.as_millis(),
        ms(percentile(&mut samples, 50)),
        ms(percentile(&mut samples, 99)),
    );
}

fn per_second(rows: usize, since: Instant) -> f64 {
    rows as f64 / since.elapsed().as_secs_f64()
}

/// A field of the process, in MiB: `VmHWM:` is the most that it ever held.
fn rss_mib(server: &ServerProcess, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}
