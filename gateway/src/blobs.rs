//! Signed URLs themselves: bytes in and out, a part at a time. The token in the path is the only credential.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use continuo_proto::{
    Api, in_process,
    v1::{ErrorReason, GetBlobRequest, GetBlobResponse, PutBlobRequest},
};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::BodyExt;
use tokio::sync::Mutex;
use tonic::Status;

use crate::{
    Gateway,
    auth::{url_bearer, with_authorization},
    body::discard_rest,
    error::{self, Failure, Route},
    paths::Params,
};

/// Longest part. A frame of a body may be longer than a message of the services may be.
const PART_BYTES_MAX: usize = 256 << 10;

pub(crate) async fn put<A: Api>(
    State(gateway): State<Gateway<A>>,
    params: Params,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let bearer = url_bearer(&params.get("token")?)?;
    let (parts, body) = request.into_parts();
    // Shared, so that what is left of a refused body can still be read.
    let body = Arc::new(Mutex::new(body));
    let first = PutBlobRequest {
        content_type: text(&parts.headers, header::CONTENT_TYPE),
        size_bytes: text(&parts.headers, header::CONTENT_LENGTH).parse().ok(),
        ..Default::default()
    };
    let messages = stream::once(async { Ok(first) }).chain(messages(body.clone()));
    let sent = gateway.api.put_blob(with_authorization(&bearer, in_process::streaming(messages))).await;
    let Err(status) = sent else { return Ok(Response::new(Body::empty())) };
    // Only for somebody whose URL counts. A connection to services elsewhere may not have let go of the body yet.
    if let (ErrorReason::BlobTooLarge, Ok(mut body)) = (error::reason(&status), body.try_lock()) {
        discard_rest(std::mem::take(&mut *body)).await;
    }
    Err(Failure::of(&status, Route::Blob))
}

/// The body as parts, and one that says that it was all. Ends with an error if the caller goes away before that.
fn messages(body: Arc<Mutex<Body>>) -> impl Stream<Item = Result<PutBlobRequest, Status>> + Send {
    let part = |chunk: Bytes, last: bool| PutBlobRequest { chunk, last, ..Default::default() };
    stream::unfold(Some(Bytes::new()), move |left| {
        let body = body.clone();
        async move {
            let mut left = left?;
            while left.is_empty() {
                let Some(frame) = body.lock().await.frame().await else { return Some((Ok(part(left, true)), None)) };
                let Ok(frame) = frame else { return Some((Err(in_process::cut_off()), None)) };
                left = frame.into_data().unwrap_or_default();
            }
            let chunk = left.split_to(left.len().min(PART_BYTES_MAX));
            Some((Ok(part(chunk, false)), Some(left)))
        }
    })
}

pub(crate) async fn get<A: Api>(State(gateway): State<Gateway<A>>, params: Params) -> Result<Response, Failure> {
    let bearer = url_bearer(&params.get("token")?)?;
    let answer = gateway.api.get_blob(with_authorization(&bearer, GetBlobRequest {})).await;
    let mut parts = Box::pin(answer.map_err(|s| Failure::of(&s, Route::Blob))?.into_inner().fuse());
    let first = parts.next().await.unwrap_or_else(|| Ok(GetBlobResponse::default()));
    let first = first.map_err(|s| Failure::of(&s, Route::Blob))?;
    // An error in the middle breaks the connection off: the length that was announced never comes.
    let chunks = parts.map(|part| part.map(|part| part.chunk));
    let mut response = Response::new(Body::from_stream(chunks));
    set_headers(response.headers_mut(), &first);
    Ok(response)
}

/// What was stored is somebody's, and comes from our own address: a browser must neither run it nor keep it.
fn set_headers(headers: &mut HeaderMap, first: &GetBlobResponse) {
    let content_type = HeaderValue::from_str(&first.content_type);
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(header::CONTENT_LENGTH, first.size_bytes.into());
    for (name, value) in [
        (header::CACHE_CONTROL, "private, no-store"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim().to_owned()
}
