//! A blob that is being written. Until it is published nobody sees it; dropped before that, it is gone.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

pub(crate) struct Draft {
    path: PathBuf,
    file: File,
    is_published: bool,
}

/// How a publication failed.
#[derive(Debug)]
pub(crate) enum NotPublished {
    /// The blob before it is still there.
    Kept(io::Error),
    /// It may be one or the other, after a power loss.
    Unknown(io::Error),
}

impl Draft {
    /// Whoever stops waiting for it leaves nothing behind: the file and its draft are made in one piece, and dropped in one.
    pub(crate) async fn create(path: PathBuf) -> io::Result<Self> {
        let create = move || {
            let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            Ok(Self { path, file: File::from_std(file), is_published: false })
        };
        tokio::task::spawn_blocking(create).await.map_err(io::Error::other)?
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// Durable under its name when this returns.
    pub(crate) async fn publish(mut self, as_path: PathBuf) -> Result<(), NotPublished> {
        // Writes go on in the background; the flush is what tells of their errors.
        self.file.flush().await.map_err(NotPublished::Kept)?;
        self.file.sync_all().await.map_err(NotPublished::Kept)?;
        tokio::fs::rename(&self.path, &as_path).await.map_err(NotPublished::Kept)?;
        self.is_published = true;
        sync_parent(as_path).await.map_err(NotPublished::Unknown)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_published {
            // One that cannot be removed is thrown away at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes what was renamed or removed in the directory of this file durable.
pub(crate) async fn sync_parent(path: PathBuf) -> io::Result<()> {
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    tokio::task::spawn_blocking(move || sync_directory(&directory)).await.map_err(io::Error::other)?
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
