//! Request bodies, read up to a cap.

use std::time::Duration;

use axum::{body::Body, extract::FromRequest};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use serde_json::value::RawValue;

use crate::error::Failure;

/// Create and update of a session.
pub(crate) const SESSION_BYTES_MAX: usize = 32_768;
/// Close, end-and-continue.
pub(crate) const SMALL_BYTES_MAX: usize = 1_024;
/// Waits, tokens, tags.
pub(crate) const MEDIUM_BYTES_MAX: usize = 10_240;
/// A record.
pub(crate) const RECORD_BYTES_MAX: usize = 1_048_576;
/// Trigger, metadata, waitpoint output: a payload of 3 MiB as an escaped JSON string, with room for options.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 8 * 1_048_576;

/// Of a body that is too large, so much is read and thrown away: a client that is still sending when the connection closes
/// may never see the 413.
const DISCARD_BYTES_MAX: usize = 8 * 1_048_576;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
/// A client that sends nothing for so long has either seen the answer coming or never meant to send.
const DISCARD_SILENCE_MAX: Duration = Duration::from_millis(500);
/// How long a client may pause within a body.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The whole body, at most `MAX` bytes.
pub(crate) struct Capped<const MAX: usize>(pub(crate) Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Capped<MAX> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        Ok(Self(capped(&parts.headers, body, MAX).await?))
    }
}

/// Why a body was not read to its end. Each surface words it in its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Larger than its route takes, or of no sensible length.
    TooLarge,
    /// The client fell silent.
    TooSlow,
    /// The client went away.
    Cut,
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::too_large(),
            Unread::TooSlow => Self::too_slow(),
            Unread::Cut => Self::invalid_body("The request body ended early"),
        }
    }
}

/// The whole body, at most so many bytes.
pub(crate) async fn capped(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Unread> {
    let read = match declared(headers) {
        Declared::Nonsense => return Err(Unread::TooLarge),
        Declared::Bytes(n) if n > bytes_max => Err(Unread::TooLarge),
        Declared::Bytes(n) => read(&mut body, bytes_max, n).await,
        Declared::Nothing => read(&mut body, bytes_max, 0).await,
    };
    // Whoever asks before it sends has sent nothing yet, and reading would tell it to go ahead.
    if read.is_err() && !headers.contains_key(header::EXPECT) {
        discard_rest(body).await;
    }
    read
}

enum Declared {
    Nothing,
    Bytes(usize),
    Nonsense,
}

fn declared(headers: &HeaderMap) -> Declared {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Declared::Nothing };
    match length.to_str().ok().and_then(|text| text.trim().parse().ok()) {
        Some(bytes) => Declared::Bytes(bytes),
        None => Declared::Nonsense,
    }
}

async fn read(body: &mut Body, bytes_max: usize, expected: usize) -> Result<Bytes, Unread> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let too_slow = |_| Unread::TooSlow;
    while let Some(frame) = tokio::time::timeout(SILENCE_MAX, body.frame()).await.map_err(too_slow)? {
        let frame = frame.map_err(|_| Unread::Cut)?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(Unread::TooLarge);
        }
        // Most bodies are one frame and are not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(expected.max(first.len() + data.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads what a client still sends of a body that was refused, within bounds.
pub(crate) async fn discard_rest(body: Body) {
    // What was sent in vain is not the answer's business: it goes out either way.
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, discard(body)).await;
}

async fn discard(mut body: Body) {
    let mut bytes = 0;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(DISCARD_SILENCE_MAX, body.frame()).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARD_BYTES_MAX {
            return;
        }
    }
}

/// The body as JSON. What JavaScript calls falsy is no request.
pub(crate) fn json(body: &[u8]) -> Result<&RawValue, Failure> {
    if body.is_empty() {
        return Err(Failure::invalid_body("Request body is empty"));
    }
    let raw: &RawValue = serde_json::from_slice(body).map_err(|_| Failure::invalid_body("Invalid JSON"))?;
    let falsy = match raw.get() {
        "null" | "false" | "\"\"" => true,
        text => text.parse::<f64>().is_ok_and(|n| n == 0.0),
    };
    if falsy { Err(Failure::invalid_body("Invalid JSON")) } else { Ok(raw) }
}

/// As [`json`], where no body at all stands for `{}`.
pub(crate) fn json_or_empty_object(body: &[u8]) -> Result<&RawValue, Failure> {
    json(if body.is_empty() { b"{}" } else { body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_arrives_is_given_up() {
        for content_length in ["10", "99999999"] {
            let begun = futures_util::stream::iter([Ok::<_, std::io::Error>("123")]);
            let body = Body::from_stream(begun.chain(futures_util::stream::pending()));
            let request = Request::builder().header(header::CONTENT_LENGTH, content_length).body(body).unwrap();
            assert!(Capped::<10>::from_request(request, &()).await.is_err(), "it ends by itself");
        }
    }

    #[test]
    fn falsy_json_is_invalid() {
        for text in ["null", "0", "-0", "0.0", "0e9", "false", "\"\"", "{", "", " "] {
            assert!(json(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["{}", "[]", "1", "true", "\"0\"", "\"a\""] {
            assert!(json(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
