//! Replay of one cold stream over gRPC.

use crate::sized;
use crate::support::{Client, TestNode, channel};
use continuo_proto::v1::read_response::Event;
use continuo_proto::v1::{AppendRequest, Direction, NewRecord, ReadRequest};
use std::time::Instant;

const BYTES: usize = 512;
const ROUNDS: usize = 3;

pub(crate) async fn run() {
    let records = sized(100_000);
    let mut node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("replay")).await.session.unwrap().id;
    fill(&client, &session, records).await;
    println!("replay of {records} records of {BYTES} B over gRPC, cold after a restart");
    for _ in 0..ROUNDS {
        node.restart().await;
        let client = node.client().await;
        let began = Instant::now();
        let bytes = replay(&client, &session, records).await;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "  {:.0} MB/s, {:.0} records/s (wanted: 100 MB/s)",
            bytes as f64 / seconds / 1e6,
            records as f64 / seconds
        );
    }
}

async fn fill(client: &Client, session: &str, records: usize) {
    for _ in 0..records / 1_000 {
        let record = NewRecord { headers: vec![], body: vec![b'x'; BYTES].into() };
        let append = AppendRequest {
            channel: channel(session, Direction::Out),
            records: vec![record; 1_000],
            ..Default::default()
        };
        client.channels.clone().append(append).await.unwrap();
    }
}

async fn replay(client: &Client, session: &str, wanted: usize) -> usize {
    let request = ReadRequest { channel: channel(session, Direction::Out), ..Default::default() };
    let mut channels = client.channels.clone().max_decoding_message_size(8 << 20);
    let mut events = channels.read(request).await.unwrap().into_inner();
    let (mut records, mut bytes) = (0, 0);
    while records < wanted {
        let Some(Event::Batch(batch)) = events.message().await.unwrap().unwrap().event else { continue };
        let data = batch.records.iter().filter(|r| r.headers.is_empty());
        records += data.clone().count();
        bytes += data.map(|r| r.body.len()).sum::<usize>();
    }
    bytes
}
