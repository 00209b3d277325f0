//! The format of version 1, as a file that was written once. A log of that version must open for ever; if this test
//! fails, the format has changed and needs a new version and a file of its own.

use super::{key, read_all, small};
use crate::log::EmbeddedLog;
use crate::segment::{Kind, Segment};
use crate::shared::{Stop, StopPoint, Tuning};
use continuo_domain::Timestamp;
use continuo_domain::channel::{Append, ChannelKey, FencingToken, Header, NewRecord, PartId, Record};
use continuo_ports::ChannelStore;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The file is cut behind its last batch; the rest is zeros.
const SEGMENT_BYTES: usize = 16 << 10;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/version_1.log")
}

fn never_indexed(dir: &Path) -> crate::log::Options {
    small(dir, Tuning { stop_at: Some(Stop { point: StopPoint::BeforeIndexCommit, passes: 0 }), ..Tuning::default() })
}

fn appends() -> Vec<(ChannelKey, Append)> {
    let part = |id| Some(PartId::parse(id).unwrap());
    let control = vec![Header::new("trigger-control", "turn-complete")];
    vec![
        (key("golden"), Append { part_id: part("part-1"), ..Append::one(NewRecord::data("hello")) }),
        (key("golden"), Append::one(NewRecord { headers: control, body: Vec::new().into() })),
        (key("other"), Append { records: vec![NewRecord::data("a"), NewRecord::data("b")], ..Append::default() }),
        (key("golden"), Append::one(NewRecord::fence(&FencingToken::parse("3.1").unwrap()))),
        (key("other"), Append::one(NewRecord::trim(1))),
        (key("gone"), Append::one(NewRecord::data("gone"))),
    ]
}

#[tokio::test]
async fn a_log_of_version_1_opens() {
    let dir = TempDir::new().unwrap();
    let segments = dir.path().join("segments");
    std::fs::create_dir(&segments).unwrap();
    let mut bytes = std::fs::read(file()).unwrap();
    bytes.resize(SEGMENT_BYTES, 0);
    std::fs::write(Segment::path(&segments, Kind::Log, 1), bytes).unwrap();

    let log = EmbeddedLog::open(never_indexed(dir.path())).unwrap();
    assert_eq!(log.position(), 7);
    let tail = log.tail(&key("golden")).await.unwrap();
    assert_eq!((tail.position.seq_num, tail.fencing_token.as_str()), (3, "3.1"));
    assert_eq!(log.part(&key("golden"), &PartId::parse("part-1").unwrap()).await.unwrap(), Some(0));
    let records = read_all(&log, &key("golden")).await.unwrap();
    assert_eq!(records.len(), 3);
    let first = Record { seq_num: 0, timestamp: Timestamp(1_000_001), headers: Vec::new(), body: "hello".into() };
    assert_eq!(records[0], first);
    assert_eq!(records[1].control(), Some("turn-complete"));
    let others = read_all(&log, &key("other")).await.unwrap();
    assert_eq!(others.iter().map(|record| record.seq_num).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log.tail(&key("gone")).await.unwrap().position.seq_num, 0);
}

/// What is written today has the shape of version 1 still. Bytes differ, because each log draws a number of its own that its
/// checksums are bound to.
#[tokio::test]
async fn version_1_is_what_is_written() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(never_indexed(dir.path())).unwrap();
    for (key, append) in appends() {
        log.append(&key, append).await.unwrap();
    }
    log.delete(&key("gone").session).await.unwrap();
    drop(log);
    let mut written = std::fs::read(Segment::path(&dir.path().join("segments"), Kind::Log, 1)).unwrap();
    written.truncate(written.iter().rposition(|&byte| byte != 0).unwrap() + 1);
    let golden = std::fs::read(file()).unwrap();
    assert_eq!((written.len(), &written[..24]), (golden.len(), &golden[..24]));
}
