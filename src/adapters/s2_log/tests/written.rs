//! Lists of channels that are longer than what S2 names at a time.

use super::{one, open, own_rows, shared_s2};
use continuo_domain::SessionId;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction};
use continuo_ports::{ChannelStore, WrittenPage};
use futures_util::{StreamExt, stream};
use s2_sdk::types::CreateStreamInput;

/// S2 names a thousand.
const STREAMS: usize = 1_005;

#[tokio::test]
async fn streams_that_nobody_wrote_to_are_passed_by_however_many() {
    let (rows, _dir) = own_rows().await;
    let log = open(&shared_s2(), &rows);
    let session = SessionId::from_body("a");
    let channel = |name: &str| {
        let name = Some(ChannelName::parse(name).unwrap());
        ChannelKey { session: session.clone(), name, direction: Direction::In }
    };
    let (first, last) = (channel("a"), channel("z"));
    for channel in [&first, &last] {
        log.append(channel, one("x")).await.unwrap();
    }
    let basin = log.inner.basin_of(&session).await.unwrap().unwrap();
    let basin = log.inner.common.s2.basin(basin);
    let names = stream::iter(0..STREAMS).map(|n| channel(&format!("n{n}")).to_string().parse().unwrap());
    names
        .for_each_concurrent(32, async |name| drop(basin.create_stream(CreateStreamInput::new(name)).await.unwrap()))
        .await;

    for (after, expected) in [(None, &first), (Some(&first), &last)] {
        let page = WrittenPage { after, limit: 1, wanted: &|_| true };
        let found = log.written(&session, page).await.unwrap();
        assert_eq!((found.len(), &found[0].channel, found[0].tail.seq_num), (1, expected, 1));
    }
}
