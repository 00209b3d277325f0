//! Where blobs lie.

use async_trait::async_trait;
use bytes::Bytes;
use continuo_domain::blob::{BlobKey, ContentType};
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp};
use futures_util::stream::BoxStream;
use std::ops::Range;

/// The bytes of a blob as they come. An error is the last item.
pub type BlobBody = BoxStream<'static, Result<Bytes>>;

/// A blob on its way out.
pub struct Blob {
    /// As it was stored.
    pub content_type: ContentType,
    /// How many bytes `body` will yield.
    pub size_bytes: u64,
    /// The bytes, read as they are asked for.
    pub body: BlobBody,
}

/// One version of a blob, to read some of it.
#[async_trait]
pub trait HeldBlob: Send + Sync {
    /// How many bytes it has.
    fn size_bytes(&self) -> u64;

    /// Those of its bytes; the range lies within. `None` if the store no longer has this version: never bytes of another.
    async fn read(&self, range: Range<u64>) -> Result<Option<Bytes>>;
}

/// Blobs by name. Holds a bounded part of a body in memory, whatever its size; limits are the caller's business.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores a blob in place of the one before: whole or not at all, and durable on return. An error of the body is the
    /// error of the put and leaves what was there before, and so does dropping the future before the body has ended; of
    /// concurrent puts one wins whole.
    async fn put(&self, key: &BlobKey, content_type: &ContentType, body: BlobBody) -> Result<()>;

    /// The blob, if there is one. What is yielded is one version of it, also if it is replaced or deleted meanwhile.
    async fn get(&self, key: &BlobKey) -> Result<Option<Blob>>;

    /// The blob as it is now, without its bytes.
    async fn hold(&self, key: &BlobKey) -> Result<Option<Box<dyn HeldBlob>>>;

    /// Deletes every blob that belongs to a session. Durable on return; it is no error if there is none.
    async fn delete_session(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()>;

    /// Deletes the packets of all environments that were last put before this time, by the store's own clock. Counts them.
    async fn delete_packets(&self, put_before: Timestamp) -> Result<u64>;
}
