//! The docs, as their sources: the Markdown of this repository and the definitions of the services, each under the path it has
//! there, so that links from page to page lead somewhere as they are. What lists them is made of what is there.

use std::{collections::HashMap, path::Path, sync::LazyLock};

use include_dir::{Dir, include_dir};
use serde::Serialize;

use super::file::{File, Naming};

static README: &str = include_str!("../../../README.md");
static DOCS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../docs");
static PROTO: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../proto/continuo/v1");

/// Lists the others.
const INDEX: &str = "index.json";
/// Read in this order; what is not named comes after, by its path. A folder follows the page of its name.
const PAGES: [&str; 6] =
    ["README.md", "docs/concepts.md", "docs/clients.md", "docs/migration.md", "docs/limits.md", "docs/replication.md"];
const SERVICES: [&str; 7] = ["session", "channel", "run", "worker", "token", "blob", "admin"];

/// Every file by its path in the repository, and [`INDEX`].
pub(super) static FILES: LazyLock<HashMap<String, File>> = LazyLock::new(|| {
    let pages = sources(&DOCS, "docs", "md").chain([("README.md".to_owned(), README)]);
    let mut pages: Vec<_> = pages.collect();
    pages.sort_by_cached_key(|(path, _)| (place_of_page(path), path.clone()));
    let mut definitions: Vec<_> = sources(&PROTO, "proto/continuo/v1", "proto").collect();
    definitions.sort_by_cached_key(|(path, _)| (place_of_definitions(path), path.clone()));

    let index =
        Index { pages: entries(&pages, title_of_page), definitions: entries(&definitions, title_of_definitions) };
    let index = serde_json::to_vec(&index).expect("text is JSON");
    let sources = pages.into_iter().chain(definitions);
    let files = sources.map(|(path, text)| (File::new(&path, Naming::Lasting, text.as_bytes()), path));
    let index = (File::new(INDEX, Naming::Lasting, index), INDEX.to_owned());
    files.chain([index]).map(|(file, path)| (path, file)).collect()
});

#[derive(Serialize)]
struct Index {
    /// Markdown.
    pages: Vec<Entry>,
    /// Files of proto3.
    definitions: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    title: String,
}

fn entries(sources: &[(String, &'static str)], title: fn(&str, &'static str) -> String) -> Vec<Entry> {
    sources.iter().map(|(path, text)| Entry { path: path.clone(), title: title(path, text) }).collect()
}

/// The files of a folder and of those in it, each with its path in the repository.
fn sources(
    folder: &'static Dir<'static>,
    at: &'static str,
    extension: &'static str,
) -> impl Iterator<Item = (String, &'static str)> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.into_iter().filter_map(move |file| {
        let path = file.path().to_str()?;
        let is_source = Path::new(path).extension().is_some_and(|found| found == extension);
        is_source.then_some((format!("{at}/{path}"), file.contents_utf8()?))
    })
}

fn collect<'a>(folder: &'a Dir<'a>, into: &mut Vec<&'a include_dir::File<'a>>) {
    into.extend(folder.files());
    for folder in folder.dirs() {
        collect(folder, into);
    }
}

fn place_of_page(path: &str) -> usize {
    let belongs = |page: &&str| path == *page || path.starts_with(&format!("{}/", page.trim_end_matches(".md")));
    PAGES.iter().position(belongs).unwrap_or(PAGES.len())
}

fn place_of_definitions(path: &str) -> usize {
    let belongs = |service: &&str| path.ends_with(&format!("/{service}_service.proto"));
    SERVICES.iter().position(belongs).unwrap_or(SERVICES.len())
}

/// Its first heading.
fn title_of_page(path: &str, text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(path).to_owned()
}

/// The service in it, or the words of its name.
fn title_of_definitions(path: &str, text: &str) -> String {
    let service = text.lines().find_map(|line| line.strip_prefix("service ")?.strip_suffix(" {"));
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or(path);
    service.map_or_else(|| stem.replace('_', " "), str::to_owned)
}
