//! The docs: every page and every definition of the repository is served as it is and listed, and no link leads nowhere.

use crate::support::TestNode;
use crate::support::http::Request;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

const PROTO: &str = "proto/continuo/v1";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is to be read: Markdown and definitions, by their paths in the repository.
pub(crate) fn sources() -> BTreeSet<String> {
    let mut found = BTreeSet::from(["README.md".to_owned()]);
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from(PROTO)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md" || extension == "proto") {
                found.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn pages() -> impl Iterator<Item = (String, String)> {
    let pages = sources().into_iter().filter(|path| path.ends_with(".md"));
    pages.map(|path| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    })
}

/// The lines of a page that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<&str> {
    prose(text).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next()).collect()
}

/// The names that a page's headings have in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let letter = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let anchor = |heading: &str| heading.to_lowercase().replace(' ', "-").chars().filter(|c| letter(*c)).collect();
    headings.map(anchor).collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

#[tokio::test]
async fn each_is_served_as_it_is_and_listed() {
    let node = TestNode::start().await;
    for path in sources() {
        let answer = Request::new("GET", &format!("/console/docs/{path}")).send(&node.url).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == fs::read(root().join(&path)).unwrap(), "{path}");
    }
    let index = Request::new("GET", "/console/docs/index.json").send(&node.url).await.json();
    let list = |name: &str, field: &str| -> Vec<String> {
        let entries = index[name].as_array().unwrap().iter();
        entries.map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
    };
    let listed: Vec<_> = [list("pages", "path"), list("definitions", "path")].concat();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), sources());
    assert_eq!(listed.len(), sources().len(), "each once: {listed:?}");

    assert_eq!(list("pages", "path")[..3], ["README.md", "docs/concepts.md", "docs/clients.md"]);
    assert!(list("pages", "path")[3].starts_with("docs/clients/"), "a folder follows its page");
    assert_eq!(list("pages", "title")[0], "Continuo");
    assert_eq!(list("definitions", "title")[..2], ["SessionService", "ChannelService"]);
    assert!(list("definitions", "title").contains(&"error reason".to_owned()));
}

#[test]
fn every_link_leads_to_a_page_or_to_a_file_of_the_repository() {
    let mut seen = 0;
    for (page, text) in pages() {
        for link in links(&text).into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = match file {
                "" => PathBuf::from(&page),
                _ => plain(&Path::new(&page).parent().unwrap().join(file)),
            };
            assert!(root().join(&target).exists(), "{page}: {link}");
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(root().join(&target)).unwrap();
                assert!(anchors(&text).contains(anchor), "{page}: {link} names no heading");
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} links were found");
}

#[test]
fn every_page_begins_with_its_title_and_some_page_leads_to_it() {
    let all: Vec<_> = pages().collect();
    let reached: BTreeSet<_> = all
        .iter()
        .flat_map(|(page, text)| {
            let folder = Path::new(page).parent().unwrap();
            let files = links(text).into_iter().map(|link| link.split('#').next().unwrap());
            files.filter(|file| file.ends_with(".md") && !file.contains("://")).map(|file| plain(&folder.join(file)))
        })
        .collect();
    for (page, text) in &all {
        assert!(text.starts_with("# "), "{page}");
        assert!(page == "README.md" || reached.contains(Path::new(page)), "no page links to {page}");
    }
}
