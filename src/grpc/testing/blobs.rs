//! Blobs through the services: two steps, and nobody else's.

use super::harness::{Node, bad_fields, by, reason};
use super::work::{hear, hello, say};
use continuo_domain::blob::SNAPSHOT_BYTES_MAX;
use continuo_proto::v1::blob_target::Target;
use continuo_proto::v1::{self, PutBlobRequest};
use tonic::{Code, Status};

fn session(name: &str) -> Option<v1::BlobTarget> {
    Some(v1::BlobTarget { target: Some(Target::Session(name.into())) })
}

fn packet(path: &str) -> Option<v1::BlobTarget> {
    Some(v1::BlobTarget { target: Some(Target::Packet(path.into())) })
}

fn token_of(url_path: &str) -> String {
    url_path.strip_prefix("/blobs/").unwrap().to_owned()
}

async fn to_put(node: &Node, bearer: &str, target: Option<v1::BlobTarget>) -> Result<String, Status> {
    let signed = node.blobs().presign_put(by(bearer, v1::PresignPutRequest { target })).await?.into_inner();
    Ok(token_of(&signed.url_path))
}

async fn to_get(node: &Node, bearer: &str, target: Option<v1::BlobTarget>) -> Result<String, Status> {
    let signed = node.blobs().presign_get(by(bearer, v1::PresignGetRequest { target })).await?.into_inner();
    Ok(token_of(&signed.url_path))
}

fn whole(body: &str) -> Vec<PutBlobRequest> {
    let content_type = "text/plain".to_owned();
    vec![
        PutBlobRequest {
            content_type,
            size_bytes: Some(body.len() as u64),
            chunk: body.to_owned().into(),
            last: false,
        },
        PutBlobRequest { last: true, ..Default::default() },
    ]
}

async fn put(node: &Node, token: &str, parts: Vec<PutBlobRequest>) -> Result<(), Status> {
    node.blobs().put_blob(by(token, tokio_stream::iter(parts))).await.map(drop)
}

async fn get(node: &Node, token: &str) -> Result<(String, String), Status> {
    let mut parts = node.blobs().get_blob(by(token, v1::GetBlobRequest {})).await?.into_inner();
    let first = parts.message().await?.unwrap();
    let mut body = Vec::new();
    while let Some(part) = parts.message().await? {
        body.extend_from_slice(&part.chunk);
    }
    assert_eq!(first.size_bytes, body.len() as u64);
    Ok((first.content_type, String::from_utf8(body).unwrap()))
}

#[tokio::test]
async fn a_snapshot_is_put_by_a_session_token_and_got_again() {
    let node = Node::start().await;
    let made = node.create_session("chat").await;
    let id = made.session.unwrap().id;
    let token = made.public_access_token;
    let (to_write, to_read) =
        (to_put(&node, &token, session("chat")).await.unwrap(), to_get(&node, &token, session(&id)).await.unwrap());
    assert_eq!(reason(&get(&node, &to_read).await.unwrap_err()), "BLOB_NOT_FOUND");
    put(&node, &to_write, whole("hello")).await.unwrap();
    assert_eq!(get(&node, &to_read).await.unwrap(), ("text/plain".into(), "hello".into()));
    put(&node, &to_write, vec![PutBlobRequest { last: true, ..Default::default() }]).await.unwrap();
    assert_eq!(get(&node, &to_read).await.unwrap(), ("application/octet-stream".into(), String::new()));
}

#[tokio::test]
async fn a_url_is_for_one_method_and_nothing_else_opens_a_blob() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let (to_write, to_read) = (
        to_put(&node, &node.root_key, session("chat")).await.unwrap(),
        to_get(&node, &node.root_key, session("chat")).await.unwrap(),
    );
    assert_eq!(put(&node, &to_read, whole("x")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(get(&node, &to_write).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(get(&node, &node.root_key).await.unwrap_err().code(), Code::PermissionDenied);
    let mut forged = to_read.clone();
    forged.replace_range(12..13, if &to_read[12..13] == "A" { "B" } else { "A" });
    let refused = get(&node, &forged).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "The URL is invalid or has expired"));
    // Nor does a URL open anything else.
    let refused = node.tokens().authenticate(by(&to_read, v1::AuthenticateRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn scopes_come_before_existence() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let scoped = async |scope: &str| {
        let new = v1::CreatePublicTokenRequest { scopes: vec![scope.into()], ..Default::default() };
        node.tokens().create_public_token(node.key(new)).await.unwrap().into_inner().token
    };
    let (reader, other) = (scoped("read:sessions:chat").await, scoped("write:sessions:other").await);
    for name in ["chat", "missing"] {
        assert_eq!(reason(&to_put(&node, &reader, session(name)).await.unwrap_err()), "PERMISSION_DENIED");
        assert_eq!(reason(&to_get(&node, &other, session(name)).await.unwrap_err()), "PERMISSION_DENIED");
        assert_eq!(reason(&to_put(&node, &reader, packet(name)).await.unwrap_err()), "PERMISSION_DENIED");
    }
    assert!(to_get(&node, &reader, session("chat")).await.is_ok());
    assert_eq!(reason(&to_put(&node, &node.root_key, session("missing")).await.unwrap_err()), "SESSION_NOT_FOUND");
    let bad = to_put(&node, &node.root_key, packet("a/../b")).await.unwrap_err();
    assert_eq!(bad_fields(&bad), ["target.packet"]);
    assert_eq!(bad_fields(&to_put(&node, &node.root_key, None).await.unwrap_err()), ["target"]);
}

#[tokio::test]
async fn packets_belong_to_their_environment() {
    let node = Node::start().await;
    let stranger = node.new_environment("two").await.root_key;
    let request = v1::PresignPutRequest { target: packet("run_1/payload.json") };
    let signed = node.blobs().presign_put(node.key(request)).await.unwrap().into_inner();
    assert_eq!(signed.storage_path(), "run_1/payload.json");
    assert!(signed.expires_at.is_some());
    put(&node, &token_of(&signed.url_path), whole("payload")).await.unwrap();
    let own = to_get(&node, &node.root_key, packet("run_1/payload.json")).await.unwrap();
    assert_eq!(get(&node, &own).await.unwrap().1, "payload");
    let foreign = to_get(&node, &stranger, packet("run_1/payload.json")).await.unwrap();
    assert_eq!(reason(&get(&node, &foreign).await.unwrap_err()), "BLOB_NOT_FOUND");
}

#[tokio::test]
async fn a_blob_that_is_cut_or_too_large_is_not_stored() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let to_write = to_put(&node, &node.root_key, session("chat")).await.unwrap();
    let part = |chunk: &'static str| PutBlobRequest { chunk: chunk.into(), ..Default::default() };
    let cut = put(&node, &to_write, vec![part("half")]).await.unwrap_err();
    assert_eq!(bad_fields(&cut), ["last"]);
    let mut short = whole("hello");
    short[0].size_bytes = Some(6);
    assert_eq!(bad_fields(&put(&node, &to_write, short).await.unwrap_err()), ["size_bytes"]);
    let mut huge = whole("x");
    huge[0].size_bytes = Some(SNAPSHOT_BYTES_MAX + 1);
    assert_eq!(reason(&put(&node, &to_write, huge).await.unwrap_err()), "BLOB_TOO_LARGE");
    let mebibyte = PutBlobRequest { chunk: vec![0; 1 << 20].into(), ..Default::default() };
    let endless = put(&node, &to_write, vec![mebibyte; (SNAPSHOT_BYTES_MAX >> 20) as usize + 1]).await.unwrap_err();
    assert_eq!(reason(&endless), "BLOB_TOO_LARGE");
    let mut header = whole("x");
    header[0].content_type = "a\r\nset-cookie: b".into();
    assert_eq!(bad_fields(&put(&node, &to_write, header).await.unwrap_err()), ["content_type"]);
    let to_read = to_get(&node, &node.root_key, session("chat")).await.unwrap();
    assert_eq!(reason(&get(&node, &to_read).await.unwrap_err()), "BLOB_NOT_FOUND");
}

#[tokio::test]
async fn a_deleted_session_keeps_no_snapshot_and_takes_none() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let to_write = to_put(&node, &node.root_key, session("chat")).await.unwrap();
    let to_read = to_get(&node, &node.root_key, session("chat")).await.unwrap();
    put(&node, &to_write, whole("x")).await.unwrap();
    let delete = v1::DeleteSessionRequest { session: "chat".into() };
    node.sessions().delete_session(node.key(delete)).await.unwrap();
    assert_eq!(reason(&get(&node, &to_read).await.unwrap_err()), "BLOB_NOT_FOUND");
    assert_eq!(reason(&put(&node, &to_write, whole("x")).await.unwrap_err()), "SESSION_NOT_FOUND");
    assert_eq!(reason(&get(&node, &to_read).await.unwrap_err()), "BLOB_NOT_FOUND");
}

#[tokio::test]
async fn a_transcript_is_for_keys() {
    let node = Node::start().await;
    let token = node.create_session("chat").await.public_access_token;
    let ask = |limit| v1::GetTranscriptRequest { session: "chat".into(), limit, before: None };
    let empty = node.sessions().get_transcript(node.key(ask(None))).await.unwrap().into_inner();
    assert_eq!(empty, v1::GetTranscriptResponse::default());
    let refused = node.sessions().get_transcript(by(&token, ask(None))).await.unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    for limit in [0, -1, 1_001] {
        let refused = node.sessions().get_transcript(node.key(ask(Some(limit)))).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["limit"]);
    }
    let to_write = to_put(&node, &token, session("chat")).await.unwrap();
    put(&node, &to_write, whole(r#"{"version":1,"messages":[{"id":"a"},{"id":"b"}],"lastInEventId":"4"}"#))
        .await
        .unwrap();
    let page = node.sessions().get_transcript(node.key(ask(Some(1)))).await.unwrap().into_inner();
    assert_eq!((page.messages_json.as_slice(), page.next_cursor()), (&[r#"{"id":"b"}"#.to_owned()][..], "b"));
    assert_eq!((page.last_in_event_id(), page.last_out_event_id.is_none()), ("4", true));
    put(&node, &to_write, whole("binary")).await.unwrap();
    let refused = node.sessions().get_transcript(node.key(ask(None))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TRANSCRIPT_UNREADABLE"));
}

#[tokio::test]
async fn a_run_has_its_own_sessions_snapshot_and_packets() {
    let node = Node::start().await;
    node.create_session("own").await;
    let (worker, inbound) = tokio::sync::mpsc::channel(8);
    let inbound = tokio_stream::wrappers::ReceiverStream::new(inbound);
    let mut events = node.workers().work(node.key(inbound)).await.unwrap().into_inner();
    worker.send(hello()).await.unwrap();
    let (run_token, sdk_run_token) = loop {
        if let v1::work_response::Message::Assignment(assignment) = hear(&mut events).await {
            break (assignment.run_token, assignment.sdk_run_token);
        }
    };
    node.create_session("other").await;
    let to_write = to_put(&node, &run_token, session("own")).await.unwrap();
    put(&node, &to_write, whole(r#"{"version":1,"messages":[{"id":"a"}]}"#)).await.unwrap();
    let ask = |name: &str| v1::GetTranscriptRequest { session: name.into(), limit: None, before: None };
    let page = node.sessions().get_transcript(by(&run_token, ask("own"))).await.unwrap().into_inner();
    assert_eq!(page.messages_json, [r#"{"id":"a"}"#]);
    assert!(to_put(&node, &run_token, packet("run_1/output")).await.is_ok());
    for name in ["other", "missing"] {
        assert_eq!(reason(&to_put(&node, &run_token, session(name)).await.unwrap_err()), "PERMISSION_DENIED");
        let refused = node.sessions().get_transcript(by(&run_token, ask(name))).await.unwrap_err();
        assert_eq!(reason(&refused), "PERMISSION_DENIED");
    }
    // The one for SDKs stands in for a key elsewhere, and is no run of that session.
    let to_write = to_put(&node, &sdk_run_token, session("other")).await.unwrap();
    put(&node, &to_write, whole(r#"{"version":1,"messages":[]}"#)).await.unwrap();
}

#[tokio::test]
async fn a_run_has_its_payload_and_its_output_in_packets() {
    let node = Node::start().await;
    let of_run = |run_id: &str, field: v1::RunField| {
        let value = v1::RunValue { run_id: run_id.into(), field: field.into() };
        Some(v1::BlobTarget { target: Some(Target::Run(value)) })
    };
    let to_write = to_put(&node, &node.root_key, packet("x/payload.json")).await.unwrap();
    put(&node, &to_write, whole("payload")).await.unwrap();
    let trigger = v1::TriggerRunRequest {
        task_identifier: "agent".into(),
        payload: "x/payload.json".into(),
        payload_type: "application/store".into(),
        ..Default::default()
    };
    let made = node.runs().trigger_run(node.key(trigger)).await.unwrap().into_inner();
    let (id, reader) = (made.run.unwrap().id, made.public_access_token);
    let early = to_get(&node, &reader, of_run(&id, v1::RunField::Output)).await.unwrap_err();
    assert_eq!(reason(&early), "BLOB_NOT_FOUND");
    let nothing = to_get(&node, &reader, of_run(&id, v1::RunField::Unspecified)).await.unwrap_err();
    assert_eq!(bad_fields(&nothing), ["target.run.field"]);
    assert_eq!(
        bad_fields(&to_get(&node, &reader, of_run("x", v1::RunField::Output)).await.unwrap_err()),
        ["target.run.run_id"]
    );
    let to_write = to_put(&node, &node.root_key, of_run(&id, v1::RunField::Payload)).await.unwrap_err();
    assert_eq!(bad_fields(&to_write), ["target.run"]);

    let (worker, inbound) = tokio::sync::mpsc::channel(8);
    let inbound = tokio_stream::wrappers::ReceiverStream::new(inbound);
    let mut events = node.workers().work(node.key(inbound)).await.unwrap().into_inner();
    worker.send(hello()).await.unwrap();
    let assignment = loop {
        if let v1::work_response::Message::Assignment(assignment) = hear(&mut events).await {
            break assignment;
        }
    };
    let lease = Some(v1::LeaseRef { run_id: id.clone(), lease: assignment.lease });
    worker.send(say(v1::work_request::Message::Started(v1::AttemptStarted { lease: lease.clone() }))).await.unwrap();
    let to_read = to_get(&node, &assignment.run_token, packet("x/payload.json")).await.unwrap();
    assert_eq!(get(&node, &to_read).await.unwrap().1, "payload");
    let to_write = to_put(&node, &assignment.run_token, packet("x/output.json")).await.unwrap();
    put(&node, &to_write, whole("output")).await.unwrap();
    let (output, output_type) = (Some("x/output.json".into()), "application/store".into());
    let done = v1::AttemptCompleted { lease, output, output_type };
    worker.send(say(v1::work_request::Message::Completed(done))).await.unwrap();
    drop(worker);
    while events.message().await.unwrap().is_some() {}

    for (field, body) in [(v1::RunField::Payload, "payload"), (v1::RunField::Output, "output")] {
        let to_read = to_get(&node, &reader, of_run(&id, field)).await.unwrap();
        assert_eq!(get(&node, &to_read).await.unwrap(), ("text/plain".into(), body.into()));
    }
}
