//! A file that is part of the binary, as a browser gets it.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Whatever a record says, the page runs its own script, loads its own files and speaks to its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) struct File {
    content_type: &'static str,
    caching: &'static str,
    /// Weak: it stands for the content in either coding.
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

/// Does a name mean the same content for ever?
#[derive(Clone, Copy)]
pub(super) enum Naming {
    /// It holds its content's hash.
    Hashed,
    Lasting,
}

impl File {
    pub(super) fn new(name: &str, naming: Naming, content: impl Into<Cow<'static, [u8]>>) -> Self {
        let content_type = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("json") => "application/json",
            Some("md") => "text/markdown; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        };
        let caching = match naming {
            Naming::Hashed => "public, max-age=31536000, immutable",
            Naming::Lasting => "no-cache",
        };
        let content = content.into();
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        let gzip = gzip(&content);
        let plain = match content {
            Cow::Borrowed(content) => Bytes::from_static(content),
            Cow::Owned(content) => content.into(),
        };
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are visible");
        Self { content_type, caching, tag, plain, gzip }
    }

    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let headers = [
            (header::CACHE_CONTROL, HeaderValue::from_static(self.caching)),
            (header::ETAG, self.tag.clone()),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
            (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        ];
        if lists(asked, header::IF_NONE_MATCH).any(|tag| tag.as_bytes() == self.tag.as_bytes() || tag == "*") {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type))];
        if lists(asked, header::ACCEPT_ENCODING).any(|coding| coding == "gzip") {
            let coding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            return (headers, content_type, coding, self.gzip.clone()).into_response();
        }
        (headers, content_type, self.plain.clone()).into_response()
    }
}

/// What a header lists; a value with parameters counts as another one.
fn lists(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn gzip(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes every byte").into()
}
