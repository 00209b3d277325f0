//! What the threads of a log and its callers share.

use crate::checkpoint::Checkpoints;
use crate::committer::BATCH_BYTES_MAX;
use crate::index::Index;
use crate::intake::{INTAKE_BYTES_MAX, Intake, Work};
use crate::registry::Registry;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::segments::Segments;
use continuo_domain::{Error, Result, Timestamp};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::Semaphore;

/// The time, as the log asks for it.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything but the threads.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) registry: Arc<Registry>,
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    pub(crate) intake: Intake,
    pub(crate) intake_bytes: Arc<Semaphore>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) counters: Counters,
    pub(crate) tuning: Tuning,
    /// How often [`Tuning::stop_at`] was passed.
    passes: AtomicUsize,
    /// Followers end with `Stopping`.
    pub(crate) stopped: AtomicBool,
}

/// Figures for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) position: AtomicU64,
    pub(crate) unindexed_bytes: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// What only tests turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuning {
    /// The background work stops here, as if the process had died.
    pub(crate) stop_at: Option<Stop>,
    /// The sync of this batch fails.
    pub(crate) fail_sync_of_batch: Option<u64>,
    /// A checkpoint after every batch.
    pub(crate) checkpoint_every_batch: bool,
    /// Segments may be too small for the largest append.
    pub(crate) small_segments: bool,
}

/// Where the background work ends, and how often it passes there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) point: StopPoint,
    pub(crate) passes: usize,
}

/// Steps of the background work between which a crash leaves something to clean up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopPoint {
    /// A checkpoint is worked out; nothing of it is written.
    BeforeIndexCommit,
    /// The checkpoint is durable; memory does not know it and nothing is freed.
    AfterIndexCommit,
    /// Survivors are copied; the index still points to the old segments.
    AfterCompactionCopy,
    /// The index points to the copies; the old segments still have their names.
    AfterCompactionSwap,
}

impl Shared {
    pub(crate) fn new(clock: Clock, index: Index, segments: Segments, tuning: Tuning) -> Self {
        let room = usize::try_from(segments.segment_bytes() - SEGMENT_HEADER_BYTES).unwrap_or(usize::MAX);
        let batch_bytes_max = BATCH_BYTES_MAX.min(room);
        Self {
            clock,
            registry: Arc::default(),
            index,
            segments,
            intake: Intake::new(batch_bytes_max),
            intake_bytes: Arc::new(Semaphore::new(INTAKE_BYTES_MAX)),
            checkpoints: Checkpoints::default(),
            counters: Counters::default(),
            tuning,
            passes: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Is this where a test wants the background work to end?
    pub(crate) fn stops_at(&self, point: StopPoint) -> bool {
        let Some(stop) = self.tuning.stop_at.filter(|stop| stop.point == point) else { return false };
        self.passes.fetch_add(1, Ordering::Relaxed) >= stop.passes
    }

    /// Hands everything written so far to the index and waits for it.
    pub(crate) fn index_everything(&self) -> Result<()> {
        let (done, handed_over) = mpsc::channel();
        self.intake.push(Work::Checkpoint { done })?;
        handed_over.recv().map_err(|_| self.intake.closed().unwrap_or(Error::Stopping))?;
        self.checkpoints.wait_idle()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Has the background work ended where a test wanted it to?
    #[cfg(test)]
    pub(crate) fn has_stopped_where_wanted(&self) -> bool {
        self.tuning.stop_at.is_some_and(|stop| self.passes.load(Ordering::Relaxed) > stop.passes)
    }

    /// Ends all followers and everything that waits.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for work in self.intake.close(Error::Stopping) {
            work.refuse(&Error::Stopping);
        }
        self.intake_bytes.close();
        for stream in self.registry.let_go() {
            stream.news.notify_waiters();
        }
    }
}

/// Runs work that may wait for the disk, away from the threads that drive futures.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_cancelled() => Err(Error::Stopping),
        Err(e) => Err(Error::internal(e)),
    }
}
