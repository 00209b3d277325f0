//! The data directory: the database, the log, the blobs, the node's own secrets, each in a file that only its owner reads, and
//! what tells it from every other one.

use crate::config::ConfigError;
use anyhow::{Context, Result};
use continuo_in_process::{SystemClock, TimeOrderedIds};
use continuo_ports::Ids;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything a node keeps.
#[derive(Clone)]
pub(super) struct DataDir {
    path: PathBuf,
    /// Held while a process serves from here; it goes with the process, also if that is killed.
    lock: Option<Arc<fs::File>>,
}

impl DataDir {
    /// Makes the directory where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        make(path).with_context(|| format!("cannot make the data directory {}", path.display()))?;
        Ok(Self::at(path))
    }

    /// The directory as it is.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// Takes the directory for this process: what is unfinished in it is this process's to clear away, whichever engines serve.
    pub(super) fn lock(&mut self) -> Result<()> {
        let path = self.path.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(Arc::new(file)),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(ConfigError::new(format!(
                    "the data directory {} is in use by another process: stop that one, or set CONTINUO_DATA_DIR to another directory",
                    self.path.display()
                ))
                .into());
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("continuo.db")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    pub(super) fn master_key(&self) -> PathBuf {
        self.path.join("master.key")
    }

    /// The admin key: what the file holds, or a fresh one that is written to it.
    pub(super) fn admin_key(&self, fresh: impl FnOnce() -> Result<String>) -> Result<String> {
        let path = self.path.join("admin.key");
        match fs::read_to_string(&path) {
            // A file without a key is one that a crash left between its making and its writing.
            Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned()),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
            Ok(_) | Err(_) => {}
        }
        let key = fresh()?;
        write_secret(&path, &key)?;
        Ok(key)
    }

    /// What tells this directory, and a whole copy of it, from every other one. Made at the first call; of several processes
    /// that make it at once all have the same.
    pub(super) fn identity(&self) -> Result<String> {
        let path = self.path.join("identity");
        let read = || match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => text.map(Some).with_context(|| format!("cannot read {}", path.display())),
        };
        if let Some(known) = read()? {
            return Ok(known);
        }
        let fresh = TimeOrderedIds::new(Arc::new(SystemClock::new()))?.next();
        // Whole or not at all, and never in the place of another's: written under a name of its own, then linked.
        let draft = self.path.join(format!("identity.{fresh}"));
        write_secret(&draft, &fresh)?;
        let linked = fs::hard_link(&draft, &path);
        // One that stays behind is read by nobody.
        let _ = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => fs::File::open(&self.path).and_then(|directory| directory.sync_all())?,
        }
        read()?.with_context(|| format!("{} was just there and is gone", path.display()))
    }

    /// Leaves the dev environment's key where the command line finds it.
    pub(super) fn put_dev_key(&self, key: &str) -> Result<()> {
        write_secret(&self.path.join("dev.key"), key)
    }
}

/// What is acknowledged later lies in this directory, so a fresh one is on disk before anything else is.
fn make(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_goes_with_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (DataDir::open(&dir.path().join("a")).unwrap(), DataDir::open(&dir.path().join("b")).unwrap());
        let made: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| one.identity().unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(made.iter().all(|made| *made == one.identity().unwrap()), "{made:?}");
        assert_ne!(one.identity().unwrap(), two.identity().unwrap());
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn an_admin_key_is_kept_and_one_that_a_crash_left_unwritten_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/admin.key"), "").unwrap();
        for _ in 0..2 {
            assert_eq!(data.admin_key(|| Ok("secret".into())).unwrap(), "secret");
        }
        assert_eq!(data.admin_key(|| Ok("other".into())).unwrap(), "secret");
    }
}
