//! Opening, closing and watching a log.

use crate::acknowledger;
use crate::committer::{BATCH_BYTES_MAX, Committer};
use crate::failure;
use crate::index::Index;
use crate::intake::Work;
use crate::recovery::{Recovered, recover};
use crate::segment::{SEGMENT_HEADER_BYTES, sync_dir};
use crate::segments::Named;
use crate::segments::{Segments, list};
use crate::shared::{Clock, Shared, Tuning};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Timestamp};
use parking_lot::Mutex;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Size of a segment unless set otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment: one largest batch fits.
pub const SEGMENT_BYTES_MIN: u64 = BATCH_BYTES_MAX as u64 + SEGMENT_HEADER_BYTES;
/// Largest segment: places in it are 32-bit numbers.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;

/// How a log is opened.
#[derive(Clone)]
pub struct Options {
    /// Where the log lives. Made if it is not there; used by one process at a time.
    pub dir: PathBuf,
    /// Size of a segment file, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`]. Stays as the log was made with.
    pub segment_bytes: u64,
    /// The time. The log never lets it fall within a channel.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) tuning: Tuning,
}

impl Options {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let clock: Clock = Arc::new(clock);
        Self { dir: dir.into(), segment_bytes: SEGMENT_BYTES_DEFAULT, clock, tuning: Tuning::default() }
    }
}

/// A channel log in one directory. Dropping it stops its threads without more ado, as a crash would; [`Self::close`]
/// leaves nothing to recover.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    acknowledger: Option<JoinHandle<()>>,
    indexer: Option<JoinHandle<()>>,
    preparer: Option<JoinHandle<()>>,
    /// Held while the log may write.
    lock: Option<File>,
}

/// Figures of a running log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments with records.
    pub segments: usize,
    /// Segments made ahead.
    pub segments_ready: usize,
    /// Segments that wait to be used again.
    pub segments_free: usize,
    /// Bytes of the log that are not indexed yet: what recovery would replay.
    pub unindexed_bytes: u64,
    /// Streams in memory.
    pub hot_streams: usize,
    /// Records appended since the log was opened.
    pub records: u64,
    /// Bytes written to the log since it was opened.
    pub bytes: u64,
    /// See [`EmbeddedLog::position`].
    pub position: u64,
    /// False once a write has failed: the log can be read, and takes appends again after it was opened anew.
    pub takes_appends: bool,
}

impl EmbeddedLog {
    /// Opens or makes a log. Waits for the disk; recovery replays at most a few segments.
    pub fn open(options: Options) -> Result<Self> {
        let Options { dir, segment_bytes, clock, tuning } = options;
        check_segment_bytes(segment_bytes, &tuning)?;
        let segments_dir = dir.join("segments");
        std::fs::create_dir_all(&segments_dir).map_err(failure::file("make", &segments_dir))?;
        let lock = lock(&dir)?;
        let index = Index::open(&dir.join("index"))?;
        sync_names(&dir)?;
        let last_generation = last_generation(&segments_dir)?.max(index.progress()?.last_generation);
        let segments = Segments::new(segments_dir, segment_bytes, last_generation);
        let shared = Arc::new(Shared::new(clock, index, segments, tuning));
        let Recovered { head, indexer } = recover(&shared)?;
        let position = shared.counters.position.load(Ordering::Relaxed);
        tracing::info!(dir = %dir.display(), position, replayed_bytes = head.log_bytes, "the channel log is open");

        let mut threads = Threads { lock: Some(lock), ..Threads::default() };
        let (finished, to_answer) = mpsc::channel();
        let committer = Committer::new(shared.clone(), head, finished);
        let preparing = shared.clone();
        threads.preparer = Some(spawn("log-preparer", move || preparing.segments.keep_stocked())?);
        threads.indexer = Some(spawn("log-indexer", move || indexer.run())?);
        threads.acknowledger = Some(spawn("log-acknowledger", move || acknowledger::run(&to_answer))?);
        threads.committer = Some(spawn("log-committer", move || committer.run())?);
        let log = Self { shared, threads: Mutex::new(threads) };
        // What was replayed goes to the index at once, so that memory holds no more than it must.
        log.shared.intake.push(Work::Checkpoint { done: mpsc::channel().0 })?;
        Ok(log)
    }

    /// Commits what waits, indexes it, and stops. Later calls answer `Stopping`; followers end with it. Waits for the
    /// disk; safe to call more than once.
    pub fn close(&self) -> Result<()> {
        let mut threads = self.threads.lock();
        // Refused if a write has failed: there is nothing more to commit then.
        drop(self.shared.intake.push(Work::Stop));
        join(threads.committer.take())?;
        join(threads.acknowledger.take())?;
        self.shared.checkpoints.finish();
        join(threads.indexer.take())?;
        let indexed = self.shared.checkpoints.wait_idle();
        self.shared.stop();
        self.shared.segments.stop();
        join(threads.preparer.take())?;
        threads.lock = None;
        indexed
    }

    /// Hands everything written so far to the index and waits for it. For tests and for a backup that should be small.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.index_everything()
    }

    /// Rises with every commit, also over restarts; two copies of one log compare by it. A database that remembers it
    /// can tell later that the log it was given is an older one.
    pub fn position(&self) -> u64 {
        self.shared.counters.position.load(Ordering::Acquire)
    }

    /// Figures for the metrics.
    pub fn stats(&self) -> Stats {
        let (segments, counters) = (self.shared.segments.counts(), &self.shared.counters);
        Stats {
            segments: segments.readable,
            segments_ready: segments.ready,
            segments_free: segments.free,
            unindexed_bytes: counters.unindexed_bytes.load(Ordering::Relaxed),
            hot_streams: self.shared.registry.len(),
            records: counters.records.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            position: self.position(),
            takes_appends: self.shared.intake.closed().is_none(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.checkpoints.abandon();
        self.shared.stop();
        self.shared.segments.stop();
        let threads = &mut *self.threads.lock();
        let all = [&mut threads.committer, &mut threads.acknowledger, &mut threads.indexer, &mut threads.preparer]
            .map(Option::take);
        for thread in all {
            // A thread that panicked has said so already.
            drop(join(thread));
        }
    }
}

fn check_segment_bytes(segment_bytes: u64, tuning: &Tuning) -> Result<()> {
    let fits = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) || tuning.small_segments;
    if fits { Ok(()) } else { Err(failure::unavailable(format!("segments of {segment_bytes} bytes are not possible"))) }
}

/// One process per directory. The lock goes with the process, also if it is killed.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(failure::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(failure::unavailable(format!(
            "the channel log in {} is in use by another process, and a log belongs to one at a time: stop that one, or give this \
             one another directory",
            dir.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => Err(failure::file("lock", &path)(e)),
    }
}

/// The entries of the directories that were just made are as much a part of the log as what lies in them.
fn sync_names(dir: &Path) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    [dir, parent].into_iter().try_for_each(|dir| sync_dir(dir).map_err(failure::file("sync", dir)))
}

fn last_generation(dir: &Path) -> Result<u64> {
    let files = list(dir)?;
    let generations = files.iter().filter_map(|(_, named)| match named {
        Named::Segment(_, generation) => Some(*generation),
        Named::Free | Named::Foreign => None,
    });
    Ok(generations.max().unwrap_or(0))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|e| Error::Unavailable(Cause::new(format!("start thread {name}: {e}"))))
}

fn join(thread: Option<JoinHandle<()>>) -> Result<()> {
    match thread.map(JoinHandle::join) {
        Some(Err(_)) => Err(Error::internal("a thread of the channel log panicked")),
        Some(Ok(())) | None => Ok(()),
    }
}
