//! The console: a page of its own under `/console/`, which speaks gRPC-Web to the server it came from. Its files are part of
//! the binary; what they are made of, and how, is in `gateway/console`. The docs that it shows are beside them as their
//! sources ([`docs`]), for whoever asks.

mod docs;
mod file;

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    Router,
    extract::{Path, Request},
    response::Response,
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use include_dir::{Dir, include_dir};

use file::{File, Naming};

static DIST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/console/dist");
static FILES: LazyLock<HashMap<&str, File>> = LazyLock::new(|| {
    let named = DIST.files().filter_map(|file| Some((file.path().to_str()?, file.contents())));
    named.map(|(name, content)| (name, File::new(name, naming(name), content))).collect()
});

const HOME: &str = "/console/";
const INDEX: &str = "index.html";

/// The routes of the console. For the port that serves gRPC-Web too: without it the page would have nobody to ask. They need
/// no credential, since nothing in them is anybody's, and no other origin may read them.
pub fn console() -> Router {
    Router::new()
        .route("/console", get(async || (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, HOME)])))
        .route(HOME, get(async |headers: HeaderMap| FILES[INDEX].answer(&headers)))
        .route("/console/{file}", get(page_file))
        .route("/console/docs/{*path}", get(source))
        .method_not_allowed_fallback(crate::method_not_allowed)
}

async fn page_file(Path(name): Path<String>, request: Request) -> Response {
    answer(FILES.get(name.as_str()), request).await
}

async fn source(Path(path): Path<String>, request: Request) -> Response {
    answer(docs::FILES.get(&path), request).await
}

async fn answer(file: Option<&File>, request: Request) -> Response {
    match file {
        Some(file) => file.answer(request.headers()),
        None => crate::not_found(request).await,
    }
}

/// The build gives a hash to what it makes, after a hyphen; the page itself and the licences have none.
fn naming(name: &str) -> Naming {
    if name.contains('-') { Naming::Hashed } else { Naming::Lasting }
}
