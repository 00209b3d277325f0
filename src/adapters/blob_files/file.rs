//! The bytes of a file: a short head, then the blob.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use continuo_domain::blob::{CONTENT_TYPE_BYTES_MAX, ContentType};
use continuo_domain::{Error, Result, error::Cause};
use continuo_ports::{Blob, BlobBody, HeldBlob};
use futures_util::{StreamExt, stream};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

const MAGIC: &[u8; 4] = b"CBL1";
/// Magic and length of the content type.
const FIXED_BYTES: usize = 6;
/// What is read at once, and so what a blob on its way out takes in memory.
const CHUNK_BYTES: usize = 128 << 10;

pub(crate) fn head(content_type: &ContentType) -> Vec<u8> {
    let text = content_type.as_str().as_bytes();
    // A content type is 255 bytes at most, by its parsing.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&MAGIC[..], &length, text].concat()
}

/// An open file as a blob. It stays the version it is, also if its name is given to another.
pub(crate) async fn blob(mut file: File) -> Result<Blob> {
    let file_bytes = file.metadata().await.map_err(unavailable)?.len();
    let (content_type, head_bytes) = read_head(&mut file).await?;
    let size_bytes = file_bytes.saturating_sub(head_bytes as u64);
    Ok(Blob { content_type, size_bytes, body: chunks(file, size_bytes) })
}

async fn read_head(file: &mut File) -> Result<(ContentType, usize)> {
    let mut fixed = [0; FIXED_BYTES];
    read_exact(file, &mut fixed).await?;
    let [m0, m1, m2, m3, l0, l1] = fixed;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if &[m0, m1, m2, m3] != MAGIC || length > CONTENT_TYPE_BYTES_MAX {
        return Err(damaged("it does not begin as a blob does"));
    }
    let mut text = vec![0; length];
    read_exact(file, &mut text).await?;
    let text = String::from_utf8(text).map_err(|_| damaged("its content type is no text"))?;
    let content_type = ContentType::parse(&text).map_err(|_| damaged("its content type is none"))?;
    Ok((content_type, FIXED_BYTES + length))
}

async fn read_exact(file: &mut File, bytes: &mut [u8]) -> Result<()> {
    match file.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged("it ends too early")),
        Err(error) => Err(unavailable(error)),
    }
}

/// An open file, to read parts of.
pub(crate) struct HeldFile {
    file: Arc<std::fs::File>,
    head_bytes: u64,
    size_bytes: u64,
}

impl HeldFile {
    pub(crate) async fn new(mut file: File) -> Result<Self> {
        let file_bytes = file.metadata().await.map_err(unavailable)?.len();
        let (_, head_bytes) = read_head(&mut file).await?;
        let head_bytes = head_bytes as u64;
        let file = Arc::new(file.into_std().await);
        Ok(Self { file, head_bytes, size_bytes: file_bytes.saturating_sub(head_bytes) })
    }
}

#[async_trait]
impl HeldBlob for HeldFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&self, range: Range<u64>) -> Result<Option<Bytes>> {
        let (file, at) = (self.file.clone(), self.head_bytes + range.start);
        let length = usize::try_from(range.end - range.start).map_err(Error::internal)?;
        let read = move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map(|()| Some(bytes.into()))
        };
        tokio::task::spawn_blocking(read).await.map_err(Error::internal)?.map_err(unavailable)
    }
}

fn chunks(file: File, size_bytes: u64) -> BlobBody {
    stream::try_unfold((file, size_bytes), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let chunk = next_chunk(&mut file, left).await?;
        let left = left.saturating_sub(chunk.len() as u64);
        Ok(Some((chunk, (file, left))))
    })
    .boxed()
}

async fn next_chunk(file: &mut File, left: u64) -> Result<Bytes> {
    let wanted = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
    let mut chunk = BytesMut::with_capacity(wanted);
    let read = file.take(wanted as u64).read_buf(&mut chunk).await.map_err(unavailable)?;
    if read == 0 { Err(damaged("it ends too early")) } else { Ok(chunk.freeze()) }
}

pub(crate) fn unavailable(error: io::Error) -> Error {
    Error::Unavailable(Cause::new(error))
}

fn damaged(what: &str) -> Error {
    Error::Damaged(Cause::new(format!("a blob's file is damaged: {what}")))
}
