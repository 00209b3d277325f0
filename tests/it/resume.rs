//! Over the real protocol: what stands on a channel is the same for every reader, over every restart.

use crate::support::{TestNode, append_request, channel, reason};
use continuo_proto::v1::read_response::Event;
use continuo_proto::v1::read_start::Start;
use continuo_proto::v1::*;

/// Reads numbers and bodies from a position until `count` have come.
async fn read(node: &TestNode, session: &str, from: u64, count: usize) -> Vec<(u64, String)> {
    let start = Some(ReadStart { start: Some(Start::SeqNum(from)), clamp: true, skip_commands: false });
    let request = ReadRequest { channel: channel(session, Direction::Out), start, ..Default::default() };
    let mut events = node.client().await.channels.read(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while found.len() < count {
        let Some(Event::Batch(batch)) = events.message().await.unwrap().expect("follows").event else { continue };
        let data = batch.records.into_iter().filter(|r| r.headers.is_empty());
        found.extend(data.map(|r| (r.seq_num, String::from_utf8(r.body.to_vec()).unwrap())));
    }
    found
}

#[tokio::test]
async fn records_stand_where_they_were_acknowledged_also_after_a_restart() {
    let mut node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("a/b: ü")).await.session.unwrap();
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let body = format!("body {n}");
        acknowledged.push((client.append(&session.id, Direction::Out, &body).await.unwrap(), body));
    }
    assert_eq!(read(&node, &session.id, 0, 20).await, acknowledged);
    assert_eq!(read(&node, "a/b: ü", acknowledged[7].0 + 1, 12).await, acknowledged[8..]);
    node.restart().await;
    assert_eq!(read(&node, &session.id, 0, 20).await, acknowledged);
    let next = node.client().await.append(&session.id, Direction::Out, "after").await.unwrap();
    assert_eq!(next, acknowledged[19].0 + 1);
}

#[tokio::test]
async fn a_part_id_is_one_record_also_after_a_restart_and_a_close() {
    let mut node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("parts")).await.session.unwrap();
    let request = AppendRequest { part_id: Some("p:1".into()), ..append_request(&session.id, Direction::In, "hello") };
    let first = client.channels.clone().append(request.clone()).await.unwrap().into_inner();
    assert!(!first.repeated);
    node.restart().await;
    let client = node.client().await;
    let close = CloseSessionRequest { session: session.id.clone(), ..Default::default() };
    client.sessions.clone().close_session(close).await.unwrap();
    let again = client.channels.clone().append(request.clone()).await.unwrap().into_inner();
    assert_eq!((again.repeated, again.start), (true, first.start));
    let other = AppendRequest { records: vec![NewRecord { headers: vec![], body: "other".into() }], ..request };
    let refused = client.channels.clone().append(other).await.unwrap_err();
    assert_eq!(reason(&refused), "PART_ID_REUSED");
    let fresh = client.append(&session.id, Direction::In, "fresh").await.unwrap_err();
    assert_eq!(reason(&fresh), "SESSION_CLOSED");
}

#[tokio::test]
async fn another_environment_sees_nothing() {
    let node = TestNode::start().await;
    let session = node.client().await.create(Some("mine")).await.session.unwrap();
    let stranger = node.client_with(crate::support::OTHER_KEY).await;
    for name in ["mine", &session.id] {
        let request = GetSessionRequest { session: name.into() };
        assert_eq!(reason(&stranger.sessions.clone().get_session(request).await.unwrap_err()), "SESSION_NOT_FOUND");
        let refused = stranger.append(name, Direction::In, "x").await.unwrap_err();
        assert_eq!(reason(&refused), "SESSION_NOT_FOUND");
    }
    let own = stranger.create(Some("mine")).await;
    assert!(!own.is_cached, "the same name is another session there");
}
