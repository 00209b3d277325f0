//! Read, Produce, Attach.

use super::harness::{Node, bad_fields, by, channel, reason, record};
use continuo_proto::v1;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::iter;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use v1::Direction::{In, Out};
use v1::attach_request::Message as ToServer;
use v1::attach_response::Message as FromServer;
use v1::produce_request::Message;

fn open(channel: v1::ChannelRef) -> v1::ProduceRequest {
    v1::ProduceRequest { message: Some(Message::Open(v1::ProduceOpen { channel: Some(channel) })) }
}

fn append(body: &str) -> v1::ChannelAppend {
    v1::ChannelAppend { records: vec![record(body)], ..Default::default() }
}

fn produced(append: v1::ChannelAppend) -> v1::ProduceRequest {
    v1::ProduceRequest { message: Some(Message::Append(append)) }
}

#[tokio::test]
async fn appends_keep_their_order_and_their_own_acknowledgements() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let special = |i: usize| match i % 97 {
        0 => v1::ChannelAppend { part_id: Some(format!("part-{i}")), ..append(&i.to_string()) },
        1 => v1::ChannelAppend { boot: v1::Boot::Never.into(), ..append(&i.to_string()) },
        _ => append(&i.to_string()),
    };
    let messages = (0..3_000).map(special).map(produced);
    let messages: Vec<_> = std::iter::once(open(channel("chat", Out))).chain(messages).collect();
    let mut acks = node.channels().produce(node.key(iter(messages))).await.unwrap().into_inner();
    // The claim of the session's run has put a fence there already.
    let mut next = None;
    let mut count = 0;
    while let Some(message) = acks.message().await.unwrap() {
        let ack = message.ack.unwrap();
        let (start, end) = (ack.start.unwrap().seq_num, ack.end.unwrap().seq_num);
        assert_eq!((start, end), (next.unwrap_or(start), start + 1));
        next = Some(end);
        count += 1;
    }
    assert_eq!(count, 3_000);
    let expected: Vec<_> = (0..3_000).map(|i| i.to_string()).collect();
    assert_eq!(node.bodies(channel("chat", Out)).await, expected);
}

#[tokio::test]
async fn the_first_refusal_ends_the_stream_and_nothing_after_it_is_made() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let refused = v1::ChannelAppend { match_seq_num: Some(999), ..append("refused") };
    let messages = vec![
        open(channel("chat", In)),
        produced(append("a")),
        produced(append("b")),
        produced(refused),
        produced(append("c")),
    ];
    let mut acks = node.channels().produce(node.key(iter(messages))).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some() && acks.message().await.unwrap().is_some());
    let status = acks.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "SEQ_NUM_MISMATCH"));
    assert_eq!(node.bodies(channel("chat", In)).await, ["a", "b"]);
}

#[tokio::test]
async fn a_message_that_does_not_parse_is_refused_in_its_turn() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let first = node.channels().produce(node.key(iter(vec![produced(append("a"))]))).await.unwrap();
    assert_eq!(bad_fields(&first.into_inner().message().await.unwrap_err()), ["message"]);
    let nothing = node.channels().produce(node.key(iter(Vec::new()))).await.unwrap();
    assert_eq!(nothing.into_inner().message().await.unwrap_err().code(), Code::InvalidArgument);

    let wrong = v1::ChannelAppend { part_id: Some(String::new()), ..append("wrong") };
    let messages = vec![open(channel("chat", In)), produced(append("a")), produced(wrong), produced(append("b"))];
    let mut acks = node.channels().produce(node.key(iter(messages))).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some());
    assert_eq!(bad_fields(&acks.message().await.unwrap_err()), ["part_id"]);
    assert_eq!(node.bodies(channel("chat", In)).await, ["a"]);
    let unknown = node.channels().produce(node.key(iter(vec![open(channel("nobody", In))]))).await.unwrap();
    assert_eq!(reason(&unknown.into_inner().message().await.unwrap_err()), "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn a_reader_replays_follows_and_hears_of_gaps() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let messages: Vec<_> =
        std::iter::once(open(channel("chat", In))).chain((0..5).map(|i| produced(append(&i.to_string())))).collect();
    let mut acks = node.channels().produce(node.key(iter(messages))).await.unwrap().into_inner();
    while acks.message().await.unwrap().is_some() {}
    let trim = v1::TrimRequest { channel: Some(channel("chat", In)), before_seq_num: 3 };
    node.channels().trim(node.key(trim)).await.unwrap();

    let read = v1::ReadRequest { channel: Some(channel("chat", In)), idle_timeout_ms: 300, ..Default::default() };
    let response = node.channels().read(node.key(read)).await.unwrap();
    assert!(response.metadata().get(continuo_proto::SETTLED_METADATA).is_none());
    let mut events = response.into_inner();
    let (mut gap, mut seq_nums, mut heartbeats) = (None, Vec::new(), 0);
    while let Some(message) = events.message().await.unwrap() {
        match message.event.unwrap() {
            v1::read_response::Event::Gap(met) => gap = Some((met.requested_seq_num, met.earliest_seq_num)),
            v1::read_response::Event::Batch(batch) => seq_nums.extend(batch.records.iter().map(|r| r.seq_num)),
            v1::read_response::Event::Heartbeat(_) => heartbeats += 1,
            v1::read_response::Event::Settled(_) => panic!("not asked for"),
        }
    }
    assert_eq!((gap, seq_nums), (Some((0, 3)), vec![3, 4, 5]));
    assert!(heartbeats >= 1);

    let start = Some(v1::ReadStart { start: Some(v1::read_start::Start::SeqNum(99)), ..Default::default() });
    let past = v1::ReadRequest { channel: Some(channel("chat", In)), start, ..Default::default() };
    assert_eq!(reason(&node.channels().read(node.key(past)).await.unwrap_err()), "PAST_TAIL");
}

#[tokio::test]
async fn a_settled_read_says_so_first_and_ends() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let header = v1::Header { name: "trigger-control".into(), value: "turn-complete".into() };
    let turn = v1::NewRecord { headers: vec![header], body: Default::default() };
    let request = v1::AppendRequest {
        channel: Some(channel("chat", Out)),
        records: vec![record("answer"), turn],
        ..Default::default()
    };
    node.channels().append(node.key(request)).await.unwrap();
    let read = v1::ReadRequest { channel: Some(channel("chat", Out)), peek_settled: true, ..Default::default() };
    let response = node.channels().read(node.key(read)).await.unwrap();
    assert_eq!(response.metadata().get(continuo_proto::SETTLED_METADATA).unwrap(), "true");
    let (mut events, mut last) = (response.into_inner(), None);
    while let Some(message) = events.message().await.unwrap() {
        last = message.event;
    }
    assert!(matches!(last, Some(v1::read_response::Event::Settled(_))));
}

async fn next_ack_or_batch(answers: &mut Streaming<v1::AttachResponse>) -> FromServer {
    loop {
        match answers.message().await.unwrap().unwrap().message.unwrap() {
            FromServer::Heartbeat(_) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn a_client_attaches_in_and_out() {
    let node = Node::start().await;
    let token = node.create_session("chat").await.public_access_token;
    let (say, said) = mpsc::channel(8);
    // The answer begins before anything was said.
    let mut answers = node.channels().attach(by(&token, ReceiverStream::new(said))).await.unwrap().into_inner();
    let start = Some(v1::ReadStart { start: Some(v1::read_start::Start::TailOffset(0)), ..Default::default() });
    let open = v1::AttachOpen { session: "chat".into(), start, ..Default::default() };
    say.send(v1::AttachRequest { message: Some(ToServer::Open(open)) }).await.unwrap();
    say.send(v1::AttachRequest { message: Some(ToServer::Append(append("question"))) }).await.unwrap();
    assert!(matches!(next_ack_or_batch(&mut answers).await, FromServer::Ack(_)));
    assert_eq!(node.bodies(channel("chat", In)).await, ["question"]);

    let answer = v1::AppendRequest {
        channel: Some(channel("chat", Out)),
        records: vec![record("answer")],
        ..Default::default()
    };
    node.channels().append(node.key(answer)).await.unwrap();
    match next_ack_or_batch(&mut answers).await {
        FromServer::Batch(batch) => assert_eq!(batch.records[0].body, "answer"),
        other => panic!("{other:?}"),
    }
    say.send(v1::AttachRequest { message: Some(ToServer::Append(append("last"))) }).await.unwrap();
    drop(say);
    assert!(matches!(next_ack_or_batch(&mut answers).await, FromServer::Ack(_)));
    assert!(answers.message().await.unwrap().is_none(), "half-closed, acknowledged, ended");
}

#[tokio::test]
async fn streams_end_when_the_node_stops_and_leave_nothing_behind() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (_say, said) = mpsc::channel(8);
    let mut attached = node.channels().attach(node.key(ReceiverStream::new(said))).await.unwrap().into_inner();
    let (send, sent) = mpsc::channel(8);
    send.send(open(channel("chat", In))).await.unwrap();
    send.send(produced(append("a"))).await.unwrap();
    let mut acks = node.channels().produce(node.key(ReceiverStream::new(sent))).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some());
    let read = v1::ReadRequest { channel: Some(channel("later", Out)), ..Default::default() };
    let mut events = node.channels().read(node.key(read)).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());

    node.stopping.cancel();
    let ends =
        [attached.message().await.unwrap_err(), acks.message().await.unwrap_err(), events.message().await.unwrap_err()];
    assert!(ends.iter().all(|status| reason(status) == "SERVER_STOPPING"), "{ends:?}");
    node.tasks.close();
    tokio::time::timeout(Duration::from_secs(5), node.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_leaves_no_task() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (send, sent) = mpsc::channel(8);
    send.send(open(channel("chat", In))).await.unwrap();
    send.send(produced(append("a"))).await.unwrap();
    let mut acks = node.channels().produce(node.key(ReceiverStream::new(sent))).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some());
    assert_eq!(node.tasks.len(), 1);
    drop(acks);
    node.tasks.close();
    tokio::time::timeout(Duration::from_secs(5), node.tasks.wait()).await.unwrap();
}
