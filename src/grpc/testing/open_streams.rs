//! Streams end when the credential does that they were opened with.

use super::harness::{ADMIN_KEY, Node, by, channel, reason, record};
use super::work::hello;
use crate::channel_service::pump::{Pump, Step};
use crate::convert::channel as convert;
use continuo_proto::{FILE_DESCRIPTOR_SET, v1};
use futures_util::stream::{self, StreamExt};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::HashSet;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};
use v1::Direction::{In, Out};

const SOON: Duration = Duration::from_secs(20);

/// A key with every right, and its id.
async fn additional_key(node: &Node) -> (String, v1::RevokeApiKeyRequest) {
    let who = node.tokens().authenticate(node.key(v1::AuthenticateRequest {})).await.unwrap().into_inner();
    let new = v1::CreateApiKeyRequest {
        environment_id: who.environment_id.clone(),
        name: "short-lived".into(),
        scopes: vec!["admin".into()],
    };
    let made = node.admin().create_api_key(by(ADMIN_KEY, new)).await.unwrap().into_inner();
    let api_key_id = made.api_key.unwrap().id;
    (made.secret, v1::RevokeApiKeyRequest { environment_id: who.environment_id, api_key_id })
}

async fn revoke(node: &Node, key: v1::RevokeApiKeyRequest) {
    node.admin().revoke_api_key(by(ADMIN_KEY, key)).await.unwrap();
}

/// How a stream ends.
async fn end<T>(mut stream: Streaming<T>) -> Option<Status> {
    let last = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    tokio::time::timeout(SOON, last).await.expect("the stream goes on")
}

fn assert_unauthenticated(ended: Option<Status>, message: &str) {
    let status = ended.expect("it ended as if all was said");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    assert_eq!(status.message(), message);
}

fn read(session: &str) -> v1::ReadRequest {
    v1::ReadRequest { channel: Some(channel(session, Out)), ..Default::default() }
}

fn open_produce(session: &str) -> v1::ProduceRequest {
    let open = v1::ProduceOpen { channel: Some(channel(session, In)) };
    v1::ProduceRequest { message: Some(v1::produce_request::Message::Open(open)) }
}

fn produced(body: &str) -> v1::ProduceRequest {
    let append = v1::ChannelAppend { records: vec![record(body)], ..Default::default() };
    v1::ProduceRequest { message: Some(v1::produce_request::Message::Append(append)) }
}

fn attach(session: &str) -> v1::AttachRequest {
    let open = v1::AttachOpen { session: session.into(), ..Default::default() };
    v1::AttachRequest { message: Some(v1::attach_request::Message::Open(open)) }
}

/// What is said of a stream that nothing more is said on.
fn inbound<T: Send + 'static>(key: &str, first: T) -> (mpsc::Sender<T>, Request<ReceiverStream<T>>) {
    let (say, said) = mpsc::channel(8);
    say.try_send(first).ok().unwrap();
    (say, by(key, ReceiverStream::new(said)))
}

#[tokio::test]
async fn every_stream_of_a_revoked_key_ends_and_no_other() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (key, revocation) = additional_key(&node).await;
    let existing = node.channels().read(by(&key, read("chat"))).await.unwrap().into_inner();
    let waiting = node.channels().read(by(&key, read("later"))).await.unwrap().into_inner();
    let (_produce, request) = inbound(&key, open_produce("chat"));
    let acks = node.channels().produce(request).await.unwrap().into_inner();
    let (_attach, request) = inbound(&key, attach("chat"));
    let attached = node.channels().attach(request).await.unwrap().into_inner();
    let (_work, request) = inbound(&key, hello());
    let work = node.workers().work(request).await.unwrap().into_inner();
    // Nothing was said on it yet, not even what it is for.
    let (_silent, said) = mpsc::channel::<v1::AttachRequest>(8);
    let silent = node.channels().attach(by(&key, ReceiverStream::new(said))).await.unwrap().into_inner();
    let mut other = node.channels().read(node.key(read("chat"))).await.unwrap().into_inner();
    assert!(other.message().await.unwrap().is_some());

    revoke(&node, revocation).await;
    for ended in [
        end(existing).await,
        end(waiting).await,
        end(acks).await,
        end(attached).await,
        end(work).await,
        end(silent).await,
    ] {
        assert_unauthenticated(ended, "Invalid API key");
    }
    let append =
        v1::AppendRequest { channel: Some(channel("chat", Out)), records: vec![record("on")], ..Default::default() };
    node.channels().append(node.key(append)).await.unwrap();
    while !matches!(
        other.message().await.unwrap().unwrap().event,
        Some(v1::read_response::Event::Batch(batch)) if batch.records.iter().any(|r| r.body == "on")
    ) {}
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_or_is_revoked() {
    let node = Node::start().await;
    let of_session = node.create_session("chat").await.public_access_token;
    let expires_at = SystemTime::now() + Duration::from_secs(2);
    let new = v1::CreatePublicTokenRequest {
        scopes: vec!["read:sessions:chat".into()],
        expires_at: Some(expires_at.into()),
        ..Default::default()
    };
    let token = node.tokens().create_public_token(node.key(new)).await.unwrap().into_inner().token;
    let expiring = node.channels().read(by(&token, read("chat"))).await.unwrap().into_inner();
    assert_unauthenticated(end(expiring).await, "Public Access Token is invalid");
    let late = node.channels().read(by(&token, read("chat"))).await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);

    let revoked = node.channels().read(by(&of_session, read("chat"))).await.unwrap().into_inner();
    let request = v1::RevokeTokensRequest { session: Some("chat".into()) };
    node.tokens().revoke_tokens(node.key(request)).await.unwrap();
    assert_unauthenticated(end(revoked).await, "Public Access Token is invalid");
}

#[tokio::test]
async fn appends_under_way_at_the_end_are_made_or_not_made_and_never_twice() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (key, revocation) = additional_key(&node).await;
    let (say, request) = inbound(&key, open_produce("chat"));
    let mut acks = node.channels().produce(request).await.unwrap().into_inner();
    let saying = tokio::spawn(async move {
        for n in 0.. {
            if say.send(produced(&n.to_string())).await.is_err() {
                return;
            }
        }
    });
    let mut acknowledged = 0;
    let mut revocation = Some(revocation);
    let status = loop {
        match tokio::time::timeout(SOON, acks.message()).await.expect("the stream goes on") {
            Ok(message) => acknowledged += u64::from(message.expect("it ended as if all was said").ack.is_some()),
            Err(status) => break status,
        }
        if acknowledged == 100 {
            revoke(&node, revocation.take().unwrap()).await;
        }
    };
    assert_unauthenticated(Some(status), "Invalid API key");
    drop(acks);
    tokio::time::timeout(SOON, saying).await.expect("its messages are still taken").unwrap();
    node.tasks.close();
    tokio::time::timeout(SOON, node.tasks.wait()).await.unwrap();
    let bodies = node.bodies(channel("chat", In)).await;
    let expected: Vec<_> = (0..bodies.len()).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected, "in order, each once");
    assert!(bodies.len() as u64 >= acknowledged, "{} of {acknowledged}", bodies.len());
}

#[tokio::test]
async fn who_does_not_take_its_answers_writes_no_longer_than_its_key_counts() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (key, revocation) = additional_key(&node).await;
    let (say, request) = inbound(&key, open_produce("chat"));
    let mut acks = node.channels().produce(request).await.unwrap().into_inner();
    say.send(produced("first")).await.unwrap();
    assert!(acks.message().await.unwrap().is_some());
    revoke(&node, revocation).await;
    tokio::time::timeout(SOON, say.closed()).await.expect("its messages are still taken");
    assert_eq!(node.bodies(channel("chat", In)).await, ["first"]);
    assert_unauthenticated(end(acks).await, "Invalid API key");
}

#[tokio::test]
async fn what_is_queued_when_the_credential_ends_is_not_begun() {
    const QUEUED: u32 = 1_000;
    let node = Node::start().await;
    node.create_session("chat").await;
    let core = node.services.core.clone();
    let caller = core.authenticate(&node.root_key).await.unwrap();
    let target = convert::parse_target(Some(channel("chat", In))).unwrap();
    let producer = core.open_producer(&caller, target).await.unwrap();
    let step = |n: u32| {
        let append = v1::ChannelAppend { records: vec![record(&n.to_string())], ..Default::default() };
        Ok(Step::Append(convert::parse_stream_append(append).unwrap()))
    };
    // The credential ends when the last one was taken, long before the first one is on the disk.
    let credential = CancellationToken::new();
    let (end, ended) = (credential.clone(), Box::pin(credential.cancelled_owned()));
    let ends = stream::poll_fn(move |_| {
        end.cancel();
        Poll::Pending
    });
    let inbound = stream::iter((0..QUEUED).map(step)).chain(ends).boxed();
    let (acks, _acked) = mpsc::channel(QUEUED as usize);
    let pump = Pump { core, caller, producer, inbound, ended, acks };
    tokio::time::timeout(SOON, pump.run()).await.expect("it goes on").unwrap();
    assert!(node.bodies(channel("chat", In)).await.len() < QUEUED as usize);
}

/// A new one belongs above.
#[test]
fn these_are_all_that_answer_a_bearer_with_a_stream() {
    let api = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = api.file.iter().filter(|file| file.package() == "continuo.v1").flat_map(|file| &file.service);
    let streaming = services.flat_map(|service| &service.method).filter(|method| method.server_streaming());
    let names: HashSet<_> = streaming.map(|method| method.name()).collect();
    // A list ends by itself, and a blob is asked for with a signed URL that is good for one transfer.
    assert_eq!(names, HashSet::from(["Read", "Produce", "Attach", "Work", "ListRecords", "GetBlob"]));
}
