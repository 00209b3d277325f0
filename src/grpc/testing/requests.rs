//! Requests that are answered once.

use super::harness::{Node, bad_fields, by, channel, create_request, reason, record};
use continuo_proto::v1;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tonic::Code;
use v1::Direction::{In, Out};

#[tokio::test]
async fn a_session_is_made_listed_renamed_and_closed() {
    let node = Node::start().await;
    let made = node.create_session("chat-1").await;
    let again = node.create_session("chat-1").await;
    let row = made.session.unwrap();
    assert_eq!((made.is_cached, again.is_cached, &again.run_id), (false, true, &made.run_id));
    assert_eq!(row.status(), v1::SessionStatus::Active);
    assert_eq!(row.trigger_config.unwrap().base_payload_json, r#"{"a":1.0}"#);
    node.create_session("chat-2").await;

    let list = |page_token: String| v1::ListSessionsRequest { page_size: 1, page_token, ..Default::default() };
    let first = node.sessions().list_sessions(node.key(list(String::new()))).await.unwrap().into_inner();
    let second = node.sessions().list_sessions(node.key(list(first.next_page_token))).await.unwrap().into_inner();
    let back = second.previous_page_token.clone();
    let back = node.sessions().list_sessions(node.key(list(back))).await.unwrap().into_inner();
    assert_eq!([first.sessions[0].external_id(), second.sessions[0].external_id()], ["chat-2", "chat-1"]);
    assert_eq!((back.sessions[0].external_id(), second.next_page_token.as_str()), ("chat-2", ""));
    assert_eq!(first.sessions[0].trigger_config, None);

    let update = v1::UpdateSessionRequest {
        session: "chat-1".into(),
        value: Some(v1::Session {
            external_id: Some("renamed".into()),
            tags: vec!["ignored".into()],
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["external_id".into(), "metadata_json".into()] }),
    };
    let updated = node.sessions().update_session(node.key(update)).await.unwrap().into_inner().session.unwrap();
    assert_eq!((updated.external_id(), updated.tags.len(), updated.id.as_str()), ("renamed", 0, row.id.as_str()));

    let close = v1::CloseSessionRequest { session: row.id.clone(), reason: Some("done".into()), calling_run_id: None };
    let closed = node.sessions().close_session(node.key(close)).await.unwrap().into_inner().session.unwrap();
    assert_eq!((closed.status(), closed.closed_reason()), (v1::SessionStatus::Closed, "done"));
    let audit = v1::ListSessionRunsRequest { session: row.id };
    let audit = node.sessions().list_session_runs(node.key(audit)).await.unwrap().into_inner().session_runs;
    assert_eq!((audit.len(), audit[0].reason.as_str(), &audit[0].run_id), (1, "initial", &made.run_id));
    let refused = node.sessions().create_session(node.key(create_request("renamed"))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "SESSION_ALREADY_CLOSED"));
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    let node = Node::start().await;
    let wrong = v1::CreateSessionRequest {
        external_id: Some(String::new()),
        r#type: String::new(),
        task_identifier: "t".into(),
        trigger_config: Some(v1::TriggerConfig {
            max_attempts: Some(11),
            tags: vec![String::new()],
            ..Default::default()
        }),
        tags: vec!["ok".into(), "x".repeat(129)],
        metadata_json: Some("[1]".into()),
        expires_at: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        is_test: false,
    };
    let status = node.sessions().create_session(node.key(wrong)).await.unwrap_err();
    let fields = bad_fields(&status);
    for field in [
        "external_id",
        "type",
        "trigger_config.base_payload_json",
        "trigger_config.max_attempts",
        "trigger_config.tags[0]",
        "tags[1]",
        "metadata_json",
        "expires_at",
    ] {
        assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
    }
    let reserved = node.sessions().create_session(node.key(create_request("session_x"))).await.unwrap_err();
    assert_eq!((reserved.code(), reason(&reserved).as_str()), (Code::InvalidArgument, "EXTERNAL_ID_RESERVED"));

    let mask = prost_types::FieldMask { paths: vec!["closed_at".into()] };
    let update = v1::UpdateSessionRequest { session: "x".into(), value: None, update_mask: Some(mask) };
    assert_eq!(bad_fields(&node.sessions().update_session(node.key(update)).await.unwrap_err()), ["update_mask"]);
    let list = v1::ListSessionsRequest {
        page_size: 101,
        page_token: "garbage".into(),
        page_direction: 7,
        wait_as_of: "then".into(),
        ..Default::default()
    };
    let status = node.sessions().list_sessions(node.key(list)).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["page_size", "page_token", "page_direction", "wait_as_of"]);
    let nowhere = v1::CheckTailRequest { channel: Some(v1::ChannelRef { name: "a b".into(), ..Default::default() }) };
    let status = node.channels().check_tail(node.key(nowhere)).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["channel.session", "channel.name", "channel.direction"]);
}

#[tokio::test]
async fn where_the_database_lists_there_is_nothing_to_wait_for() {
    let node = Node::start().await;
    node.create_session("chat").await;
    for wait_as_of in ["", "now", "ff-ffffffffffffff"] {
        let list = v1::ListSessionsRequest { wait_as_of: wait_as_of.into(), ..Default::default() };
        let page = node.sessions().list_sessions(node.key(list)).await.unwrap().into_inner();
        assert_eq!((page.sessions.len(), page.as_of.as_str()), (1, ""), "{wait_as_of}");
    }
}

#[tokio::test]
async fn what_cannot_be_an_id_is_not_found() {
    let node = Node::start().await;
    let made = node.create_session("chat").await;
    let other = made.public_access_token;
    for session in ["session_", "session_not-there", "session_😀", &format!("session_{}", "x".repeat(200))] {
        let get = || v1::GetSessionRequest { session: session.to_owned() };
        let missing = node.sessions().get_session(node.key(get())).await.unwrap_err();
        assert_eq!(reason(&missing), "SESSION_NOT_FOUND", "{session}");
        let forbidden = node.sessions().get_session(by(&other, get())).await.unwrap_err();
        assert_eq!(reason(&forbidden), "PERMISSION_DENIED", "{session}");
    }
    let without_prefix = made.run_id.trim_start_matches("run_").to_owned();
    for run_id in ["run_not-there".to_owned(), "x".to_owned(), without_prefix] {
        let get = || v1::GetRunRequest { run_id: run_id.clone() };
        assert_eq!(reason(&node.runs().get_run(node.key(get())).await.unwrap_err()), "RUN_NOT_FOUND");
        assert_eq!(reason(&node.runs().get_run(by(&other, get())).await.unwrap_err()), "PERMISSION_DENIED");
    }
    let get = v1::GetWaitpointRequest { waitpoint_id: "waitpoint_not-there".into() };
    assert_eq!(reason(&node.runs().get_waitpoint(node.key(get)).await.unwrap_err()), "WAITPOINT_NOT_FOUND");
    let get = v1::GetRunRequest { run_id: "run_a\0".into() };
    assert_eq!(bad_fields(&node.runs().get_run(node.key(get)).await.unwrap_err()), ["run_id"]);
    let trigger = v1::TriggerRunRequest {
        task_identifier: "t".into(),
        payload: "1".into(),
        machine: Some("huge".into()),
        ..Default::default()
    };
    assert_eq!(bad_fields(&node.runs().trigger_run(node.key(trigger)).await.unwrap_err()), ["machine"]);
}

#[tokio::test]
async fn a_session_token_writes_in_and_reads_out() {
    let node = Node::start().await;
    let made = node.create_session("chat").await;
    let token = made.public_access_token;
    let append = |direction| v1::AppendRequest {
        channel: Some(channel("chat", direction)),
        records: vec![record("hello")],
        part_id: Some("p1".into()),
        ..Default::default()
    };
    let first = node.channels().append(by(&token, append(In))).await.unwrap().into_inner();
    let repeat = node.channels().append(by(&token, append(In))).await.unwrap().into_inner();
    assert_eq!((first.repeated, repeat.repeated, repeat.start), (false, true, first.start));
    let refused = node.channels().append(by(&token, append(Out))).await.unwrap_err();
    assert_eq!(reason(&refused), "OUT_NEEDS_SECRET_KEY");
    node.channels().append(node.key(append(Out))).await.unwrap();

    let tail = v1::CheckTailRequest { channel: Some(channel("chat", In)) };
    let refused = node.channels().check_tail(by(&token, tail.clone())).await.unwrap_err();
    assert_eq!(reason(&refused), "IN_NEEDS_SECRET_KEY");
    let tail = node.channels().check_tail(node.key(tail)).await.unwrap().into_inner();
    assert_eq!(tail.tail.unwrap().seq_num, 1);
    let initialize = v1::InitializeChannelRequest { channel: Some(channel("chat", In)), max_age_seconds: None };
    let named = node.channels().initialize_channel(by(&token, initialize)).await.unwrap().into_inner();
    assert_eq!(named.stream_name, format!("{}/in", made.session.unwrap().id));
    assert_eq!(node.bodies(channel("chat", Out)).await, ["hello"]);

    let trim = v1::TrimRequest { channel: Some(channel("chat", In)), before_seq_num: 1 };
    assert_eq!(reason(&node.channels().trim(by(&token, trim.clone())).await.unwrap_err()), "PERMISSION_DENIED");
    assert_eq!(node.channels().trim(node.key(trim)).await.unwrap().into_inner().position.unwrap().seq_num, 1);
}

#[tokio::test]
async fn a_sessions_channels_are_listed_page_by_page() {
    let node = Node::start().await;
    let made = node.create_session("chat").await;
    node.create_session("other").await;
    let list = |session: &str, page_size: i32, page_token: String| v1::ListChannelsRequest {
        session: session.into(),
        page_size,
        page_token,
    };
    let all = |session: &str| list(session, 0, String::new());
    for (name, direction, bodies) in [("", In, 2), ("b", Out, 1), ("a", In, 3)] {
        for n in 0..bodies {
            let channel = v1::ChannelRef { name: name.into(), ..channel("chat", direction) };
            let records = vec![record(&n.to_string())];
            let append = v1::AppendRequest { channel: Some(channel), records, ..Default::default() };
            node.channels().append(node.key(append)).await.unwrap();
        }
    }
    let trim = v1::TrimRequest { channel: Some(channel("chat", In)), before_seq_num: 2 };
    node.channels().trim(node.key(trim)).await.unwrap();

    let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = node.channels().list_channels(node.key(list("chat", 2, token))).await.unwrap().into_inner();
        found.extend(page.channels);
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    let shown: Vec<_> =
        found.iter().map(|c| (c.name.as_str(), c.direction(), c.earliest_seq_num, c.tail.unwrap().seq_num)).collect();
    // The first run has fenced `.out`.
    assert_eq!((shown, pages), (vec![("", In, 2, 3), ("", Out, 0, 1), ("a", In, 0, 3), ("b", Out, 0, 1)], 2));
    let tail = v1::CheckTailRequest { channel: Some(channel("chat", In)) };
    let tail = node.channels().check_tail(node.key(tail)).await.unwrap().into_inner();
    assert_eq!((found[0].tail, found[0].earliest_seq_num), (tail.tail, tail.earliest_seq_num));
    let whole = node.channels().list_channels(node.key(all("chat"))).await.unwrap().into_inner();
    assert_eq!((&whole.channels, whole.next_page_token.as_str()), (&found, ""));

    let by_token =
        node.channels().list_channels(by(&made.public_access_token, all("chat"))).await.unwrap().into_inner();
    assert_eq!(by_token.channels, found[1..], "the reserved `.in` is for keys");
    for session in ["other", "missing"] {
        let denied = node.channels().list_channels(by(&made.public_access_token, all(session))).await.unwrap_err();
        assert_eq!(reason(&denied), "PERMISSION_DENIED", "{session}");
    }
    let id = made.session.unwrap().id;
    node.sessions().delete_session(node.key(v1::DeleteSessionRequest { session: id.clone() })).await.unwrap();
    for session in ["chat", &id, "missing"] {
        let missing = node.channels().list_channels(node.key(all(session))).await.unwrap_err();
        assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"), "{session}");
    }
}

#[tokio::test]
async fn a_list_of_channels_that_cannot_be_meant() {
    let node = Node::start().await;
    node.create_session("chat").await;
    let first = v1::ListSessionsRequest { page_size: 1, ..Default::default() };
    node.create_session("second").await;
    let foreign = node.sessions().list_sessions(node.key(first)).await.unwrap().into_inner().next_page_token;
    let list = |session: &str, page_size: i32, page_token: &str| {
        let page_token = page_token.to_owned();
        node.key(v1::ListChannelsRequest { session: session.into(), page_size, page_token })
    };
    for size in [0, 1, 1_000] {
        assert!(node.channels().list_channels(list("chat", size, "")).await.is_ok(), "{size}");
    }
    for (session, size, token, fields) in [
        ("chat", -1, "", &["page_size"][..]),
        ("chat", 1_001, "", &["page_size"]),
        ("chat", 1, "garbage", &["page_token"]),
        ("chat", 1, &foreign, &["page_token"]),
        ("", i32::MAX, "0", &["session", "page_size", "page_token"]),
    ] {
        let refused = node.channels().list_channels(list(session, size, token)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), fields, "{session} {size} {token}");
    }
    let append =
        v1::AppendRequest { channel: Some(channel("chat", In)), records: vec![record("x")], ..Default::default() };
    node.channels().append(node.key(append)).await.unwrap();
    let next = node.channels().list_channels(list("chat", 1, "")).await.unwrap().into_inner().next_page_token;
    assert!(!next.is_empty());
    let refused = node.channels().list_channels(list("second", 1, &next)).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["page_token"], "of another session");
}

#[tokio::test]
async fn runs_and_waitpoints_are_triggered_looked_at_and_ended() {
    let node = Node::start().await;
    let trigger = v1::TriggerRunRequest {
        task_identifier: "job".into(),
        payload: r#"{"n":1}"#.into(),
        idempotency_key: Some("k".into()),
        ..Default::default()
    };
    let first = node.runs().trigger_run(node.key(trigger.clone())).await.unwrap().into_inner();
    let again = node.runs().trigger_run(node.key(trigger)).await.unwrap().into_inner();
    let run = first.run.unwrap();
    assert_eq!((again.is_cached, &again.run.unwrap().id, run.payload.as_str()), (true, &run.id, r#"{"n":1}"#));
    let get = by(&first.public_access_token, v1::GetRunRequest { run_id: run.id.clone() });
    assert_eq!(node.runs().get_run(get).await.unwrap().into_inner().run.unwrap().status, "QUEUED");

    let list = |status: &str| v1::ListRunsRequest { statuses: vec![status.into()], ..Default::default() };
    let queued = node.runs().list_runs(node.key(list("QUEUED"))).await.unwrap().into_inner();
    assert_eq!((queued.runs.len(), queued.runs[0].payload.as_str()), (1, ""));
    let status = node.runs().list_runs(node.key(list("PENDING"))).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["statuses[0]"]);
    let nobody = v1::ListRunsRequest { session: Some("nobody".into()), ..Default::default() };
    assert!(node.runs().list_runs(node.key(nobody)).await.unwrap().into_inner().runs.is_empty());

    let metadata =
        v1::UpdateRunMetadataRequest { run_id: run.id.clone(), metadata_json: Some("{}".into()), ..Default::default() };
    let with_metadata = node.runs().update_run_metadata(node.key(metadata)).await.unwrap().into_inner().run.unwrap();
    assert_eq!(with_metadata.metadata_json(), "{}");
    let tags = v1::AddRunTagsRequest { run_id: run.id.clone(), tags: vec!["a".into()] };
    assert_eq!(node.runs().add_run_tags(node.key(tags)).await.unwrap().into_inner().run.unwrap().tags, ["a"]);
    let cancel = v1::CancelRunRequest { run_id: run.id };
    assert_eq!(node.runs().cancel_run(node.key(cancel)).await.unwrap().into_inner().run.unwrap().status, "CANCELED");

    let made =
        node.runs().create_waitpoint(node.key(v1::CreateWaitpointRequest::default())).await.unwrap().into_inner();
    let waitpoint_id = made.waitpoint.unwrap().id;
    let complete = v1::CompleteWaitpointRequest {
        waitpoint_id: waitpoint_id.clone(),
        output: Some("42".into()),
        ..Default::default()
    };
    node.runs().complete_waitpoint(by(&made.public_access_token, complete)).await.unwrap();
    let get = node.key(v1::GetWaitpointRequest { waitpoint_id });
    let row = node.runs().get_waitpoint(get).await.unwrap().into_inner().waitpoint.unwrap();
    assert_eq!((row.output(), row.output_type(), row.completed_at.is_some()), ("42", "application/json", true));
    let rows = node.runs().list_waitpoints(node.key(v1::ListWaitpointsRequest::default())).await.unwrap().into_inner();
    assert_eq!((rows.waitpoints.len(), rows.next_page_token.as_str()), (1, ""));
}

#[tokio::test]
async fn tokens_are_no_stronger_than_their_maker() {
    let node = Node::start().await;
    let new = v1::CreatePublicTokenRequest { scopes: vec!["read:sessions:chat".into()], ..Default::default() };
    let token = node.tokens().create_public_token(node.key(new)).await.unwrap().into_inner().token;
    let whoami = node.tokens().authenticate(by(&token, v1::AuthenticateRequest {})).await.unwrap().into_inner();
    assert_eq!(
        (whoami.kind(), whoami.scopes),
        (v1::CredentialKind::PublicToken, vec!["read:sessions:chat".to_owned()])
    );
    let claims = node.tokens().get_claims(node.key(v1::GetClaimsRequest {})).await.unwrap().into_inner();
    assert_eq!(claims.sub, whoami.environment_id);
    let denied = node.tokens().get_claims(by(&token, v1::GetClaimsRequest {})).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    node.tokens().revoke_tokens(node.key(v1::RevokeTokensRequest { session: None })).await.unwrap();
    let id = node.create_session("chat").await.session.unwrap().id;
    let bound = |session: &str| v1::CreatePublicTokenRequest {
        scopes: vec!["read:sessions".into()],
        session: Some(session.into()),
        ..Default::default()
    };
    let token = node.tokens().create_public_token(node.key(bound("chat"))).await.unwrap().into_inner().token;
    let whoami = node.tokens().authenticate(by(&token, v1::AuthenticateRequest {})).await.unwrap().into_inner();
    assert_eq!(whoami.session_id, Some(id));
    let missing = node.tokens().create_public_token(node.key(bound("nobody"))).await.unwrap_err();
    assert_eq!(reason(&missing), "SESSION_NOT_FOUND");
    let empty = node.tokens().create_public_token(node.key(bound(""))).await.unwrap_err();
    assert_eq!(bad_fields(&empty), ["session"]);
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_hangs_up() {
    let node = Node::start().await;
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (goes, done) = (go.clone(), gone.clone());
    let mut call = Box::pin(node.services.to_the_end(async move {
        goes.notified().await;
        done.store(true, Ordering::SeqCst);
        Ok(())
    }));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    go.notify_one();
    node.tasks.close();
    node.tasks.wait().await;
    assert!(gone.load(Ordering::SeqCst));
}
