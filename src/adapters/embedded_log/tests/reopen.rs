//! What a restart keeps, with and without a clean end before it.

use super::{bodies, key, one, open_small, options, read_all, small, ticking, with_part};
use crate::log::{EmbeddedLog, Options};
use crate::shared::Tuning;
use continuo_domain::channel::{Append, FencingToken, NewRecord, ReadFrom};
use continuo_domain::error::Reason;
use continuo_domain::{Error, Timestamp};
use continuo_ports::{ChannelStore, ReadEvent, WrittenPage};
use futures_util::StreamExt;
use std::sync::Arc;
use tempfile::TempDir;

/// A restart of either kind.
fn reopen(log: EmbeddedLog, dir: &TempDir, cleanly: bool) -> EmbeddedLog {
    if cleanly {
        log.close().unwrap();
    }
    drop(log);
    open_small(dir.path())
}

#[tokio::test]
async fn what_was_acknowledged_is_there() {
    for cleanly in [false, true] {
        let dir = TempDir::new().unwrap();
        let (a, b) = (key("a"), key("b"));
        let log = open_small(dir.path());
        log.append(&a, with_part("first", "p")).await.unwrap();
        log.append(&a, Append::one(NewRecord::fence(&FencingToken::parse("4.2").unwrap()))).await.unwrap();
        log.append(&b, Append { records: vec![NewRecord::data("x"); 5], ..Append::default() }).await.unwrap();
        log.append(&b, Append::one(NewRecord::trim(3))).await.unwrap();
        let before = (log.tail(&a).await.unwrap(), log.tail(&b).await.unwrap(), log.position());
        let page = WrittenPage { after: None, limit: 10, wanted: &|_| true };
        let listed = log.written(&b.session, page).await.unwrap();

        let log = reopen(log, &dir, cleanly);
        assert_eq!(log.written(&b.session, page).await.unwrap(), listed);
        assert_eq!((listed.len(), listed[0].tail.seq_num, listed[0].earliest_seq_num), (1, 6, 3));
        assert_eq!((log.tail(&a).await.unwrap(), log.tail(&b).await.unwrap(), log.position()), before);
        assert_eq!(bodies(&log, &a).await, ["first", "4.2"]);
        assert_eq!(read_all(&log, &b).await.unwrap()[0].seq_num, 3);
        let again = log.append(&a, with_part("first", "p")).await.unwrap();
        assert!(again.repeated && again.start.seq_num == 0);
        let other = log.append(&a, with_part("other", "p")).await.unwrap_err();
        assert!(matches!(other, Error::PartIdReused { seq_num: 0 }));
        assert_eq!(log.append(&b, one("y")).await.unwrap().start.seq_num, 6);
    }
}

#[tokio::test]
async fn after_a_clean_end_nothing_is_replayed() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    log.append(&key("a"), one("x")).await.unwrap();
    let log = reopen(log, &dir, true);
    assert_eq!((log.stats().unindexed_bytes, log.stats().hot_streams), (0, 0));
    assert_eq!(bodies(&log, &key("a")).await, ["x"]);
}

#[tokio::test]
async fn timestamps_do_not_fall_with_a_clock_set_back() {
    let dir = TempDir::new().unwrap();
    let mut last = Timestamp::default();
    for (life, start) in [5_000_000, 1_000, 3_000_000, 6_000_000].into_iter().enumerate() {
        let options = Options { clock: Arc::new(ticking(start)), ..small(dir.path(), Tuning::default()) };
        let log = EmbeddedLog::open(options).unwrap();
        for _ in 0..3 {
            let appended = log.append(&key("a"), one("x")).await.unwrap();
            assert!(appended.start.timestamp >= last);
            last = appended.start.timestamp;
        }
        if life % 2 == 0 {
            log.close().unwrap();
        }
    }
    assert!(last >= Timestamp(6_000_000));
}

#[tokio::test]
async fn a_delete_stays_deleted() {
    for cleanly in [false, true] {
        let dir = TempDir::new().unwrap();
        let key = key("a");
        let log = open_small(dir.path());
        log.append(&key, with_part("old", "p")).await.unwrap();
        let log = reopen(log, &dir, cleanly);
        log.delete(&key.session).await.unwrap();
        let log = reopen(log, &dir, cleanly);
        assert_eq!(bodies(&log, &key).await, [] as [&str; 0]);
        let fresh = log.append(&key, with_part("new", "p")).await.unwrap();
        assert_eq!((fresh.start.seq_num, fresh.repeated), (0, false));
        let log = reopen(log, &dir, cleanly);
        assert_eq!(bodies(&log, &key).await, ["new"]);
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    let Err(second) = EmbeddedLog::open(small(dir.path(), Tuning::default())) else { panic!("it opened") };
    assert_eq!(second.reason(), Reason::BackendUnavailable);
    assert!(second.cause().unwrap().for_log().contains("in use by another process"));
    drop(log);
    open_small(dir.path());
}

#[tokio::test]
async fn a_failed_sync_ends_the_appends_but_not_the_reads() {
    let dir = TempDir::new().unwrap();
    let tuning = Tuning { fail_sync_of_batch: Some(2), ..Tuning::default() };
    let log = EmbeddedLog::open(small(dir.path(), tuning)).unwrap();
    let key = key("a");
    log.append(&key, one("durable")).await.unwrap();
    let mut events = log.follow(&key, ReadFrom::seq_num(1)).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(ReadEvent::CaughtUp(_)))));
    assert!(matches!(log.append(&key, one("unknown")).await, Err(Error::OutcomeUnknown(_))));
    assert!(matches!(log.append(&key, one("refused")).await, Err(Error::Unavailable(_))));
    assert!(matches!(log.delete(&key.session).await, Err(Error::Unavailable(_))));
    assert!(!log.stats().takes_appends);
    // What is not known to be durable is not shown.
    assert_eq!(bodies(&log, &key).await, ["durable"]);
    assert!(futures_util::FutureExt::now_or_never(events.next()).is_none());
    assert_eq!(log.position(), 1);
    drop(events);
    drop(log);
    let log = open_small(dir.path());
    let found = bodies(&log, &key).await;
    assert!(found == ["durable"] || found == ["durable", "unknown"], "{found:?}");
    assert_eq!(log.append(&key, one("again")).await.unwrap().start.seq_num, found.len() as u64);
}

#[tokio::test]
async fn a_closed_log_says_so() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    let key = key("a");
    log.append(&key, one("x")).await.unwrap();
    let mut events = log.follow(&key, ReadFrom::seq_num(1)).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(ReadEvent::CaughtUp(_)))));
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(log.append(&key, one("y")).await, Err(Error::Stopping)));
    assert!(matches!(events.next().await, Some(Err(Error::Stopping))));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn cold_streams_leave_memory() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(options(dir.path())).unwrap();
    let keys: Vec<_> = (0..3_000).map(|n| key(&n.to_string())).collect();
    let appends = keys.iter().map(|key| log.append(key, one("x")));
    assert!(futures_util::future::join_all(appends).await.iter().all(Result::is_ok));
    log.checkpoint().unwrap();
    // Some that were loaded last are kept for a while.
    let kept = log.stats().hot_streams;
    assert!(kept <= 1_024, "{kept}");
    for key in &keys {
        assert_eq!(log.tail(key).await.unwrap().position.seq_num, 1);
    }
    let kept = log.stats().hot_streams;
    assert!(kept <= 1_024, "{kept}");
}
