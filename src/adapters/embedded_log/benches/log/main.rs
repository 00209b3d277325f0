//! What the log costs next to what the disk can do, in one run: `cargo bench -p continuo-embedded-log -- --secs 5`.
//! (`cargo test --bench log` runs it at a hundredth of the size.)
//!
//! * *append*: 64 writers of 512-byte records, against a bare loop that writes and syncs batches of the same size to a
//!   file whose blocks were written before. Both in turn, a quarter of a second each, so that the machine's moods hit both alike.
//! * *replay*: 100 000 records of 512 bytes of one stream, after a restart; alone in the log and mixed with nine others.
//! * *open*: 100 000 streams of one record; time to open and resident memory of a fresh process, after a clean end and
//!   after none.

mod append;
mod open;
mod replay;

use continuo_domain::SessionId;
use continuo_domain::Timestamp;
use continuo_domain::channel::{Append, ChannelKey, Direction, NewRecord};
use continuo_embedded_log::{EmbeddedLog, Options};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of every record's body.
const BODY_BYTES: usize = 512;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["open-child", dir] = args[..] {
        return open::child(Path::new(dir));
    }
    let secs = match args[..] {
        ["--secs", secs, ..] => secs.parse().expect("--secs takes a number"),
        _ => 5,
    };
    let only = args.iter().skip_while(|arg| **arg != "--only").nth(1).copied();
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted("append") {
        append::run(if is_measurement() { Duration::from_secs(secs) } else { Duration::from_millis(500) });
    }
    if wanted("replay") {
        replay::run();
    }
    if wanted("open") {
        open::run();
    }
}

/// So many in a measurement; a hundredth of it when `cargo test` runs the benchmark to see that it works.
fn sized(full: usize) -> usize {
    if is_measurement() { full } else { full / 100 }
}

/// `cargo bench` says so; the part it starts as a process of its own is told the same.
fn is_measurement() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    Timestamp(since.as_millis() as i64)
}

fn open_log(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(Options::new(dir, now)).expect("the log opens")
}

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory beside the build")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn key(n: usize) -> ChannelKey {
    ChannelKey::reserved(SessionId::from_body(&format!("{n:026}")), Direction::In)
}

fn record() -> NewRecord {
    NewRecord::data(vec![b'x'; BODY_BYTES])
}

fn one() -> Append {
    Append::one(record())
}

/// The value below which `part` of them lie.
fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
