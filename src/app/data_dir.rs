//! The data directory: the database, the log, the blobs, and the node's own secrets, each in a file that only its owner reads.

use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Everything a node keeps.
pub(super) struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        make(path).with_context(|| format!("cannot make the data directory {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join("continuo.db")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    pub(super) fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// The admin key: what the file holds, or a fresh one that is written to it.
    pub(super) fn admin_key(&self, fresh: impl FnOnce() -> Result<String>) -> Result<String> {
        let path = self.0.join("admin.key");
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

    /// Leaves the dev environment's key where the command line finds it.
    pub(super) fn put_dev_key(&self, key: &str) -> Result<()> {
        write_secret(&self.0.join("dev.key"), key)
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
