//! `GET /openapi.json`: what this surface takes and answers, for people and for programs that make clients of it.
//!
//! The document is kept by hand beside this crate, for what it says cannot be read off the code: tests compare its routes with
//! those that are served, and its words with live answers.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::json;

const SOURCE: &str = include_str!("../openapi.json");
/// Stands in the source where the release is named.
const VERSION: &str = r#""version": "0.0.0""#;
/// It changes with a release only; the ETag tells whether it did.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, no-cache");

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| SOURCE.replacen(VERSION, &format!(r#""version": "{}""#, env!("CARGO_PKG_VERSION")), 1));

static ETAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    DOCUMENT.hash(&mut hasher);
    HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())).unwrap_or(HeaderValue::from_static("\"\""))
});

/// Asks for no credential: it tells nothing of whom the server serves.
pub(crate) async fn get(asked: HeaderMap) -> Response {
    let mut response = if is_known(&asked) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json::bytes_response(StatusCode::OK, DOCUMENT.as_str())
    };
    let headers: [(HeaderName, HeaderValue); 2] =
        [(header::ETAG, ETAG.clone()), (header::CACHE_CONTROL, CACHE_CONTROL)];
    response.headers_mut().extend(headers);
    response
}

/// Does the caller have this version already?
fn is_known(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag.as_bytes() == ETAG.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_named_once() {
        assert_eq!(SOURCE.matches(VERSION).count(), 1);
        let document: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(ETAG.len(), 18);
    }

    #[test]
    fn a_version_is_known_by_its_tag() {
        let known = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, text.parse().unwrap());
            is_known(&headers)
        };
        let tag = ETAG.to_str().unwrap();
        assert!(known(tag) && known("*") && known(&format!("W/{tag}")) && known(&format!("\"a\", {tag}")));
        assert!(!known("\"a\"") && !known("") && !is_known(&HeaderMap::new()));
    }
}
