//! The disk's own limit: one durable write of 512 B into blocks that were written before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const BLOCKS: usize = 2_000;

/// Samples of write + fdatasync.
pub(crate) fn syncs() -> Vec<Duration> {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("block")).unwrap();
    file.write_all_at(&vec![0; BLOCKS * 512], 0).unwrap();
    file.sync_all().unwrap();
    let write = |i: usize| {
        let began = Instant::now();
        file.write_all_at(&[1; 512], (i * 512) as u64).unwrap();
        file.sync_data().unwrap();
        began.elapsed()
    };
    (0..BLOCKS).map(write).collect()
}
