//! The `BlobStore` port on a bucket.

use crate::client::{Answer, Client, OpenError, SendError, header, refusal, text};
use crate::held::HeldObject;
use crate::names::Names;
use crate::spool::Spool;
use async_trait::async_trait;
use continuo_domain::blob::{BlobKey, ContentType};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, error::Cause};
use continuo_ports::{Blob, BlobBody, BlobStore, HeldBlob};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::actions::list_objects_v2::{ListObjectsContent, ListObjectsV2Response};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Longest pause between two parts of a blob on its way out.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Packets deleted at once.
const DELETES_AT_ONCE: usize = 8;

/// Where the bucket is and who we are there.
#[derive(Clone)]
pub struct Options {
    /// `https://s3.eu-west-1.amazonaws.com`, `http://127.0.0.1:9000` …
    pub endpoint: String,
    /// Its name.
    pub bucket: String,
    /// Its region; where a store knows none, what it was told to expect.
    pub region: String,
    /// Who.
    pub access_key: String,
    /// The proof.
    pub secret_key: String,
    /// The bucket in the path and not in the host name.
    pub path_style: bool,
    /// What every key begins with.
    pub prefix: String,
    /// A directory for bodies that are being received.
    pub drafts: PathBuf,
}

/// Without the keys.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, bucket, region, prefix, .. } = self;
        write!(f, "Options({endpoint} {bucket} {region} {prefix})")
    }
}

/// Blobs in one bucket, which any number of nodes may share.
#[derive(Debug)]
pub struct BlobS3 {
    client: Client,
    names: Names,
    drafts: PathBuf,
}

impl BlobS3 {
    /// Looks that the bucket is there and that it may be listed.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let client = Client::new(&options)?;
        let names = Names::below(&options.prefix);
        let Options { endpoint, bucket, drafts, .. } = options;
        let store = Self { client, names, drafts };
        let mut list = store.list(store.names.prefix().to_owned());
        list.with_max_keys(1);
        let asked = store.client.ask(&list, &[]).await;
        let answer = asked.map_err(|source| OpenError::Unreachable { endpoint: endpoint.clone(), source })?;
        let status = answer.status();
        let said = text(answer).await;
        drop(list);
        match status {
            StatusCode::OK if ListObjectsV2::parse_response(&said).is_ok() => Ok(store),
            StatusCode::NOT_FOUND => Err(OpenError::NoBucket { endpoint, bucket }),
            _ => Err(OpenError::Refused { endpoint, bucket, said: refusal(status, &said) }),
        }
    }

    fn list(&self, prefix: String) -> ListObjectsV2<'_> {
        let (bucket, by) = self.client.signed_by();
        let mut list = bucket.list_objects_v2(by);
        list.with_prefix(prefix);
        list
    }

    async fn page(&self, from: Option<String>) -> Result<ListObjectsV2Response> {
        let mut list = self.list(self.names.packets());
        if let Some(token) = from {
            list.with_continuation_token(token);
        }
        let answer = self.client.ask(&list, &[]).await.map_err(no_answer)?;
        let status = answer.status();
        let said = text(answer).await;
        match status {
            StatusCode::OK => ListObjectsV2::parse_response(&said).map_err(|error| unavailable(error.to_string())),
            _ => Err(unavailable(refusal(status, &said))),
        }
    }

    /// Stores a blob under a name that another store of blobs gave it: `snapshots/…` or `packets/…`, as `BlobFiles` names
    /// its own. A packet that is there with the same size is left as it is: packets are written once.
    pub async fn put_named(&self, name: &str, blob: Blob) -> Result<()> {
        let key = format!("{}{name}", self.names.prefix());
        let is_packet = key.starts_with(&self.names.packets());
        if is_packet && self.size_of(&key).await? == Some(blob.size_bytes) {
            return Ok(());
        }
        self.put_by_name(&key, &blob.content_type, blob.body).await
    }

    async fn size_of(&self, name: &str) -> Result<Option<u64>> {
        let (bucket, by) = self.client.signed_by();
        let head = self.client.ask(&bucket.head_object(by, name), &[]).await.map_err(no_answer)?;
        match head.status() {
            StatusCode::OK => length_of(&head).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unavailable(refusal(status, ""))),
        }
    }

    async fn put_by_name(&self, name: &str, content_type: &ContentType, body: BlobBody) -> Result<()> {
        let spool = Spool::receive(&self.drafts, body).await?;
        let (bucket, by) = self.client.signed_by();
        let headers = [
            (header::CONTENT_TYPE, content_type.as_str().to_owned()),
            (header::CONTENT_LENGTH, spool.size_bytes().to_string()),
        ];
        let put = bucket.put_object(by, name);
        let answer = self.client.send(&put, &headers, spool.into_body()).await.map_err(change_failed)?;
        if answer.status().is_success() { Ok(()) } else { Err(change_refused(answer).await) }
    }

    async fn delete(&self, name: String) -> Result<()> {
        let (bucket, by) = self.client.signed_by();
        let answer = self.client.ask(&bucket.delete_object(by, &name), &[]).await.map_err(change_failed)?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(change_refused(answer).await),
        }
    }
}

#[async_trait]
impl BlobStore for BlobS3 {
    async fn put(&self, key: &BlobKey, content_type: &ContentType, body: BlobBody) -> Result<()> {
        self.put_by_name(&self.names.of(key), content_type, body).await
    }

    async fn get(&self, key: &BlobKey) -> Result<Option<Blob>> {
        let name = self.names.of(key);
        let (bucket, by) = self.client.signed_by();
        let answer = self.client.ask(&bucket.get_object(by, &name), &[]).await.map_err(no_answer)?;
        match answer.status() {
            StatusCode::OK => {
                let content_type = header(answer.headers(), header::CONTENT_TYPE).unwrap_or_default();
                let content_type = ContentType::parse(content_type)?;
                let size_bytes = length_of(&answer)?;
                Ok(Some(Blob { content_type, size_bytes, body: chunks(answer.into_body()) }))
            }
            status => {
                let said = text(answer).await;
                if is_missing(status, &said) { Ok(None) } else { Err(unavailable(refusal(status, &said))) }
            }
        }
    }

    async fn hold(&self, key: &BlobKey) -> Result<Option<Box<dyn HeldBlob>>> {
        let name = self.names.of(key);
        let (bucket, by) = self.client.signed_by();
        let head = self.client.ask(&bucket.head_object(by, &name), &[]).await.map_err(no_answer)?;
        match head.status() {
            StatusCode::OK => Ok(Some(Box::new(HeldObject::new(self.client.clone(), name, &head)?))),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unavailable(refusal(status, ""))),
        }
    }

    async fn delete_session(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()> {
        self.delete(self.names.snapshot(environment, session)).await
    }

    async fn delete_packets(&self, put_before: Timestamp) -> Result<u64> {
        let is_older = |object: &ListObjectsContent| {
            let put_at = object.last_modified.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            put_at.is_some_and(|put_at| put_at.as_millisecond() < put_before.0)
        };
        let (mut from, mut deleted) = (None, 0);
        loop {
            let page = self.page(from).await?;
            let older: Vec<_> =
                page.contents.into_iter().filter(is_older).map(|object| self.delete(object.key)).collect();
            deleted += older.len() as u64;
            stream::iter(older).buffer_unordered(DELETES_AT_ONCE).try_collect::<()>().await?;
            from = page.next_continuation_token;
            if from.is_none() {
                return Ok(deleted);
            }
        }
    }
}

/// Without its bucket nothing is known of an object.
fn is_missing(status: StatusCode, said: &str) -> bool {
    status == StatusCode::NOT_FOUND && !said.contains("<Code>NoSuchBucket</Code>")
}

fn chunks(body: Incoming) -> BlobBody {
    let pause = |_| unavailable("the store stopped in the middle of a blob".into());
    stream::try_unfold(body.into_data_stream(), move |mut body| async move {
        let chunk = tokio::time::timeout(PAUSE_MAX, body.next()).await.map_err(pause)?;
        let chunk = chunk.transpose().map_err(|error| Error::Unavailable(Cause::new(error)))?;
        Ok(chunk.map(|chunk| (chunk, body)))
    })
    .boxed()
}

pub(crate) fn length_of(answer: &Answer) -> Result<u64> {
    let length = header(answer.headers(), header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    length.ok_or_else(|| unavailable("an object without a length".into()))
}

pub(crate) fn no_answer(error: SendError) -> Error {
    Error::Unavailable(Cause::new(error))
}

pub(crate) fn unavailable(what: String) -> Error {
    Error::Unavailable(Cause::new(what))
}

/// A change that got no answer may have been made.
fn change_failed(error: SendError) -> Error {
    if error.is_before_sending() { no_answer(error) } else { Error::OutcomeUnknown(Cause::new(error)) }
}

/// So may one that broke the store; one that it refused was not.
async fn change_refused(answer: Answer) -> Error {
    let status = answer.status();
    let said = refusal(status, &text(answer).await);
    let is_unknown = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    if is_unknown { Error::OutcomeUnknown(Cause::new(said)) } else { unavailable(said) }
}

#[cfg(test)]
mod tests;
