//! One version of an object, known by its ETag.

use crate::client::{Answer, Client, header, refusal, text};
use crate::store::{length_of, no_answer, unavailable};
use async_trait::async_trait;
use bytes::Bytes;
use continuo_domain::{Error, Result};
use continuo_ports::HeldBlob;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Limited};
use std::ops::Range;

pub(crate) struct HeldObject {
    client: Client,
    name: String,
    etag: String,
    size_bytes: u64,
}

impl HeldObject {
    /// From the answer to a HEAD.
    pub(crate) fn new(client: Client, name: String, head: &Answer) -> Result<Self> {
        let etag =
            header(head.headers(), header::ETAG).ok_or_else(|| unavailable("an object without an ETag".into()))?;
        Ok(Self { client, name, etag: etag.to_owned(), size_bytes: length_of(head)? })
    }
}

#[async_trait]
impl HeldBlob for HeldObject {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read(&self, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(last) = range.end.checked_sub(1).filter(|_| range.start < range.end) else {
            return Ok(Some(Bytes::new()));
        };
        let length = usize::try_from(range.end - range.start).map_err(Error::internal)?;
        let (bucket, by) = self.client.signed_by();
        let headers = [(header::RANGE, format!("bytes={}-{last}", range.start)), (header::IF_MATCH, self.etag.clone())];
        let answer = self.client.ask(&bucket.get_object(by, &self.name), &headers).await.map_err(no_answer)?;
        match answer.status() {
            // Not every store looks at If-Match.
            StatusCode::PARTIAL_CONTENT if header(answer.headers(), header::ETAG) != Some(&self.etag) => Ok(None),
            StatusCode::PARTIAL_CONTENT => {
                let body = Limited::new(answer.into_body(), length).collect().await;
                let bytes = body.map_err(|error| unavailable(error.to_string()))?.to_bytes();
                if bytes.len() == length { Ok(Some(bytes)) } else { Err(unavailable("a range came short".into())) }
            }
            StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            status => Err(unavailable(refusal(status, &text(answer).await))),
        }
    }
}
