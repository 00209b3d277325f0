//! Blobs.

use super::{named, session};
use bytes::Bytes;
use continuo_domain::blob::{ContentType, PacketPath};
use continuo_domain::{Error, Result, RunId, Violation};
use continuo_ports::{Blob, BlobBody};
use continuo_proto::{BLOBS_PATH, v1};
use continuo_usecases::{BlobTarget, RunValue, SignedUrl, Upload};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use tonic::Status;

use crate::status::of_error;
use v1::blob_target::Target;

/// Reads which blob.
pub(crate) fn parse_target(wire: Option<v1::BlobTarget>) -> Result<BlobTarget> {
    match wire.and_then(|wire| wire.target) {
        Some(Target::Session(text)) => session::parse_ref("target.session", &text).map(BlobTarget::Snapshot),
        Some(Target::Packet(text)) => named("target.packet", PacketPath::parse(&text)).map(BlobTarget::Packet),
        Some(Target::Run(wire)) => {
            let run = named("target.run.run_id", RunId::parse(&wire.run_id))?;
            Ok(BlobTarget::OfRun(run, parse_run_value(wire.field())?))
        }
        None => Err(Violation::new("target", "must name a session, a packet or a run").into()),
    }
}

fn parse_run_value(field: v1::RunField) -> Result<RunValue> {
    match field {
        v1::RunField::Payload => Ok(RunValue::Payload),
        v1::RunField::Output => Ok(RunValue::Output),
        v1::RunField::Unspecified => {
            Err(Violation::new("target.run.field", "must be the payload or the output").into())
        }
    }
}

/// The path of a signed URL, and what names its packet.
pub(crate) fn print_url(url: &SignedUrl) -> (String, Option<String>) {
    (format!("{BLOBS_PATH}{}", url.token), url.packet.as_ref().map(|packet| packet.as_str().to_owned()))
}

/// Reads a blob from its parts. The first one says what it is.
pub(crate) fn parse_upload<S>(first: v1::PutBlobRequest, rest: S) -> Result<Upload>
where
    S: Stream<Item = Result<v1::PutBlobRequest, Status>> + Send + 'static,
{
    let content_type = ContentType::parse(&first.content_type)?;
    let size_bytes = first.size_bytes;
    let parts = stream::once(async { Ok(first) }).chain(rest).boxed();
    Ok(Upload { content_type, size_bytes, body: body(parts) })
}

type Parts = BoxStream<'static, Result<v1::PutBlobRequest, Status>>;

/// The bytes up to the part that says it is the last. Ends that come otherwise are errors.
fn body(parts: Parts) -> BlobBody {
    stream::try_unfold(Some(parts), |parts| async move {
        let Some(mut parts) = parts else { return Ok(None) };
        match parts.next().await {
            Some(Ok(part)) if part.last => Ok(Some((part.chunk, None))),
            Some(Ok(part)) => Ok(Some((part.chunk, Some(parts)))),
            Some(Err(_)) | None => Err(cut()),
        }
    })
    .boxed()
}

fn cut() -> Error {
    Violation::new("last", "never came: the stream was cut").into()
}

/// Prints a blob: first what it is, then its bytes.
pub(crate) fn print_blob(blob: Blob) -> impl Stream<Item = Result<v1::GetBlobResponse, Status>> + Send {
    let first = v1::GetBlobResponse {
        content_type: blob.content_type.as_str().to_owned(),
        size_bytes: blob.size_bytes,
        chunk: Bytes::new(),
    };
    let chunks = blob.body.map(|chunk| match chunk {
        Ok(chunk) => Ok(v1::GetBlobResponse { chunk, ..Default::default() }),
        Err(error) => Err(of_error(error)),
    });
    stream::once(async { Ok(first) }).chain(chunks)
}
