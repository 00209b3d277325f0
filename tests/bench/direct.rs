//! A writer of tokens: one record an append, as many on the way as the server takes. The stream protocol that SDKs write with
//! beside gRPC's Produce, on the same server and the same disk.

use crate::sized;
use crate::support::{Client, TestNode, channel};
use continuo_proto::v1::produce_request::Message;
use continuo_proto::v1::{ChannelAppend, Direction, InitializeChannelRequest, NewRecord, ProduceOpen, ProduceRequest};
use s2_sdk::append_session::AppendSessionConfig;
use s2_sdk::types::{AppendInput, AppendRecord, AppendRecordBatch, S2Config, S2Endpoints};
use s2_sdk::{S2, S2Stream};
use std::time::Instant;
use tokio_stream::StreamExt;

const BYTES: usize = 512;
const ROUNDS: usize = 3;
/// Appends that a writer has on the way.
const ON_THE_WAY: usize = 512;

pub(crate) async fn run() {
    let records = sized(50_000);
    let node = TestNode::start().await;
    let client = node.client().await;
    let session = client.create(Some("direct")).await.session.unwrap().id;
    println!("direct writes of {records} records of {BYTES} B, one an append, pipelined");
    for _ in 0..ROUNDS {
        let produced = per_second(records, produce(&client, &session, records)).await;
        let stream = open(&node, &client, &session).await;
        let streamed = per_second(records, append(&stream, records)).await;
        println!("  gRPC {produced:.0}/s, stream protocol {streamed:.0}/s, ratio {:.2}", streamed / produced);
    }
}

async fn per_second(records: usize, work: impl Future<Output = ()>) -> f64 {
    let began = Instant::now();
    work.await;
    records as f64 / began.elapsed().as_secs_f64()
}

async fn produce(client: &Client, session: &str, records: usize) {
    let open = ProduceOpen { channel: channel(session, Direction::Out) };
    let record = NewRecord { headers: vec![], body: vec![b'x'; BYTES].into() };
    let append = ChannelAppend { records: vec![record], ..Default::default() };
    let appends = std::iter::repeat_n(Message::Append(append), records);
    let messages = std::iter::once(Message::Open(open)).chain(appends);
    let messages = messages.map(|message| ProduceRequest { message: Some(message) });
    let mut acks = client.channels.clone().produce(tokio_stream::iter(messages)).await.unwrap().into_inner();
    for _ in 0..records {
        acks.next().await.unwrap().unwrap();
    }
}

/// A stream of `.out` with its credential, as a client of `PUT` is told of it.
async fn open(node: &TestNode, client: &Client, session: &str) -> S2Stream {
    let request = InitializeChannelRequest { channel: channel(session, Direction::Out), ..Default::default() };
    let told = client.channels.clone().initialize_channel(request).await.unwrap().into_inner();
    let config = S2Config::new(told.access_token).with_endpoints(S2Endpoints::for_endpoint(&node.url).unwrap());
    S2::new(config).unwrap().basin("continuo".parse().unwrap()).stream(told.stream_name.parse().unwrap())
}

async fn append(stream: &S2Stream, records: usize) {
    let session = stream.append_session(AppendSessionConfig::new());
    let mut tickets = std::collections::VecDeque::new();
    for _ in 0..records {
        let batch = AppendRecordBatch::try_from_iter([AppendRecord::new(vec![b'x'; BYTES]).unwrap()]).unwrap();
        tickets.push_back(session.submit(AppendInput::new(batch)).await.unwrap());
        if tickets.len() == ON_THE_WAY {
            tickets.pop_front().unwrap().await.unwrap();
        }
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    session.close().await.unwrap();
}
