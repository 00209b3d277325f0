//! What is handed to whoever moves the log elsewhere.

use super::{key, one, open_small, with_part};
use continuo_domain::SessionId;
use continuo_domain::channel::{Append, ChannelKey, ChannelName, Direction, NewRecord, PartId};
use continuo_ports::ChannelStore;
use tempfile::TempDir;

#[tokio::test]
async fn every_channel_and_every_part_id_that_lives() {
    let dir = TempDir::new().unwrap();
    let log = open_small(dir.path());
    let named = ChannelKey {
        session: SessionId::from_body("a"),
        name: Some(ChannelName::parse("tools").unwrap()),
        direction: Direction::Out,
    };
    for (channel, append) in [
        (key("b"), one("plain")),
        (key("a"), with_part("trimmed", "p0")),
        (key("a"), with_part("kept", "p1")),
        (key("a"), with_part("kept too", "a-later-one")),
        (key("a"), Append::one(NewRecord::trim(1))),
        (named.clone(), one("x")),
        (key("gone"), with_part("x", "p")),
    ] {
        log.append(&channel, append).await.unwrap();
    }
    log.delete(&SessionId::from_body("gone")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(log.channels().await.unwrap(), [named.clone(), key("a"), key("b")]);
    }
    let part = |id: &str| PartId::parse(id).unwrap();
    assert_eq!(log.part_ids(&key("a")).await.unwrap(), [(part("p1"), 1), (part("a-later-one"), 2)]);
    for channel in [key("b"), key("gone"), key("never")] {
        assert_eq!(log.part_ids(&channel).await.unwrap(), []);
    }
}
