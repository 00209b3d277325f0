//! `PUT …/{io}`: may this caller write the channel directly, and where?

use axum::{extract::State, response::Response};
use continuo_proto::{Api, v1::InitializeChannelRequest};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::{
    Gateway, StreamApi,
    auth::Caller,
    error::{Failure, Route},
    json,
    paths::Params,
};

pub(crate) async fn initialize<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Failure> {
    let channel = params.channel()?;
    let request = caller.request(InitializeChannelRequest { channel: Some(channel), max_age_seconds: None });
    let answer = gateway.api.initialize_channel(request).await.map_err(|s| Failure::of(&s, Route::Initialize))?;
    let Some(stream_api) = &gateway.options.stream_api else {
        let text =
            "Direct channel writes are not provided: this server has no stream API configured; use POST …/append";
        return Err(Failure::error(StatusCode::NOT_IMPLEMENTED, text).retry(false));
    };
    let mut response = json::bytes_response(StatusCode::ACCEPTED, r#"{"version":"v2"}"#);
    describe(stream_api, &answer.get_ref().stream_name, caller.token(), response.headers_mut());
    Ok(response)
}

/// The token handed out is the caller's own: it opens nothing that the caller could not open before.
fn describe(stream_api: &StreamApi, stream_name: &str, token: &str, headers: &mut HeaderMap) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-s2-access-token", token);
    set("x-s2-stream-name", stream_name);
    set("x-s2-basin", &stream_api.basin);
    set("x-s2-endpoint", &stream_api.endpoint);
    set("x-s2-flush-interval-ms", &stream_api.flush_interval_ms.to_string());
    set("x-s2-max-retries", &stream_api.max_retries.to_string());
}
