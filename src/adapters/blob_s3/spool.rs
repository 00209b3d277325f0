//! A body that is received before it is sent on: a nameless file, which goes with its handle.

use bytes::Bytes;
use continuo_domain::{Error, Result, error::Cause};
use continuo_ports::BlobBody;
use futures_util::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use std::io::{self, SeekFrom};
use std::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

/// What is read at once, and so what a blob on its way out takes in memory.
const CHUNK_BYTES: usize = 128 << 10;

pub(crate) struct Spool {
    file: File,
    size_bytes: u64,
}

impl Spool {
    /// Takes the body to its end. An error of the body is the error.
    pub(crate) async fn receive(directory: &Path, mut body: BlobBody) -> Result<Self> {
        let directory = directory.to_owned();
        let opened = tokio::task::spawn_blocking(move || tempfile::tempfile_in(directory)).await;
        let mut file = File::from_std(opened.map_err(Error::internal)?.map_err(unavailable)?);
        let mut size_bytes = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            file.write_all(&chunk).await.map_err(unavailable)?;
            size_bytes += chunk.len() as u64;
        }
        file.flush().await.map_err(unavailable)?;
        file.seek(SeekFrom::Start(0)).await.map_err(unavailable)?;
        Ok(Self { file, size_bytes })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn into_body(self) -> UnsyncBoxBody<Bytes, io::Error> {
        StreamBody::new(ReaderStream::with_capacity(self.file, CHUNK_BYTES).map_ok(Frame::data)).boxed_unsync()
    }
}

fn unavailable(error: io::Error) -> Error {
    Error::Unavailable(Cause::new(error))
}
