use super::*;
use crate::blob_store_contract::{blob_store_contract, packet, put, read, snapshot};
use crate::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use bytes::Bytes;
use continuo_domain::Violation;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

struct Keep {
    server: S3Server,
    drafts: TempDir,
}

impl Keep {
    /// Objects in the bucket, whatever the server keeps beside them.
    fn objects(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
        }
        files(&self.server.directory.path().join(BUCKET))
    }
}

fn options(server: &S3Server, drafts: &Path) -> Options {
    Options {
        endpoint: server.endpoint.clone(),
        bucket: BUCKET.into(),
        region: "us-east-1".into(),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        path_style: true,
        prefix: "continuo/test".into(),
        drafts: drafts.to_owned(),
    }
}

async fn on_a_server() -> (Arc<BlobS3>, Keep) {
    let keep = Keep { server: S3Server::start().await, drafts: tempfile::tempdir().unwrap() };
    let store = BlobS3::open(options(&keep.server, keep.drafts.path())).await.unwrap();
    (Arc::new(store), keep)
}

blob_store_contract!(on_s3, crate::blob_store_contract, on_a_server());

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_what_to_do() {
    let server = S3Server::start().await;
    let right = options(&server, server.directory.path());
    for (options, said) in [
        (Options { bucket: "other".into(), ..right.clone() }, "has no bucket other; make it"),
        (
            Options { secret_key: "wrong".into(), ..right.clone() },
            "(403 SignatureDoesNotMatch); check blobs.s3.access_key",
        ),
        (Options { access_key: "nobody".into(), ..right.clone() }, "check blobs.s3.access_key"),
        (Options { endpoint: "http://127.0.0.1:1".into(), ..right.clone() }, "cannot be reached; start it"),
        (Options { endpoint: "ftp://h".into(), ..right.clone() }, "correct blobs.s3.endpoint"),
        (Options { path_style: false, ..right.clone() }, "set blobs.s3.path_style to true"),
    ] {
        let refused = BlobS3::open(options).await.unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
        assert!(!refused.contains(SECRET_KEY) && !refused.contains("wrong"), "{refused}");
    }
    assert!(!format!("{right:?}").contains(SECRET_KEY));
}

#[test]
fn without_its_bucket_nothing_is_known_of_an_object() {
    let said = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    assert!(is_missing(StatusCode::NOT_FOUND, &said("NoSuchKey")));
    assert!(is_missing(StatusCode::NOT_FOUND, ""));
    assert!(!is_missing(StatusCode::NOT_FOUND, &said("NoSuchBucket")));
    assert!(!is_missing(StatusCode::FORBIDDEN, &said("AccessDenied")));
    assert_eq!(refusal(StatusCode::FORBIDDEN, &said("AccessDenied")), "403 AccessDenied");
    assert_eq!(refusal(StatusCode::BAD_GATEWAY, "<html>"), "502");
}

#[tokio::test]
async fn what_is_cut_or_dropped_never_reaches_the_store() {
    let (store, keep) = on_a_server().await;
    let plain = ContentType::parse("").unwrap();
    let (asked, reached) = tokio::sync::oneshot::channel();
    let waits = stream::once(async move {
        asked.send(()).unwrap();
        std::future::pending().await
    });
    let endless = stream::iter([Ok(Bytes::from_static(b"half"))]).chain(waits).boxed();
    let key = packet("a");
    tokio::select! {
        done = store.put(&key, &plain, endless) => panic!("the body has no end: {done:?}"),
        _ = reached => {}
    }
    let cut: Error = Violation::new("chunk", "was cut").into();
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(cut)]).boxed();
    assert!(store.put(&key, &plain, broken).await.is_err());
    assert_eq!((keep.objects(), fs::read_dir(keep.drafts.path()).unwrap().count()), (0, 0));
}

#[tokio::test]
async fn more_packets_than_a_page_lists_go_too() {
    let (store, keep) = on_a_server().await;
    let folder = keep.server.directory.path().join(BUCKET).join("continuo/test/packets");
    put(&*store, &packet("one"), "", &[b"x"]).await.unwrap();
    (0..1_100).for_each(|n| fs::write(folder.join(format!("{n:064x}")), b"x").unwrap());
    assert_eq!(store.delete_packets(Timestamp(i64::MAX)).await.unwrap(), 1_101);
    assert_eq!(fs::read_dir(folder).map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn a_store_that_went_away_is_unavailable_and_never_empty() {
    let (store, mut keep) = on_a_server().await;
    put(&*store, &snapshot("s"), "", &[b"x"]).await.unwrap();
    assert!(read(&*store, &snapshot("s")).await.is_some());
    keep.server.stop().await;
    assert!(matches!(store.get(&snapshot("s")).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.hold(&snapshot("s")).await, Err(Error::Unavailable(_))));
    let (environment, session) = (EnvironmentId::from_body("e"), SessionId::from_body("s"));
    let failed = store.delete_session(&environment, &session).await;
    assert!(matches!(failed, Err(Error::Unavailable(_) | Error::OutcomeUnknown(_))), "{failed:?}");
}

#[tokio::test]
async fn a_blob_put_under_its_stored_name_is_found_by_its_key() {
    let (store, _keep) = on_a_server().await;
    let blob = |body: &'static [u8]| Blob {
        content_type: ContentType::parse("text/plain").unwrap(),
        size_bytes: body.len() as u64,
        body: futures_util::stream::iter([Ok(Bytes::from_static(body))]).boxed(),
    };
    for key in [packet("a/b"), snapshot("s")] {
        let name = store.names.of(&key);
        let name = name.strip_prefix(store.names.prefix()).unwrap();
        store.put_named(name, blob(b"first")).await.unwrap();
        assert_eq!(read(&*store, &key).await, Some(("text/plain".into(), b"first".to_vec())));
        store.put_named(name, blob(b"again")).await.unwrap();
    }
    let text = async |key| String::from_utf8(read(&*store, &key).await.unwrap().1).unwrap();
    assert_eq!(text(packet("a/b")).await, "first", "a packet of the same size is the same packet");
    assert_eq!(text(snapshot("s")).await, "again");
}
