//! The `BlobStore` port on files.

use crate::draft::{Draft, NotPublished, sync_directory, sync_parent};
use crate::file::{self, HeldFile, unavailable};
use async_trait::async_trait;
use continuo_domain::blob::{BlobKey, BlobKind, ContentType};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, error::Cause};
use continuo_ports::{Blob, BlobBody, BlobStore, HeldBlob};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use tokio::fs::File;

const SNAPSHOTS: &str = "snapshots";
const PACKETS: &str = "packets";
const DRAFTS: &str = "drafts";

/// Blobs in one directory, which one process has at a time.
#[derive(Debug)]
pub struct BlobFiles {
    directory: PathBuf,
    next_draft: AtomicU64,
}

impl BlobFiles {
    /// Opens the directory, or makes it. Drafts that a crash left are thrown away.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        for name in [SNAPSHOTS, PACKETS, DRAFTS] {
            fs::create_dir_all(directory.join(name))?;
        }
        for draft in fs::read_dir(directory.join(DRAFTS))? {
            fs::remove_file(draft?.path())?;
        }
        sync_directory(&directory)?;
        sync_directory(directory.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(Self { directory, next_draft: AtomicU64::new(0) })
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        match &key.kind {
            BlobKind::Snapshot(session) => self.snapshot(&key.environment, session),
            BlobKind::Packet(_) => self.directory.join(PACKETS).join(hex(&Sha256::digest(key.to_string()))),
        }
    }

    /// Ids hold letters, digits and `_` only, so the dot divides and nothing leads out of the directory.
    fn snapshot(&self, environment: &EnvironmentId, session: &SessionId) -> PathBuf {
        self.directory.join(SNAPSHOTS).join(format!("{environment}.{session}"))
    }

    /// The names of all blobs below the directory, sorted: `snapshots/…`, `packets/…`. A packet's own path is not among what
    /// can be told.
    pub async fn names(&self) -> Result<Vec<String>> {
        let directory = self.directory.clone();
        let list = move || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for kind in [SNAPSHOTS, PACKETS] {
                for entry in fs::read_dir(directory.join(kind))? {
                    names.extend(entry?.file_name().to_str().map(|name| format!("{kind}/{name}")));
                }
            }
            names.sort();
            Ok(names)
        };
        tokio::task::spawn_blocking(list).await.map_err(Error::internal)?.map_err(unavailable)
    }

    /// The blob with this name, one of `names`.
    pub async fn get_by_name(&self, name: &str) -> Result<Option<Blob>> {
        match open_if_there(&self.directory.join(name)).await? {
            Some(opened) => file::blob(opened).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open_file(&self, key: &BlobKey) -> Result<Option<File>> {
        open_if_there(&self.path(key)).await
    }

    async fn draft(&self) -> Result<Draft> {
        let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
        Draft::create(self.directory.join(DRAFTS).join(number.to_string())).await.map_err(unavailable)
    }
}

#[async_trait]
impl BlobStore for BlobFiles {
    async fn put(&self, key: &BlobKey, content_type: &ContentType, mut body: BlobBody) -> Result<()> {
        let mut draft = self.draft().await?;
        draft.write(&file::head(content_type)).await.map_err(unavailable)?;
        while let Some(chunk) = body.next().await {
            draft.write(&chunk?).await.map_err(unavailable)?;
        }
        draft.publish(self.path(key)).await.map_err(|failure| match failure {
            NotPublished::Kept(error) => unavailable(error),
            NotPublished::Unknown(error) => Error::OutcomeUnknown(Cause::new(error)),
        })
    }

    async fn get(&self, key: &BlobKey) -> Result<Option<Blob>> {
        match self.open_file(key).await? {
            Some(opened) => file::blob(opened).await.map(Some),
            None => Ok(None),
        }
    }

    async fn hold(&self, key: &BlobKey) -> Result<Option<Box<dyn HeldBlob>>> {
        match self.open_file(key).await? {
            Some(opened) => Ok(Some(Box::new(HeldFile::new(opened).await?))),
            None => Ok(None),
        }
    }

    async fn delete_session(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()> {
        let path = self.snapshot(environment, session);
        match tokio::fs::remove_file(&path).await {
            // Synced also where there was none: a removal before this one may not have been.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unavailable(error)),
        }
        sync_parent(path).await.map_err(|error| Error::OutcomeUnknown(Cause::new(error)))
    }

    async fn delete_packets(&self, put_before: Timestamp) -> Result<u64> {
        let directory = self.directory.join(PACKETS);
        // Nothing is synced: what a power loss brings back is deleted again.
        let delete = move || remove_older(&directory, put_before);
        tokio::task::spawn_blocking(delete).await.map_err(Error::internal)?.map_err(unavailable)
    }
}

async fn open_if_there(path: &Path) -> Result<Option<File>> {
    match File::open(path).await {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn remove_older(directory: &Path, put_before: Timestamp) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let put_at = entry.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        if i64::try_from(put_at.as_millis()).is_ok_and(|put_at| put_at < put_before.0) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob_store_contract::{blob_store_contract, packet, put, read};
    use tempfile::TempDir;

    async fn on_a_temp_dir() -> (std::sync::Arc<BlobFiles>, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (std::sync::Arc::new(BlobFiles::open(directory.path().join("blobs")).unwrap()), directory)
    }

    blob_store_contract!(on_files, crate::blob_store_contract, on_a_temp_dir());

    #[tokio::test]
    async fn what_was_put_is_there_after_a_restart_and_drafts_are_not() {
        let (store, directory) = on_a_temp_dir().await;
        let key = packet("a");
        put(&*store, &key, "text/plain", &[b"hello"]).await.unwrap();
        let blobs = directory.path().join("blobs");
        fs::write(blobs.join(DRAFTS).join("0"), b"half").unwrap();
        let reopened = BlobFiles::open(blobs.clone()).unwrap();
        assert_eq!(read(&reopened, &key).await, Some(("text/plain".into(), b"hello".to_vec())));
        assert_eq!(fs::read_dir(blobs.join(DRAFTS)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn every_blob_is_named_and_found_by_its_name() {
        let (store, _directory) = on_a_temp_dir().await;
        let environment = EnvironmentId::from_body("e");
        let snapshot = BlobKey { environment, kind: BlobKind::Snapshot(SessionId::from_body("s")) };
        put(&*store, &snapshot, "application/json", &[b"{}"]).await.unwrap();
        put(&*store, &packet("a"), "text/plain", &[b"hello"]).await.unwrap();
        let names = store.names().await.unwrap();
        assert!(names[0].starts_with("packets/") && names[1] == "snapshots/env_e.session_s", "{names:?}");
        let found = store.get_by_name(&names[0]).await.unwrap().unwrap();
        assert_eq!((found.content_type.as_str(), found.size_bytes), ("text/plain", 5));
        assert!(store.get_by_name("packets/none").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn no_name_leads_out_of_the_directory() {
        let (store, directory) = on_a_temp_dir().await;
        for path in ["/etc/passwd", "a/b/c", "...", &"ü".repeat(1_024)] {
            put(&*store, &packet(path), "", &[b"x"]).await.unwrap();
        }
        assert_eq!(fs::read_dir(directory.path().join("blobs").join(PACKETS)).unwrap().count(), 4);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_no_blob_is_refused() {
        let (store, _directory) = on_a_temp_dir().await;
        let key = packet("a");
        for damage in [&b""[..], b"CBL", b"XXXX\0\0", b"CBL1\0\x05ab", b"CBL1\xff\xff"] {
            fs::write(store.path(&key), damage).unwrap();
            assert!(matches!(store.get(&key).await, Err(Error::Damaged(_))), "{damage:?}");
        }
    }

    #[tokio::test]
    async fn a_put_that_ends_early_leaves_no_draft() {
        let (store, directory) = on_a_temp_dir().await;
        let drafts = directory.path().join("blobs").join(DRAFTS);
        let endless = futures_util::stream::pending().boxed();
        let (key, plain) = (packet("a"), ContentType::parse("").unwrap());
        let until = async |count| {
            while fs::read_dir(&drafts).unwrap().count() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = store.put(&key, &plain, endless) => panic!("the body has no end: {done:?}"),
            () = until(1) => {}
        }
        tokio::time::timeout(std::time::Duration::from_secs(20), until(0)).await.expect("the draft is left");
    }
}
