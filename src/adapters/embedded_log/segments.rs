//! All segment files of a log: which can be read, which is written next, which may be used again.
//!
//! A file goes round: *ready* (made in the background before it is needed) → written by the committer → sealed and read
//! → *retired* when nothing in it is needed → ready again under a new generation, once no reader pins it.

use crate::failure;
use crate::segment::{Generation, Kind, Segment};
use continuo_domain::{Error, Result};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Open descriptors kept for sealed segments.
const OPEN_FILES_MAX: usize = 256;
/// Free files kept for use; what is beyond goes back to the file system.
const FREE_FILES_MAX: usize = 8;
/// Segments made ahead once the log is busy.
const READY_SEGMENTS_BUSY: usize = 2;
/// Time between tries to make a segment.
const RETRY: Duration = Duration::from_secs(1);

/// The files.
pub(crate) struct Segments {
    dir: PathBuf,
    segment_bytes: u64,
    readable: RwLock<HashMap<Generation, Arc<Segment>>>,
    open_files: Mutex<VecDeque<Arc<Segment>>>,
    stock: Mutex<Stock>,
    stock_changed: Condvar,
    last_generation: AtomicU64,
}

/// What the preparing thread keeps filled.
#[derive(Default)]
struct Stock {
    ready: VecDeque<Arc<Segment>>,
    free: Vec<PathBuf>,
    retired: Vec<Arc<Segment>>,
    /// One is made ahead only after the active segment has taken its first quarter.
    wanted: usize,
    failed: Option<Error>,
    stopping: bool,
}

/// How many segment files there are, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentCounts {
    pub(crate) readable: usize,
    pub(crate) ready: usize,
    pub(crate) free: usize,
}

impl Segments {
    pub(crate) fn new(dir: PathBuf, segment_bytes: u64, last_generation: Generation) -> Self {
        Self {
            dir,
            segment_bytes,
            readable: RwLock::default(),
            open_files: Mutex::default(),
            stock: Mutex::default(),
            stock_changed: Condvar::new(),
            last_generation: AtomicU64::new(last_generation),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn last_generation(&self) -> Generation {
        self.last_generation.load(Ordering::Relaxed)
    }

    /// A segment by its generation; `None` once it was retired.
    pub(crate) fn get(&self, generation: Generation) -> Option<Arc<Segment>> {
        let segment = self.readable.read().get(&generation).cloned()?;
        if !segment.is_open() {
            self.remember_open(segment.clone());
        }
        Some(segment)
    }

    /// Counts the segment's open file; the one counted longest ago is closed when there are too many. Once nothing more is
    /// written to the segment, and again whenever a reader has it opened.
    pub(crate) fn remember_open(&self, segment: Arc<Segment>) {
        let mut open = self.open_files.lock();
        open.push_back(segment);
        let closing = if open.len() > OPEN_FILES_MAX { open.pop_front() } else { None };
        drop(open);
        if let Some(segment) = closing {
            segment.close_file();
        }
    }

    /// From now on the segment can be read.
    pub(crate) fn add(&self, segment: Arc<Segment>) {
        self.readable.write().insert(segment.generation, segment);
    }

    /// Puts a file that recovery found unused into the stock.
    pub(crate) fn add_free(&self, path: PathBuf) {
        self.stock.lock().free.push(path);
    }

    /// Puts a segment that was made ahead before a restart into the stock. In the order of generations.
    pub(crate) fn add_ready(&self, segment: Arc<Segment>) {
        self.readable.write().remove(&segment.generation);
        self.stock.lock().ready.push_back(segment);
    }

    /// The first segment of a log that has none to go on in, made at once.
    pub(crate) fn make_first(&self) -> Result<Arc<Segment>> {
        let from = self.stock.lock().take_free();
        let generation = self.next_generation();
        let segment = self.make(&from.unwrap_or_else(|| self.new_file(generation)), Kind::Log, generation)?;
        self.add(segment.clone());
        Ok(segment)
    }

    /// The log is being written: make segments ahead.
    pub(crate) fn expect_more(&self) {
        let mut stock = self.stock.lock();
        if stock.wanted < READY_SEGMENTS_BUSY {
            stock.wanted = READY_SEGMENTS_BUSY;
            self.stock_changed.notify_all();
        }
    }

    /// The next segment to write. Waits only if the preparing thread has fallen behind.
    pub(crate) fn take_ready(&self) -> Result<Arc<Segment>> {
        let mut stock = self.stock.lock();
        loop {
            if let Some(segment) = stock.ready.pop_front() {
                self.stock_changed.notify_all();
                self.add(segment.clone());
                return Ok(segment);
            }
            if let Some(failed) = &stock.failed {
                return Err(failed.clone());
            }
            if stock.stopping {
                return Err(Error::Stopping);
            }
            stock.wanted = stock.wanted.max(1);
            self.stock_changed.notify_all();
            self.stock_changed.wait(&mut stock);
        }
    }

    /// The segment is no longer found; its blocks are used again when no reader is left.
    pub(crate) fn retire(&self, generation: Generation) {
        let Some(segment) = self.readable.write().remove(&generation) else { return };
        self.open_files.lock().retain(|open| open.generation != generation);
        self.stock.lock().retired.push(segment);
        self.stock_changed.notify_all();
    }

    /// A segment for the compactor, made at once and not filled.
    pub(crate) fn make_cold(&self) -> Result<Arc<Segment>> {
        let from = self.stock.lock().take_free();
        let generation = self.next_generation();
        self.make(&from.unwrap_or_else(|| self.new_file(generation)), Kind::Cold, generation)
    }

    /// The preparing thread. Ends when the log stops. A file that cannot be made is tried again: nothing is in it yet, and a
    /// full disk may have room before the log needs it.
    pub(crate) fn keep_stocked(&self) {
        loop {
            let mut stock = self.stock.lock();
            while !stock.stopping && stock.ready.len() >= stock.wanted {
                self.stock_changed.wait(&mut stock);
            }
            if stock.stopping {
                return;
            }
            let spare = stock.take_spare();
            let from = stock.take_free();
            drop(stock);
            for path in spare {
                if let Err(e) = std::fs::remove_file(&path) {
                    tracing::warn!(file = %path.display(), error = %e, "a segment that is not needed could not be removed");
                }
            }
            let generation = self.next_generation();
            let from = from.unwrap_or_else(|| self.new_file(generation));
            let made = self.make(&from, Kind::Log, generation);
            let mut stock = self.stock.lock();
            match made {
                Ok(segment) => {
                    stock.failed = None;
                    stock.ready.push_back(segment);
                    self.stock_changed.notify_all();
                }
                Err(error) => {
                    tracing::error!(error = ?error, "no segment could be made; the log stops when it needs one");
                    stock.failed = Some(error);
                    // One that has its name already is the next segment for a recovery, so no other may be written.
                    stock.stopping |= Segment::path(&self.dir, Kind::Log, generation).exists();
                    // Half a file is gone on with, so that not each try leaves one.
                    if from.exists() {
                        stock.free.push(from);
                    }
                    self.stock_changed.notify_all();
                    if !stock.stopping {
                        self.stock_changed.wait_for(&mut stock, RETRY);
                    }
                }
            }
        }
    }

    fn make(&self, from: &Path, kind: Kind, generation: Generation) -> Result<Arc<Segment>> {
        Segment::create(&self.dir, from, kind, generation, self.segment_bytes).map(Arc::new)
    }

    fn next_generation(&self) -> Generation {
        self.last_generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn new_file(&self, generation: Generation) -> PathBuf {
        self.dir.join(format!("{generation:016x}.free"))
    }

    pub(crate) fn stop(&self) {
        self.stock.lock().stopping = true;
        self.stock_changed.notify_all();
    }

    pub(crate) fn counts(&self) -> SegmentCounts {
        let readable = self.readable.read().len();
        let stock = self.stock.lock();
        SegmentCounts { readable, ready: stock.ready.len(), free: stock.free.len() + stock.retired.len() }
    }
}

impl Stock {
    /// A file whose blocks nobody reads any more.
    fn take_free(&mut self) -> Option<PathBuf> {
        self.free.pop().or_else(|| self.take_unpinned())
    }

    fn take_unpinned(&mut self) -> Option<PathBuf> {
        let at = self.retired.iter().position(|segment| Arc::strong_count(segment) == 1)?;
        Some(self.retired.swap_remove(at).path.clone())
    }

    /// Free files beyond what is kept.
    fn take_spare(&mut self) -> Vec<PathBuf> {
        while let Some(path) = self.take_unpinned() {
            self.free.push(path);
        }
        self.free.split_off(self.free.len().min(FREE_FILES_MAX))
    }
}

/// What a file in the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Segment(Kind, Generation),
    Free,
    Foreign,
}

impl Named {
    pub(crate) fn of(path: &Path) -> Self {
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { return Self::Foreign };
        let generation = stem.to_str().and_then(|stem| Generation::from_str_radix(stem, 16).ok());
        match (generation, extension.to_str()) {
            (Some(generation), Some("log")) => Self::Segment(Kind::Log, generation),
            (Some(generation), Some("cold")) => Self::Segment(Kind::Cold, generation),
            (Some(_), Some("free")) => Self::Free,
            _ => Self::Foreign,
        }
    }
}

/// The files of the directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<(PathBuf, Named)>> {
    let read = || -> std::io::Result<Vec<PathBuf>> { std::fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect() };
    let paths = read().map_err(failure::file("list", dir))?;
    Ok(paths.into_iter().map(|path| (path.clone(), Named::of(&path))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_could_not_be_made_is_made_once_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let segments = Segments::new(dir.path().join("later"), 8_192, 0);
        let until = |is_so: &dyn Fn(&Stock) -> bool| {
            while !is_so(&segments.stock.lock()) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        std::thread::scope(|scope| {
            let preparing = scope.spawn(|| segments.keep_stocked());
            segments.expect_more();
            until(&|stock| stock.failed.is_some());
            std::fs::create_dir(segments.dir()).unwrap();
            until(&|stock| stock.ready.len() == READY_SEGMENTS_BUSY);
            segments.take_ready().unwrap();
            segments.stop();
            preparing.join().unwrap();
        });
    }
}
