//! Pages of every origin may call the services over gRPC-Web: a bearer token and not a cookie proves who calls.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// What script may read of an answer: a refusal without a body has its status in the headers.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("grpc-status,grpc-message,grpc-status-details-bin,continuo-settled");
/// Seconds that a browser may keep the answer to a preflight, as on the REST routes.
const MAX_AGE: HeaderValue = HeaderValue::from_static("300");

/// Answers preflights, which carry no token and reach no service, and lets the asking origin read every other answer. A call
/// that names no origin comes from no page and is passed on untouched.
pub(crate) async fn allow(request: Request, next: Next) -> Response {
    if !request.headers().contains_key(ORIGIN) {
        return next.run(request).await;
    }
    let mut answer = match *request.method() {
        Method::OPTIONS => preflight(request.headers()),
        _ => next.run(request).await,
    };
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        headers.insert(VARY, HeaderValue::from_static("access-control-request-headers"));
    }
    answer
}
