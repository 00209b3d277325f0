//! Segments that are used again, and readers that stand in them meanwhile.

use super::{bodies, key, one, open_small, read_all};
use crate::log::EmbeddedLog;
use crate::reader::{self, Found};
use continuo_domain::channel::{Append, ChannelKey, NewRecord, ReadFrom};
use continuo_ports::{ChannelStore, ReadEvent};
use futures_util::StreamExt;
use tempfile::TempDir;

/// Writes and trims until about so many segments were filled.
async fn wear(log: &EmbeddedLog, key: &ChannelKey, segments: usize) {
    for _ in 0..segments * 6 {
        let appended = log.append(key, one(&"w".repeat(2_000))).await.unwrap();
        log.append(key, Append::one(NewRecord::trim(appended.start.seq_num))).await.unwrap();
    }
    log.checkpoint().unwrap();
}

fn files(dir: &TempDir) -> usize {
    std::fs::read_dir(dir.path().join("segments")).unwrap().count()
}

#[tokio::test]
async fn trimmed_segments_are_used_again() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    wear(&log, &key("a"), 60).await;
    assert!(files(&dir) <= 16, "{} files", files(&dir));
    assert!(log.stats().segments <= 3, "{:?}", log.stats());
    drop(log);
    let log = open_small(dir.path());
    assert_eq!(read_all(&log, &key("a")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn deleted_sessions_give_their_segments_back() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    for n in 0..30 {
        let key = key(&n.to_string());
        for _ in 0..6 {
            log.append(&key, one(&"w".repeat(2_000))).await.unwrap();
        }
        log.delete(&key.session).await.unwrap();
    }
    log.checkpoint().unwrap();
    assert!(log.stats().segments <= 3, "{:?}", log.stats());
}

#[tokio::test]
async fn a_few_survivors_do_not_hold_many_segments() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    for n in 0..30 {
        log.append(&key("kept"), one(&format!("survivor {n}"))).await.unwrap();
        wear(&log, &key("a"), 2).await;
    }
    assert!(log.stats().segments <= 10, "{:?}", log.stats());
    let expected: Vec<_> = (0..30).map(|n| format!("survivor {n}")).collect();
    assert_eq!(bodies(&log, &key("kept")).await, expected);
    drop(log);
    assert_eq!(bodies(&open_small(dir.path()), &key("kept")).await, expected);
}

/// Stale frames of earlier lives lie behind the last batch, at every length.
#[tokio::test]
async fn what_a_segment_held_before_never_comes_back() {
    let dir = TempDir::new().unwrap();
    wear(&open_small(dir.path()), &key("old"), 40).await;
    for life in 0..40u64 {
        let log = open_small(dir.path());
        assert_eq!(log.tail(&key("new")).await.unwrap().position.seq_num, life);
        assert!(read_all(&log, &key("old")).await.unwrap().len() <= 2);
        log.append(&key("new"), one(&"n".repeat(life as usize * 60))).await.unwrap();
        if life % 8 == 0 {
            wear(&log, &key("old"), 3).await;
        }
    }
}

/// Files of the log this process has open.
#[cfg(target_os = "linux")]
fn open_files(dir: &TempDir) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    links.filter(|path| path.starts_with(dir.path().join("segments"))).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_long_log_does_not_hold_its_files_open() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    for _ in 0..400 * 6 {
        log.append(&key("a"), one(&"w".repeat(2_000))).await.unwrap();
    }
    assert!(log.stats().segments > 350, "{:?}", log.stats());
    assert!(open_files(&dir) < 270, "{} open files", open_files(&dir));
    assert_eq!(read_all(&log, &key("a")).await.unwrap().len(), 400 * 6);
}

#[tokio::test]
async fn a_read_that_a_delete_overtakes_finds_nothing() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    log.append(&key("a"), one("gone")).await.unwrap();
    log.checkpoint().unwrap();
    let stream = log.shared().registry.get(&key("a").to_string()).unwrap();
    log.delete(&key("a").session).await.unwrap();
    log.checkpoint().unwrap();
    assert!(matches!(reader::read(log.shared(), &stream, 0), Ok(Found::Tail)));
}

#[tokio::test]
async fn a_follower_reads_on_while_its_segments_are_given_up() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    let kept = key("kept");
    for n in 0..20 {
        log.append(&kept, one(&n.to_string())).await.unwrap();
        wear(&log, &key("a"), 2).await;
    }
    let mut events = log.follow(&kept, ReadFrom::seq_num(0)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 40 {
        if let Some(Ok(ReadEvent::Records(records))) = events.next().await {
            seen.extend(records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()));
        }
        if seen.len() < 40 {
            log.append(&kept, one(&(20 + seen.len().saturating_sub(20)).to_string())).await.unwrap();
            wear(&log, &key("a"), 3).await;
        }
    }
    assert_eq!(seen, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
}
