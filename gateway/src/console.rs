//! The console: a page of its own under `/console/`, which speaks gRPC-Web to the server it came from. Its files are part of
//! the binary; what they are made of, and how, is in `gateway/console`.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    sync::LazyLock,
};

use axum::{
    Router,
    extract::{Path, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use include_dir::{Dir, include_dir};

static DIST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/console/dist");
static FILES: LazyLock<HashMap<&str, File>> = LazyLock::new(|| {
    DIST.files()
        .filter_map(|file| Some((file.path().to_str()?, File::new(file.path().to_str()?, file.contents()))))
        .collect()
});

const HOME: &str = "/console/";
const INDEX: &str = "index.html";
/// Whatever a record says, the page runs its own script, loads its own files and speaks to its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The routes of the console. For the port that serves gRPC-Web too: without it the page would have nobody to ask. They need
/// no credential, since nothing in them is anybody's, and no other origin may read them.
pub fn console() -> Router {
    Router::new()
        .route("/console", get(async || (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, HOME)])))
        .route(HOME, get(async |headers: HeaderMap| FILES[INDEX].answer(&headers)))
        .route("/console/{file}", get(file))
        .method_not_allowed_fallback(crate::method_not_allowed)
}

async fn file(Path(name): Path<String>, request: Request) -> Response {
    match FILES.get(name.as_str()) {
        Some(file) => file.answer(request.headers()),
        None => crate::not_found(request).await,
    }
}

struct File {
    content_type: &'static str,
    /// Names that hold their content's hash never mean anything else.
    caching: &'static str,
    /// Weak: it stands for the content in either coding.
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

impl File {
    fn new(name: &str, content: &'static [u8]) -> Self {
        let content_type = match name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("json") => "application/json",
            _ => "text/plain; charset=utf-8",
        };
        let is_hashed = name.contains('-');
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        Self {
            content_type,
            caching: if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" },
            tag: HeaderValue::try_from(tag).expect("hexadecimal digits are visible"),
            plain: Bytes::from_static(content),
            gzip: gzip(content),
        }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
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
