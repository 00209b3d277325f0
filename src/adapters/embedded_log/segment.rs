//! Segments: files of one fixed size whose blocks were all written once, so that a later `fdatasync` finds no metadata
//! to commit. A file lives many lives; each is a *generation* with a number, a random salt and a name of its own.
//!
//! ```text
//! segments/<generation, 16 hex digits>.log    batches as the committer wrote them
//! segments/<generation, 16 hex digits>.cold   batches of survivors that the compactor put together
//! segments/<anything>.free                    blocks to be used again
//!
//!  0  [8]  magic: "ContLog1"
//!  8  u32  version of this format: 1
//! 12  u32  kind: 1 log, 2 cold
//! 16  u64  generation: rises from life to life over all segments
//! 24  u64  salt: random
//! 32  u64  bytes of the segment, this header included
//! 40  u32  CRC-32 of bytes 0..40
//! 44  zeros
//! 4096     batches, one after the other; what follows the last one is of an earlier life, or zeros
//! ```
//!
//! The seed of a generation's checksums is the CRC-32 of generation and salt (bytes 16..32). The header is synced before
//! the file gets its name, and the name before the first batch is written, so that a named segment with a bad header
//! is damage and never the trace of a crash.

use crate::failure;
use continuo_domain::Result;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The header and the rest of its block.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4_096;

const MAGIC: &[u8; 8] = b"ContLog1";
const VERSION: u32 = 1;
/// The log is written in whole blocks of this: a part of one that is not in the page cache would be read first.
pub(crate) const BLOCK_BYTES: u64 = 4_096;
/// One write of filling a file.
const FILL_STEP_BYTES: u64 = 1 << 20;

/// A generation's number, which names the segment everywhere.
pub(crate) type Generation = u64;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Cold,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Log => 1,
            Self::Cold => 2,
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Cold => "cold",
        }
    }
}

/// One generation of a segment file. Whoever holds it pins it: its blocks are not used again meanwhile.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) generation: Generation,
    /// Starts every checksum in it.
    pub(crate) seed: u32,
    pub(crate) path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
}

impl Segment {
    /// The file's name for a generation.
    pub(crate) fn path(dir: &Path, kind: Kind, generation: Generation) -> PathBuf {
        dir.join(format!("{generation:016x}.{}", kind.extension()))
    }

    /// Opens an existing segment and checks its header.
    pub(crate) fn open(dir: &Path, kind: Kind, generation: Generation, bytes: u64) -> Result<Self> {
        let path = Self::path(dir, kind, generation);
        let file = open_file(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => failure::damaged(format!("segment {} is missing", path.display())),
            _ => failure::file("open", &path)(e),
        })?;
        let mut header = [0; 44];
        let length = file.metadata().map_err(failure::file("read the length of", &path))?.len();
        let whole = length >= header.len() as u64;
        if whole {
            file.read_exact_at(&mut header, 0).map_err(failure::file("read", &path))?;
        }
        let seed = read_header(&header, kind, generation).filter(|_| whole).ok_or_else(|| {
            failure::damaged(format!("segment {}: the header at offset 0 is not right", path.display()))
        })?;
        if kind == Kind::Log && length < bytes {
            return Err(failure::damaged(format!("segment {} was cut to {length} of {bytes} bytes", path.display())));
        }
        Ok(Self { generation, seed, path, file: Mutex::new(Some(Arc::new(file))) })
    }

    /// Turns `from` (a free file, or a new one) into a new generation, durable when this returns.
    pub(crate) fn create(dir: &Path, from: &Path, kind: Kind, generation: Generation, bytes: u64) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(from)
            .map_err(failure::file("open", from))?;
        let salt = random();
        let path = Self::path(dir, kind, generation);
        let make = || -> io::Result<()> {
            fill(&file, bytes)?;
            file.write_all_at(&header(kind, generation, salt, bytes), 0)?;
            file.sync_all()?;
            std::fs::rename(from, &path)?;
            sync_dir(dir)
        };
        make().map_err(failure::file("make segment", &path))?;
        Ok(Self { generation, seed: seed(generation, salt), path, file: Mutex::new(Some(Arc::new(file))) })
    }

    /// The open file; opens it if it was closed to save descriptors.
    pub(crate) fn file(&self) -> Result<Arc<File>> {
        let mut held = self.file.lock();
        if let Some(file) = held.as_ref() {
            return Ok(file.clone());
        }
        let file = Arc::new(open_file(&self.path).map_err(failure::file("open", &self.path))?);
        *held = Some(file.clone());
        Ok(file)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.lock().is_some()
    }

    /// Gives the descriptor back; the next [`Self::file`] opens it again.
    pub(crate) fn close_file(&self) {
        *self.file.lock() = None;
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Writes zeros from the end of the file to `bytes`, so that every block has been written. Through the page cache and
/// not synced here, because that disturbs the committer least: measured at full speed, one sync of the whole file leaves
/// its p99 at about 5 times a sync of its own, many small syncs at 11 and more (each commits metadata), `O_DIRECT` at 5 to 16.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    let zeros = vec![0; FILL_STEP_BYTES.min(bytes.saturating_sub(at)) as usize];
    while at < bytes {
        let step = FILL_STEP_BYTES.min(bytes - at);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn header(kind: Kind, generation: Generation, salt: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&kind.number().to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&salt.to_le_bytes());
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out.resize(SEGMENT_HEADER_BYTES as usize, 0);
    out
}

/// The seed, if the header is right.
fn read_header(header: &[u8; 44], kind: Kind, generation: Generation) -> Option<u32> {
    let checksum = u32::from_le_bytes(header[40..44].try_into().ok()?);
    let salt = u64::from_le_bytes(header[24..32].try_into().ok()?);
    let right = &header[..8] == MAGIC
        && header[8..12] == VERSION.to_le_bytes()
        && header[12..16] == kind.number().to_le_bytes()
        && header[16..24] == generation.to_le_bytes()
        && crc32fast::hash(&header[..40]) == checksum;
    right.then(|| seed(generation, salt))
}

fn seed(generation: Generation, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&salt.to_le_bytes());
    hasher.finalize()
}

/// The standard library's hash keys are random per process and differ per call; no crate is needed for a salt.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::Error;

    #[test]
    fn a_segment_opens_again_with_its_seed() {
        let dir = tempfile::tempdir().unwrap();
        let made = Segment::create(dir.path(), &dir.path().join("new.free"), Kind::Log, 7, 8_192).unwrap();
        let opened = Segment::open(dir.path(), Kind::Log, 7, 8_192).unwrap();
        assert_eq!(made.seed, opened.seed);
        assert_eq!(opened.file().unwrap().metadata().unwrap().len(), 8_192);
    }

    #[test]
    fn another_life_has_another_seed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Segment::create(dir.path(), &dir.path().join("new.free"), Kind::Log, 7, 8_192).unwrap();
        let second = Segment::create(dir.path(), &first.path, Kind::Log, 8, 8_192).unwrap();
        assert_ne!(first.seed, second.seed);
        assert!(matches!(Segment::open(dir.path(), Kind::Log, 7, 8_192), Err(Error::Damaged(_))), "is missing");
    }

    #[test]
    fn a_bad_header_or_a_cut_file_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let segment = Segment::create(dir.path(), &dir.path().join("new.free"), Kind::Log, 7, 8_192).unwrap();
        let file = segment.file().unwrap();
        file.set_len(8_191).unwrap();
        assert!(matches!(Segment::open(dir.path(), Kind::Log, 7, 8_192), Err(Error::Damaged(_))));
        file.set_len(8_192).unwrap();
        for at in 0..44 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            assert!(matches!(Segment::open(dir.path(), Kind::Log, 7, 8_192), Err(Error::Damaged(_))), "byte {at}");
            file.write_all_at(&byte, at).unwrap();
        }
        Segment::open(dir.path(), Kind::Log, 7, 8_192).unwrap();
    }
}
