//! The stream API with the published Rust client of its protocol: what that client takes for granted holds here.

use crate::gateway_alone::gateway_before;
use crate::support::{KEY, TestNode, channel};
use continuo_proto::v1::{CloseSessionRequest, Direction, InitializeChannelRequest};
use s2_sdk::append_session::AppendSessionConfig;
use s2_sdk::types::*;
use s2_sdk::{S2, S2Stream};
use std::num::NonZeroU32;
use tokio_stream::StreamExt;

/// The stream of a session's `.out`, at this address, with this token.
fn open(url: &str, token: &str, session: &str, compression: Compression) -> S2Stream {
    let retry = RetryConfig::new().with_max_attempts(NonZeroU32::MIN);
    let config = S2Config::new(token)
        .with_endpoints(S2Endpoints::for_endpoint(url).unwrap())
        .with_retry(retry)
        .with_compression(compression);
    let basin = S2::new(config).unwrap().basin("continuo".parse().unwrap());
    basin.stream(format!("{session}/out").parse().unwrap())
}

/// A session and the stream of its `.out`, with the credential that goes with it.
async fn made(node: &TestNode) -> (String, S2Stream) {
    let client = node.client().await;
    let session = client.create(None).await.session.unwrap().id;
    let request = InitializeChannelRequest { channel: channel(&session, Direction::Out), ..Default::default() };
    let credential = client.channels.clone().initialize_channel(request).await.unwrap().into_inner();
    assert_eq!(credential.stream_name, format!("{session}/out"));
    let stream = open(&node.url, &credential.access_token, &session, Compression::None);
    (session, stream)
}

fn input(bodies: &[&str]) -> AppendInput {
    let records = bodies.iter().map(|body| AppendRecord::new(body.as_bytes().to_vec()).unwrap());
    AppendInput::new(AppendRecordBatch::try_from_iter(records).unwrap())
}

fn from(seq_num: u64) -> ReadInput {
    ReadInput::new().with_start(ReadStart::new().with_from(ReadFrom::SeqNum(seq_num)))
}

fn texts(records: &[SequencedRecord]) -> Vec<(u64, &str)> {
    let data = records.iter().filter(|r| r.headers.is_empty());
    data.map(|r| (r.seq_num, std::str::from_utf8(&r.body).unwrap())).collect()
}

#[tokio::test]
async fn appends_and_reads() {
    let node = TestNode::start().await;
    let (_, stream) = made(&node).await;
    let begin = stream.check_tail().await.unwrap().seq_num;
    let ack = stream.append(input(&["a", "ü😀"])).await.unwrap();
    assert_eq!((ack.start.seq_num, ack.end.seq_num, ack.tail.seq_num), (begin, begin + 2, begin + 2));
    assert!(ack.start.timestamp > 1_600_000_000_000, "the time of arrival");
    let batch = stream.read(from(begin)).await.unwrap();
    assert_eq!(texts(&batch.records), [(begin, "a"), (begin + 1, "ü😀")]);
    let tail = stream.check_tail().await.unwrap();
    assert_eq!((tail.seq_num, tail.timestamp), (begin + 2, ack.end.timestamp));

    let newest = ReadInput::new().with_start(ReadStart::new().with_from(ReadFrom::TailOffset(1)));
    assert_eq!(texts(&stream.read(newest).await.unwrap().records), [(begin + 1, "ü😀")]);
    let since = ReadStart::new().with_from(ReadFrom::Timestamp(ack.start.timestamp));
    let one = ReadStop::new().with_limits(ReadLimits::new().with_count(1));
    let batch = stream.read(ReadInput::new().with_start(since).with_stop(one)).await.unwrap();
    assert_eq!(texts(&batch.records), [(begin, "a")]);
    for past in [begin + 2, begin + 3] {
        let refused = stream.read(from(past)).await.unwrap_err();
        let s2_sdk::error::ReadError::ReadUnwritten(told) = refused else { panic!("{refused}") };
        assert_eq!((told.seq_num, told.timestamp), (tail.seq_num, tail.timestamp));
    }
}

#[tokio::test]
async fn a_session_is_pipelined_and_keeps_its_order() {
    let node = TestNode::start().await;
    let (_, stream) = made(&node).await;
    let begin = stream.check_tail().await.unwrap().seq_num;
    let session = stream.append_session(AppendSessionConfig::new());
    let mut tickets = Vec::new();
    for n in 0..200 {
        tickets.push(session.submit(input(&[&format!("{n}")])).await.unwrap());
    }
    for (n, ticket) in (begin..).zip(tickets) {
        assert_eq!(ticket.await.unwrap().start.seq_num, n);
    }
    session.close().await.unwrap();
    let stop = ReadStop::new().with_limits(ReadLimits::new().with_count(200));
    let mut read = stream.read_session(from(begin).with_stop(stop), ReadSessionConfig::new()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = read.next().await {
        seen.extend(batch.unwrap().records.into_iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()));
    }
    assert_eq!(seen, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_read_session_follows() {
    let node = TestNode::start().await;
    let (_, stream) = made(&node).await;
    let begin = stream.check_tail().await.unwrap().seq_num;
    let mut read = stream.read_session(from(begin), ReadSessionConfig::new()).await.unwrap();
    let mut seen = Vec::new();
    for n in 0..3 {
        stream.append(input(&[&format!("{n}")])).await.unwrap();
        while seen.len() <= n {
            seen.extend(read.next().await.unwrap().unwrap().records.into_iter().map(|r| r.seq_num));
        }
    }
    assert_eq!(seen, [begin, begin + 1, begin + 2]);
}

#[tokio::test]
async fn conditions_are_told_as_the_protocol_tells_them() {
    use s2_sdk::error::{AppendConditionFailed, AppendError};
    let node = TestNode::start().await;
    let (_, stream) = made(&node).await;
    let tail = stream.append(input(&["a"])).await.unwrap().tail.seq_num;
    let missed = stream.append(input(&["b"]).with_match_seq_num(tail + 5)).await.unwrap_err();
    let AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(expected)) = missed else {
        panic!("{missed}")
    };
    assert_eq!(expected, tail);
    let fenced = input(&["b"]).with_fencing_token("somebody else's".parse().unwrap());
    let session = stream.append_session(AppendSessionConfig::new());
    let refused = session.submit(fenced).await.unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("fencing token mismatch"), "{refused}");
    stream.append(input(&["b"]).with_match_seq_num(tail)).await.unwrap();
    assert_eq!(stream.check_tail().await.unwrap().seq_num, tail + 1);
}

#[tokio::test]
async fn a_trim_is_a_command_in_the_stream() {
    let node = TestNode::start().await;
    let (_, stream) = made(&node).await;
    let kept = stream.append(input(&["a", "b", "c"])).await.unwrap().end.seq_num - 1;
    let trim: AppendRecord = CommandRecord::trim(kept).into();
    let at = stream.append(AppendInput::new(AppendRecordBatch::try_from_iter([trim]).unwrap())).await.unwrap();
    let batch = stream.read(from(0)).await.unwrap();
    assert_eq!(batch.records.iter().map(|r| r.seq_num).collect::<Vec<_>>(), [kept, at.start.seq_num]);
    assert!(batch.records[1].is_command_record());
}

#[tokio::test]
async fn a_credential_is_for_one_stream() {
    let node = TestNode::start().await;
    let (session, _) = made(&node).await;
    let (other, _) = made(&node).await;
    let client = node.client().await;
    let request = InitializeChannelRequest { channel: channel(&session, Direction::Out), ..Default::default() };
    let token = client.channels.clone().initialize_channel(request).await.unwrap().into_inner().access_token;
    for (token, stream, code) in [
        (token.as_str(), other.as_str(), "permission_denied"),
        ("tr_stream_nonsense", &session, "authn"),
        (KEY, "session_nowhere", "stream_not_found"),
        (KEY, "chat-1", "stream_not_found"),
    ] {
        let stream = open(&node.url, token, stream, Compression::None);
        let refused = stream.append(input(&["x"])).await.unwrap_err();
        assert!(refused.to_string().contains(code), "{code}: {refused}");
        let session = stream.append_session(AppendSessionConfig::new());
        let refused = session.submit(input(&["x"])).await.unwrap().await.unwrap_err();
        assert!(refused.to_string().contains(code), "{code}: {refused}");
    }
    let closed = CloseSessionRequest { session: other.clone(), ..Default::default() };
    client.sessions.clone().close_session(closed).await.unwrap();
    let refused = open(&node.url, KEY, &other, Compression::None).append(input(&["late"])).await.unwrap_err();
    assert!(refused.to_string().contains("session_closed"), "{refused}");
}

#[tokio::test]
async fn compressed_appends_are_read() {
    let node = TestNode::start().await;
    let (session, stream) = made(&node).await;
    let begin = stream.check_tail().await.unwrap().seq_num;
    let long = "compressible ".repeat(4_000);
    for (n, compression) in [(0, Compression::Gzip), (2, Compression::Zstd)] {
        let stream = open(&node.url, KEY, &session, compression);
        stream.append(input(&[&long])).await.unwrap();
        let session = stream.append_session(AppendSessionConfig::new());
        let ack = session.submit(input(&[&long])).await.unwrap().await.unwrap();
        assert_eq!(ack.start.seq_num, begin + n + 1);
        session.close().await.unwrap();
    }
    let batch = stream.read(from(begin)).await.unwrap();
    assert!(batch.records.len() == 4 && batch.records.iter().all(|r| r.body == long));
}

#[tokio::test]
async fn a_gateway_in_front_of_a_server_elsewhere_streams_the_same() {
    let node = TestNode::start().await;
    let (session, direct) = made(&node).await;
    let begin = direct.check_tail().await.unwrap().seq_num;
    let (mut gateway, url) = gateway_before(&node).await;
    let stream = open(&url, KEY, &session, Compression::None);
    let appends = stream.append_session(AppendSessionConfig::new());
    let tickets = [appends.submit(input(&["a"])).await.unwrap(), appends.submit(input(&["b"])).await.unwrap()];
    for (n, ticket) in (begin..).zip(tickets) {
        assert_eq!(ticket.await.unwrap().start.seq_num, n);
    }
    appends.close().await.unwrap();
    assert_eq!(texts(&stream.read(from(begin)).await.unwrap().records), [(begin, "a"), (begin + 1, "b")]);
    gateway.kill().await.unwrap();
}
