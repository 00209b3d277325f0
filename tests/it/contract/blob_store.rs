//! What every `BlobStore` keeps.

use bytes::Bytes;
use continuo_domain::blob::{BlobKey, BlobKind, ContentType, PacketPath};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, Violation};
use continuo_ports::BlobStore;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

/// Runs the suite on an adapter. Takes a name for the module of tests, the path of this module, and an expression that
/// makes an empty store beside whatever must outlive it.
macro_rules! blob_store_contract {
    ($name:ident, $suite:path, $new:expr) => {
        mod $name {
            use super::*;
            use $suite as suite;

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn what_was_put_comes_back() {
                let (store, _keep) = $new.await;
                suite::what_was_put_comes_back(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn nothing_is_no_error() {
                let (store, _keep) = $new.await;
                suite::nothing_is_no_error(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_put_replaces_whole_or_not_at_all() {
                let (store, _keep) = $new.await;
                suite::a_put_replaces_whole_or_not_at_all(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_reader_keeps_the_version_it_began_with() {
                let (store, _keep) = $new.await;
                suite::a_reader_keeps_the_version_it_began_with(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_held_blob_reads_in_parts_and_never_of_another_version() {
                let (store, _keep) = $new.await;
                suite::a_held_blob_reads_in_parts_and_never_of_another_version(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn packets_go_by_their_age() {
                let (store, _keep) = $new.await;
                suite::packets_go_by_their_age(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn of_concurrent_puts_one_wins_whole() {
                let (store, _keep) = $new.await;
                suite::of_concurrent_puts_one_wins_whole(store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn names_do_not_meet() {
                let (store, _keep) = $new.await;
                suite::names_do_not_meet(&*store).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_session_goes_alone() {
                let (store, _keep) = $new.await;
                suite::a_session_goes_alone(&*store).await;
            }
        }
    };
}
pub(crate) use blob_store_contract;

/// More than any adapter reads at once.
const LARGE_BYTES: usize = 3 << 20;

pub(crate) fn key(environment: &str, kind: BlobKind) -> BlobKey {
    BlobKey { environment: EnvironmentId::from_body(environment), kind }
}

pub(crate) fn packet(path: &str) -> BlobKey {
    key("e", BlobKind::Packet(PacketPath::parse(path).unwrap()))
}

pub(crate) fn snapshot(session: &str) -> BlobKey {
    key("e", BlobKind::Snapshot(SessionId::from_body(session)))
}

pub(crate) async fn put(store: &dyn BlobStore, key: &BlobKey, content_type: &str, chunks: &[&[u8]]) -> Result<()> {
    let chunks: Vec<_> = chunks.iter().map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    store.put(key, &ContentType::parse(content_type).unwrap(), stream::iter(chunks).boxed()).await
}

/// Content type and bytes, checked against the size that was announced.
pub(crate) async fn read(store: &dyn BlobStore, key: &BlobKey) -> Option<(String, Vec<u8>)> {
    let blob = store.get(key).await.unwrap()?;
    let chunks: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    let bytes = chunks.concat();
    assert_eq!(bytes.len() as u64, blob.size_bytes);
    Some((blob.content_type.as_str().to_owned(), bytes))
}

fn pattern(seed: usize) -> Vec<u8> {
    (0..LARGE_BYTES).map(|i| (i.wrapping_mul(31) + seed) as u8).collect()
}

pub(crate) async fn what_was_put_comes_back(store: &dyn BlobStore) {
    let large = pattern(0);
    let pieces: Vec<&[u8]> = large.chunks(70_001).collect();
    for (key, chunks) in
        [(snapshot("s"), &pieces[..]), (packet("a/b"), &[b"one".as_slice(), b"", b"two"][..]), (packet("empty"), &[])]
    {
        put(store, &key, "application/json; v=1", chunks).await.unwrap();
        assert_eq!(read(store, &key).await, Some(("application/json; v=1".into(), chunks.concat())), "{key}");
    }
}

pub(crate) async fn nothing_is_no_error(store: &dyn BlobStore) {
    assert_eq!(read(store, &packet("a")).await, None);
    assert_eq!(read(store, &snapshot("s")).await, None);
    store.delete_session(&EnvironmentId::from_body("e"), &SessionId::from_body("s")).await.unwrap();
}

pub(crate) async fn a_put_replaces_whole_or_not_at_all(store: &dyn BlobStore) {
    let key = snapshot("s");
    let broken = || {
        let cut: Error = Violation::new("chunk", "was cut").into();
        stream::iter([Ok(Bytes::from_static(b"half")), Err(cut)]).boxed()
    };
    let plain = ContentType::parse("").unwrap();
    assert!(matches!(store.put(&key, &plain, broken()).await, Err(Error::InvalidArgument(_))));
    assert_eq!(read(store, &key).await, None);
    put(store, &key, "a/first", &[b"first, and longer"]).await.unwrap();
    assert!(store.put(&key, &plain, broken()).await.is_err());
    assert_eq!(read(store, &key).await, Some(("a/first".into(), b"first, and longer".to_vec())));
    put(store, &key, "a/second", &[b"second"]).await.unwrap();
    assert_eq!(read(store, &key).await, Some(("a/second".into(), b"second".to_vec())));
}

pub(crate) async fn a_reader_keeps_the_version_it_began_with(store: &dyn BlobStore) {
    let (key, old) = (snapshot("s"), pattern(1));
    put(store, &key, "", &[&old]).await.unwrap();
    let mut blob = store.get(&key).await.unwrap().unwrap();
    let first = blob.body.next().await.unwrap().unwrap();
    put(store, &key, "", &[b"new"]).await.unwrap();
    store.delete_session(&key.environment, &SessionId::from_body("s")).await.unwrap();
    let rest: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    assert!([&first[..], &rest.concat()].concat() == old, "one version, whole");
    assert_eq!(read(store, &key).await, None);
}

pub(crate) async fn a_held_blob_reads_in_parts_and_never_of_another_version(store: &dyn BlobStore) {
    let (key, old) = (snapshot("s"), pattern(2));
    assert!(store.hold(&key).await.unwrap().is_none());
    put(store, &key, "a/b", &[&old]).await.unwrap();
    let held = store.hold(&key).await.unwrap().unwrap();
    assert_eq!(held.size_bytes(), LARGE_BYTES as u64);
    for range in [0..0, 0..1, 7..70_001, 5..LARGE_BYTES, LARGE_BYTES - 22..LARGE_BYTES, 0..LARGE_BYTES] {
        let read = held.read(range.start as u64..range.end as u64).await.unwrap().unwrap();
        assert!(read == old[range.clone()], "{range:?}");
    }
    let is_old_or_nothing = async || held.read(3..9).await.unwrap().is_none_or(|read| read == old[3..9]);
    put(store, &key, "a/b", &[&pattern(3)]).await.unwrap();
    assert!(is_old_or_nothing().await, "replaced");
    store.delete_session(&key.environment, &SessionId::from_body("s")).await.unwrap();
    assert!(is_old_or_nothing().await, "deleted");
}

pub(crate) async fn packets_go_by_their_age(store: &dyn BlobStore) {
    let other = key("f", BlobKind::Packet(PacketPath::parse("a").unwrap()));
    for key in [&packet("a"), &packet("b/c"), &other, &snapshot("s")] {
        put(store, key, "", &[b"x"]).await.unwrap();
    }
    assert_eq!(store.delete_packets(Timestamp(1_000_000_000_000)).await.unwrap(), 0);
    assert!(read(store, &other).await.is_some());
    assert_eq!(store.delete_packets(Timestamp(i64::MAX)).await.unwrap(), 3);
    for key in [packet("a"), packet("b/c"), other] {
        assert_eq!(read(store, &key).await, None, "{key}");
    }
    assert!(read(store, &snapshot("s")).await.is_some(), "a session's");
    assert_eq!(store.delete_packets(Timestamp(i64::MAX)).await.unwrap(), 0);
}

pub(crate) async fn of_concurrent_puts_one_wins_whole<S: BlobStore>(store: Arc<S>) {
    let key = packet("contended");
    let puts = (0..8_usize).map(|seed| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            let bytes = pattern(seed);
            let pieces: Vec<&[u8]> = bytes.chunks(100_000).collect();
            put(&*store, &key, "", &pieces).await
        })
    });
    for done in futures_util::future::join_all(puts).await {
        done.unwrap().unwrap();
    }
    let (_, bytes) = read(&*store, &key).await.unwrap();
    assert!((0..8).any(|seed| bytes == pattern(seed)), "nothing is mixed");
}

pub(crate) async fn names_do_not_meet(store: &dyn BlobStore) {
    let path = |text: &str| BlobKind::Packet(PacketPath::parse(text).unwrap());
    let keys = [
        packet("a"),
        packet("a/b"),
        packet("A"),
        packet("/a"),
        packet("a "),
        packet("snapshot/session_s"),
        packet(&"x".repeat(1_024)),
        packet(&"x".repeat(1_023)),
        key("f", path("a")),
        key("f", BlobKind::Snapshot(SessionId::from_body("s"))),
        snapshot("s"),
        snapshot("s2"),
    ];
    for (i, key) in keys.iter().enumerate() {
        put(store, key, "", &[i.to_string().as_bytes()]).await.unwrap();
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(read(store, key).await.unwrap().1, i.to_string().as_bytes(), "{key}");
    }
}

pub(crate) async fn a_session_goes_alone(store: &dyn BlobStore) {
    let stays = [snapshot("s2"), packet("s"), key("f", BlobKind::Snapshot(SessionId::from_body("s")))];
    for key in stays.iter().chain([&snapshot("s")]) {
        put(store, key, "", &[b"x"]).await.unwrap();
    }
    store.delete_session(&EnvironmentId::from_body("e"), &SessionId::from_body("s")).await.unwrap();
    assert_eq!(read(store, &snapshot("s")).await, None);
    for key in stays {
        assert!(read(store, &key).await.is_some(), "{key}");
    }
    store.delete_session(&EnvironmentId::from_body("e"), &SessionId::from_body("s")).await.unwrap();
    put(store, &snapshot("s"), "", &[b"again"]).await.unwrap();
    assert_eq!(read(store, &snapshot("s")).await.unwrap().1, b"again");
}
