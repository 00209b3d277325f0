//! Opening a log with many streams, in a process of its own so that its memory can be seen.

use crate::{is_measurement, key, one, open_log, runtime, sized, temp_dir};
use continuo_domain::Result;
use continuo_domain::channel::ReadFrom;
use continuo_embedded_log::EmbeddedLog;
use continuo_ports::{ChannelStore, ReadEvent};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const WRITERS: usize = 256;

fn stream_count() -> usize {
    sized(100_000)
}

fn follower_count() -> usize {
    sized(10_000)
}

pub(crate) fn run() {
    let dir = temp_dir();
    let log = open_log(dir.path());
    let started = Instant::now();
    runtime().block_on(async {
        futures_util::future::join_all((0..WRITERS).map(|writer| {
            let log = &log;
            async move {
                for n in (writer..stream_count()).step_by(WRITERS) {
                    log.append(&key(n), one()).await.expect("an append");
                }
            }
        }))
        .await;
    });
    println!("open with {} streams, written in {:.1} s", stream_count(), started.elapsed().as_secs_f64());
    // Without a clean end: the child recovers.
    drop(log);
    open_in_child(dir.path(), "after a crash  ");
    open_in_child(dir.path(), "after a close  ");
}

fn open_in_child(dir: &Path, name: &str) {
    let own = std::env::current_exe().expect("a path");
    let child = Command::new(own)
        .arg("open-child")
        .arg(dir)
        .args(is_measurement().then_some("--bench"))
        .output()
        .expect("a child");
    print!("  {name}{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
}

/// Opens, looks at some streams, reports, and ends cleanly.
pub(crate) fn child(dir: &Path) {
    let started = Instant::now();
    let log = open_log(dir);
    let opened = started.elapsed();
    log.checkpoint().expect("a checkpoint");
    let idle = resident_mib("VmRSS:");
    let runtime = runtime();
    let started = Instant::now();
    runtime.block_on(async {
        for n in (0..stream_count()).step_by(97) {
            let (records, _) = log.read(&key(n), ReadFrom::seq_num(0)).await.expect("a read");
            assert_eq!(records.len(), 1);
        }
    });
    let per_read = started.elapsed() / (stream_count() / 97) as u32;
    println!(
        "ready in {:.2} s, {idle} MiB resident, {} MiB after 1 031 cold reads of {per_read:.0?} each, {} MiB at most, {} streams in memory   (wanted: well under 2 s, 150 MiB)",
        opened.as_secs_f64(),
        resident_mib("VmRSS:"),
        resident_mib("VmHWM:"),
        log.stats().hot_streams,
    );
    let before = resident_mib("VmRSS:");
    let followers = runtime.block_on(idle_followers(&log));
    let kib = (resident_mib("VmRSS:") - before) as f64 * 1_024.0 / followers.len() as f64;
    println!("                   {} idle followers, each of its own stream: {kib:.2} KiB each", followers.len());
    drop(followers);
    log.close().expect("the log closes");
}

async fn idle_followers(log: &EmbeddedLog) -> Vec<BoxStream<'static, Result<ReadEvent>>> {
    let mut followers = Vec::with_capacity(follower_count());
    for n in 0..follower_count() {
        let mut events = log.follow(&key(n), ReadFrom::seq_num(1)).await.expect("a follower");
        assert!(matches!(events.next().await, Some(Ok(ReadEvent::CaughtUp(_)))));
        assert!(events.next().now_or_never().is_none());
        followers.push(events);
    }
    followers
}

/// Zero where there is no /proc.
fn resident_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1_024
}
