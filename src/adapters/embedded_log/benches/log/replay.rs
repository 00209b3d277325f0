//! Reading a cold stream from begin to end.

use crate::{BODY_BYTES, key, open_log, record, runtime, sized, temp_dir};
use continuo_domain::channel::{Append, ReadFrom};
use continuo_ports::{ChannelStore, ReadEvent};
use futures_util::StreamExt;
use std::time::Instant;

/// Records of the stream that is replayed.
fn record_count() -> usize {
    sized(100_000)
}

pub(crate) fn run() {
    for (streams, per_append, name) in [(1, 1_000, "alone"), (10, 10, "mixed with nine others, 10 records at a time")] {
        let dir = temp_dir();
        let runtime = runtime();
        let log = open_log(dir.path());
        runtime.block_on(async {
            for _ in 0..record_count() / per_append {
                let append = || Append { records: vec![record(); per_append], ..Append::default() };
                let appends = (0..streams).map(|n| {
                    let (log, key, append) = (&log, key(n), append());
                    async move { log.append(&key, append).await }
                });
                for done in futures_util::future::join_all(appends).await {
                    done.expect("an append");
                }
            }
        });
        log.close().expect("the log closes");
        drop(log);
        let log = open_log(dir.path());
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let started = Instant::now();
            let seen = runtime.block_on(async {
                let mut events = log.follow(&key(0), ReadFrom::seq_num(0)).await.expect("a follower");
                let mut seen = 0;
                while let Some(Ok(ReadEvent::Records(records))) = events.next().await {
                    seen += records.len();
                }
                seen
            });
            assert_eq!(seen, record_count());
            best = best.min(started.elapsed().as_secs_f64());
        }
        let megabytes = (record_count() * BODY_BYTES) as f64 / 1e6;
        println!("replay of {} x {BODY_BYTES} B, {name}", record_count());
        println!(
            "  {:.0} MB/s, {:.2} M records/s   (wanted, alone: at least 500 MB/s)",
            megabytes / best,
            record_count() as f64 / best / 1e6
        );
    }
}
