//! `PUT …/{io}`: may this caller write the channel directly, and where? The answer is a stream of our own stream API.

use axum::{extract::State, response::Response};
use continuo_proto::{Api, v1::InitializeChannelRequest};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{
    Gateway,
    auth::Caller,
    base_url::BaseUrl,
    error::{Failure, Route},
    json,
    paths::{self, Params},
    streams::BASIN,
};

/// 100 years, the most that the services take.
const MAX_AGE_SECONDS_MAX: u64 = 3_153_600_000;

pub(crate) async fn initialize<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    base_url: BaseUrl,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let channel = params.channel()?;
    let max_age_seconds = max_age_seconds(&headers).filter(|_| !channel.name.is_empty());
    let request = caller.request(InitializeChannelRequest { channel: Some(channel), max_age_seconds });
    let answer =
        gateway.api.initialize_channel(request).await.map_err(|s| Failure::of(&s, Route::Initialize))?.into_inner();
    let direct_writes = &gateway.options.direct_writes;
    let mut response = json::bytes_response(StatusCode::ACCEPTED, r#"{"version":"v2"}"#);
    for (name, value) in [
        ("x-s2-access-token", &*answer.access_token),
        ("x-s2-stream-name", &answer.stream_name),
        ("x-s2-basin", BASIN),
        ("x-s2-endpoint", &base_url.join(paths::STREAMS)),
        ("x-s2-flush-interval-ms", &direct_writes.flush_interval_ms.to_string()),
        ("x-s2-max-retries", &direct_writes.max_retries.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

/// How long a named channel is to keep its records. What cannot be meant is passed over, and so is
/// `x-channel-delete-on-empty-seconds`: a channel costs nothing when it is empty.
fn max_age_seconds(headers: &HeaderMap) -> Option<u64> {
    let seconds = headers.get("x-channel-max-age-seconds")?.to_str().ok()?.trim().parse().ok()?;
    (1..=MAX_AGE_SECONDS_MAX).contains(&seconds).then_some(seconds)
}
