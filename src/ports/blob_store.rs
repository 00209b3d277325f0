//! Where blobs lie.

use async_trait::async_trait;
use bytes::Bytes;
use continuo_domain::blob::{BlobKey, ContentType};
use continuo_domain::{EnvironmentId, Result, SessionId};
use futures_util::stream::BoxStream;

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

/// Blobs by name. Holds a bounded part of a body in memory, whatever its size; limits are the caller's business.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores a blob in place of the one before: whole or not at all, and durable on return. An error of the body is the
    /// error of the put and leaves what was there before, and so does dropping the future; of concurrent puts one wins whole.
    async fn put(&self, key: &BlobKey, content_type: &ContentType, body: BlobBody) -> Result<()>;

    /// The blob, if there is one. What is yielded is one version of it, also if it is replaced or deleted meanwhile.
    async fn get(&self, key: &BlobKey) -> Result<Option<Blob>>;

    /// Deletes every blob that belongs to a session. Durable on return; it is no error if there is none.
    async fn delete_session(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()>;
}
