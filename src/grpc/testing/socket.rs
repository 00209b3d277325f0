//! What shows over a connection only: flow control, and clients that break off.

use super::harness::{Node, channel, record};
use continuo_proto::v1;
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use v1::Direction::Out;
use v1::produce_request::Message;

async fn connect(node: &Node) -> ChannelServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, node.router.clone()).into_future());
    ChannelServiceClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

fn open() -> v1::ProduceRequest {
    let open = v1::ProduceOpen { channel: Some(channel("chat", Out)) };
    v1::ProduceRequest { message: Some(Message::Open(open)) }
}

fn append(body: &str) -> v1::ProduceRequest {
    let append = v1::ChannelAppend { records: vec![record(body)], ..Default::default() };
    v1::ProduceRequest { message: Some(Message::Append(append)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_megabytes_flow_through_a_produce() {
    const APPENDS: usize = 1_500;
    let node = Node::start().await;
    node.create_session("chat").await;
    let mut client = connect(&node).await;
    let (say, said) = mpsc::channel(4);
    let body = "x".repeat(16 << 10);
    let writing = tokio::spawn(async move {
        say.send(open()).await.unwrap();
        for _ in 0..APPENDS {
            say.send(append(&body)).await.unwrap();
        }
    });
    let mut acks = client.produce(node.key(ReceiverStream::new(said))).await.unwrap().into_inner();
    let mut next = None;
    for _ in 0..APPENDS {
        let start = acks.message().await.unwrap().unwrap().ack.unwrap().start.unwrap().seq_num;
        assert_eq!(start, next.unwrap_or(start));
        next = Some(start + 1);
    }
    assert!(acks.message().await.unwrap().is_none());
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_off_leaves_no_task() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let mut client = connect(&node).await;
    let (say, said) = mpsc::channel(4);
    say.send(open()).await.unwrap();
    say.send(append("a")).await.unwrap();
    let mut acks = client.produce(node.key(ReceiverStream::new(said))).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some());
    assert_eq!(node.tasks.len(), 1);
    drop((acks, client, say));
    node.tasks.close();
    tokio::time::timeout(Duration::from_secs(5), node.tasks.wait()).await.unwrap();
}
