//! What a client of the whole server sees, with the disk's own figures from the same run beside it.
//!
//! `cargo bench --bench server -- [delivery] [direct] [settled] [replay] [idle] [--sessions N]`; without a name all of these, and
//! `-- replicas` and `-- replication`, which want services beside them, by their names only. Every figure is a
//! ratio or a difference to something measured in the same minute on the same disk. (`cargo test --bench server` runs it at a
//! hundredth of the size, to see that it works.)

#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

mod delivery;
mod direct;
mod disk;
mod idle;
mod replay;
mod replicas;
mod replication;
mod settled;

use std::env;
use std::time::Duration;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let sessions =
        arguments.iter().position(|a| a == "--sessions").map_or(sized(100_000), |i| arguments[i + 1].parse().unwrap());
    let named = |name: &str| {
        arguments.iter().any(|a| a == name)
            || !arguments.iter().any(|a| !a.starts_with('-') && a.parse::<u64>().is_err())
    };
    if named("delivery") {
        delivery::run().await;
    }
    if named("direct") {
        direct::run().await;
    }
    if named("settled") {
        settled::run().await;
    }
    if named("replay") {
        replay::run().await;
    }
    // Only by their names: they want the services of the cluster.
    if arguments.iter().any(|a| a == "replicas") {
        replicas::run().await;
    }
    if arguments.iter().any(|a| a == "replication") {
        replication::run().await;
    }
    if named("idle") {
        idle::run(sessions).await;
    }
}

/// So many in a measurement; a hundredth of it when `cargo test` runs the benchmark to see that it works.
fn sized(full: usize) -> usize {
    let is_measurement = env::args().any(|a| a == "--bench");
    if is_measurement { full } else { full / 100 }
}

/// The value below which so many percent of the samples lie.
fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
