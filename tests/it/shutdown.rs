//! A node that stops lets go of everything that is under way, and says so.

use crate::support::{TestNode, channel, reason};
use continuo_proto::v1::*;
use std::time::Duration;

#[tokio::test]
async fn open_streams_end_with_a_last_word_and_the_node_stops() {
    let mut node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("open")).await.session.unwrap().id;
    let read = ReadRequest { channel: channel(&session, Direction::Out), ..Default::default() };
    let mut events = client.channels.clone().read(read).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some(), "a heartbeat greets the reader");

    let (work, inbound) = tokio::sync::mpsc::channel(4);
    let hello =
        WorkerHello { worker_id: "w".into(), task_identifiers: vec!["none".into()], capacity: 1, ..Default::default() };
    work.send(WorkRequest { message: Some(work_request::Message::Hello(hello)) }).await.unwrap();
    let inbound = tokio_stream::wrappers::ReceiverStream::new(inbound);
    let mut work_events = client.workers.clone().work(inbound).await.unwrap().into_inner();
    assert!(work_events.message().await.unwrap().is_some(), "a worker is welcomed");

    let stopping = tokio::spawn(node.node.take().unwrap().stop());
    let last = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the read ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&last), "SERVER_STOPPING");
    let last = loop {
        match work_events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the work stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&last), "SERVER_STOPPING");
    drop((work, client));
    let stopped = tokio::time::timeout(Duration::from_secs(20), stopping).await.expect("it stops within its grace");
    stopped.unwrap().unwrap();
}
