//! Durable appends per second, next to the bare loop.

use crate::{BODY_BYTES, key, ms, one, open_log, percentile, runtime, temp_dir};
use continuo_embedded_log::EmbeddedLog;
use continuo_ports::ChannelStore;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 64;
const ROUND: Duration = Duration::from_millis(250);
const BARE_FILE_BYTES: u64 = 64 << 20;

pub(crate) fn run(length: Duration) {
    let dir = temp_dir();
    let bare_file = prefilled(&dir.path().join("bare"));
    let log = Arc::new(open_log(&dir.path().join("log")));
    let runtime = runtime();
    let (mut appends, mut syncs, mut bare_records, mut spent, mut bare_spent) = (Vec::new(), Vec::new(), 0.0, 0.0, 0.0);
    let mut debt_max = 0;
    // The first round warms up: its batch size is used, its figures are not.
    let mut warm = false;
    let mut left = length;
    while !left.is_zero() || !warm {
        let before = log.stats();
        let started = Instant::now();
        let round = runtime.block_on(write(&log, if warm { left } else { ROUND }.min(ROUND)));
        let took = started.elapsed().as_secs_f64();
        let after = log.stats();
        debt_max = debt_max.max(after.unindexed_bytes);
        let batches = (after.position - before.position).max(1);
        let (batch_bytes, batch_records) =
            ((after.bytes - before.bytes) / batches, (after.records - before.records) as f64 / batches as f64);
        let (bare, bare_took) = bare_loop(&bare_file, batch_bytes as usize, if warm { left } else { ROUND }.min(ROUND));
        if !warm {
            warm = true;
            continue;
        }
        left = left.saturating_sub(ROUND);
        spent += took;
        bare_spent += bare_took;
        bare_records += bare.len() as f64 * batch_records;
        appends.extend(round);
        syncs.extend(bare);
        if left.as_millis().is_multiple_of(10_000) {
            println!(
                "  … {} s left, {:.0}/s, batches of {batch_records:.1}, debt {} MiB, {} segments",
                left.as_secs(),
                appends.len() as f64 / spent,
                after.unindexed_bytes >> 20,
                after.segments
            );
        }
    }
    let small = bare_loop(&bare_file, BODY_BYTES, ROUND).0;
    report(appends, spent, syncs, bare_records / bare_spent, small, debt_max);
    log.close().expect("the log closes");
}

fn report(
    mut appends: Vec<Duration>,
    spent: f64,
    mut syncs: Vec<Duration>,
    bare: f64,
    mut small: Vec<Duration>,
    debt_max: u64,
) {
    for times in [&mut appends, &mut syncs, &mut small] {
        times.sort_unstable();
    }
    let rate = appends.len() as f64 / spent;
    let (p50, p99) = (percentile(&appends, 0.5), percentile(&appends, 0.99));
    let (sync_p50, sync_p99) = (percentile(&syncs, 0.5), percentile(&syncs, 0.99));
    println!("append, {WRITERS} writers, {BODY_BYTES} B, {spent:.0} s");
    println!("  log        {rate:>9.0}/s   p50 {:.3} ms  p99 {:.3} ms", ms(p50), ms(p99));
    println!("  bare loop  {bare:>9.0}/s   p50 {:.3} ms  p99 {:.3} ms per batch", ms(sync_p50), ms(sync_p99));
    println!(
        "  disk, 512 B sync  p50 {:.3} ms  p99 {:.3} ms",
        ms(percentile(&small, 0.5)),
        ms(percentile(&small, 0.99))
    );
    println!("  ratio log / bare        {:.2}   (wanted: at least 0.7)", rate / bare);
    println!("  p99 / p50 of the sync   {:.1}   (wanted: below 8)", ms(p99) / ms(sync_p50));
    println!("  most debt seen          {} MiB", debt_max >> 20);
}

/// All writers write as fast as they are answered.
async fn write(log: &Arc<EmbeddedLog>, length: Duration) -> Vec<Duration> {
    let over = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|n| {
        let (log, over, key) = (log.clone(), over.clone(), key(n));
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(8_192);
            while !over.load(Ordering::Relaxed) {
                let started = Instant::now();
                log.append(&key, one()).await.expect("an append");
                times.push(started.elapsed());
            }
            times
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::sleep(length).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.expect("a writer"));
    }
    all
}

/// One thread that writes and syncs, round and round in one file.
fn bare_loop(file: &File, bytes: usize, length: Duration) -> (Vec<Duration>, f64) {
    let batch = vec![b'y'; bytes];
    let (mut offset, mut times, started) = (0, Vec::new(), Instant::now());
    while started.elapsed() < length {
        if offset + bytes as u64 > BARE_FILE_BYTES {
            offset = 0;
        }
        let before = Instant::now();
        file.write_all_at(&batch, offset).expect("a write");
        file.sync_data().expect("a sync");
        times.push(before.elapsed());
        offset += bytes as u64;
    }
    (times, started.elapsed().as_secs_f64())
}

fn prefilled(path: &std::path::Path) -> File {
    let file = File::create(path).expect("a file");
    let zeros = vec![0; 1 << 20];
    for at in (0..BARE_FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("a write");
    }
    file.sync_all().expect("a sync");
    file
}
