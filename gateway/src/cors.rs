//! Cross-origin rules: every answer may be read by every origin, since a bearer token and not a cookie proves who calls.
//! Preflights are answered here and never reach authentication.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::json;

const EXPOSED: &str = "x-trigger-jwt,x-trigger-jwt-claims,x-should-retry,x-ratelimit-limit,x-ratelimit-remaining,\
                       x-ratelimit-reset,Retry-After,X-Session-Settled,X-Stream-Version,X-Last-Chunk-Index,continuo-as-of";
const METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";

/// The middleware.
pub(crate) async fn middleware(request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight(request.headers());
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    allow(origin, next.run(request).await)
}

/// The answer to a preflight.
pub(crate) fn preflight(asked: &HeaderMap) -> Response {
    let mut response = json::bytes_response(StatusCode::OK, Body::from("{}"));
    let headers = response.headers_mut();
    if let Some(origin) = asked.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    response
}

/// Lets the asking origin read an answer.
pub(crate) fn allow(origin: Option<HeaderValue>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    set_unless_there(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}

fn set_unless_there(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}
