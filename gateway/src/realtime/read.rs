//! `GET …/{io}`: subscribe, and `HEAD`: would it be allowed?

use axum::{extract::State, response::Response};
use bytes::Bytes;
use continuo_proto::{
    Api, SETTLED_METADATA,
    v1::{ChannelRef, Direction, ReadRequest, ReadStart, read_start::Start},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::is_reserved;
use crate::{
    Gateway,
    auth::Caller,
    error::{Failure, Route},
    paths::Params,
    sse,
};

const TIMEOUT_SECONDS_DEFAULT: u32 = 60;
const TIMEOUT_SECONDS_MAX: i64 = 600;

pub(crate) async fn subscribe<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (request, note) = request(params.channel()?, &headers)?;
    let answer = gateway.api.read(caller.request(request)).await.map_err(|s| Failure::of(&s, Route::ReadChannel))?;
    let settled = answer.metadata().get(SETTLED_METADATA).is_some_and(|value| value.as_bytes() == b"true");
    let mut response = Response::new(sse::body(note, answer.into_inner(), gateway.options.stopping.clone()));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        (HeaderName::from_static("x-stream-version"), "v2"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if settled {
        response.headers_mut().insert("x-session-settled", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The same call as [`subscribe`], so that the answer is the same, given up at once.
pub(crate) async fn probe<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (request, _) = request(params.channel()?, &headers)?;
    gateway.api.read(caller.request(request)).await.map_err(|s| Failure::of(&s, Route::ReadChannel))?;
    let mut response = Response::default();
    response.headers_mut().insert("x-last-chunk-index", HeaderValue::from_static("0"));
    Ok(response)
}

/// What the headers ask for, and what has to be said about it.
fn request(channel: ChannelRef, headers: &HeaderMap) -> Result<(ReadRequest, Option<Bytes>), Failure> {
    let idle_timeout_ms = timeout_seconds(headers)? * 1_000;
    let peek_settled = is_reserved(&channel, Direction::Out) && text(headers, "x-peek-settled") == Some("1");
    let latest = text(headers, "x-trigger-stream-start").is_some_and(|v| v.trim().eq_ignore_ascii_case("latest"));
    let (start, note) = match text(headers, "last-event-id") {
        Some(cursor) => match last_event_id(cursor) {
            Some(seq_num) => (from(Start::SeqNum(seq_num.saturating_add(1))), None),
            None => {
                (None, Some(sse::comment("gap unknown: Last-Event-ID is not a number; starting from the beginning")))
            }
        },
        None if latest => (from(Start::TailOffset(1)), None),
        None => (None, None),
    };
    let skip_commands = start.as_ref().is_some_and(|s| matches!(s.start, Some(Start::TailOffset(_))));
    let start = start.map(|start| ReadStart { skip_commands, ..start });
    let heartbeat_ms = sse::HEARTBEAT.as_millis() as u32;
    Ok((ReadRequest { channel: Some(channel), start, idle_timeout_ms, peek_settled, heartbeat_ms }, note))
}

/// Past the tail is no error here: the client may come from a stream that was written anew.
fn from(start: Start) -> Option<ReadStart> {
    Some(ReadStart { start: Some(start), clamp: true, skip_commands: false })
}

/// A header that was sent and is not empty. What is not ASCII cannot be meant by any of these headers.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?")).filter(|text| !text.is_empty())
}

/// The number of the last record the client has seen: the leading digits, as consumers send back our whole `id` line or
/// other suffixes. Too large a number stands for the tail.
fn last_event_id(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())];
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

fn timeout_seconds(headers: &HeaderMap) -> Result<u32, Failure> {
    let bad = |text| Failure::plain(StatusCode::BAD_REQUEST, text);
    let Some(value) = headers.get("timeout-seconds") else { return Ok(TIMEOUT_SECONDS_DEFAULT) };
    let text = value.to_str().unwrap_or_default().trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("Invalid timeout seconds"));
    }
    // Only a number of absurd length does not fit.
    let seconds: i64 = text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX });
    match seconds {
        i64::MIN..=0 => Err(bad("Timeout seconds must be greater than 0")),
        seconds if seconds > TIMEOUT_SECONDS_MAX => Err(bad("Timeout seconds must be less than 600")),
        seconds => Ok(seconds as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leading_digits_are_the_cursor(n in any::<u64>(), suffix in "([,\\- a-z].*)?") {
            prop_assert_eq!(last_event_id(&format!("{n}{suffix}")), Some(n));
        }

        #[test]
        fn the_parser_never_panics(text in ".*") {
            let _ = last_event_id(&text);
        }
    }

    #[test]
    fn cursors() {
        for (text, cursor) in
            [("0", Some(0)), ("12,3,400", Some(12)), ("1767225600000-0", Some(1_767_225_600_000)), (" 7 ", Some(7))]
        {
            assert_eq!(last_event_id(text), cursor, "{text}");
        }
        assert_eq!(last_event_id("99999999999999999999999"), Some(u64::MAX));
        for text in ["", "abc", "-1", ",1", "$"] {
            assert_eq!(last_event_id(text), None, "{text}");
        }
    }
}
