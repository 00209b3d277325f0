//! Who may read and write which channel.

use crate::support::*;
use continuo_domain::channel::{ChannelName, Direction, ReadFrom};
use continuo_domain::error::Reason;
use continuo_domain::principal::Principal;
use continuo_domain::session::{ExternalId, SessionPatch, SessionRef};
use continuo_domain::{Error, Result};
use continuo_ports::SessionStore;
use continuo_usecases::{ChannelTarget, ReadChannel};

fn reason<T>(outcome: Result<T>) -> Option<Reason> {
    outcome.err().map(|e| e.reason())
}

async fn reads(world: &World, caller: &Principal, target: &ChannelTarget) -> Option<Reason> {
    let request = ReadChannel {
        channel: target.clone(),
        from: ReadFrom::seq_num(0),
        skip_commands: false,
        idle_timeout_ms: 0,
        heartbeat_ms: 0,
        peek_settled: false,
    };
    let followed = reason(world.core.read_channel(caller, request).await.map(drop));
    assert_eq!(followed, reason(world.core.list_records(caller, target, 0).await.map(drop)));
    assert_eq!(followed, reason(world.core.check_tail(caller, target).await.map(drop)));
    followed
}

async fn writes(world: &World, caller: &Principal, target: &ChannelTarget) -> Option<Reason> {
    let appended = reason(world.core.append(caller, text(target.clone(), "x")).await);
    assert_eq!(appended, reason(world.core.initialize_channel(caller, target, None).await));
    assert_eq!(appended, reason(world.core.open_producer(caller, target.clone()).await.map(drop)));
    appended
}

#[tokio::test]
async fn a_session_token_writes_in_and_reads_out_and_never_the_other_way_round() {
    let world = World::new().await;
    let created = world.create("a").await;
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    let a = named("a");
    assert_eq!(writes(&world, &token, &input(&a)).await, None);
    assert_eq!(reads(&world, &token, &output(&a)).await, None);
    assert_eq!(writes(&world, &token, &output(&a)).await, Some(Reason::OutNeedsSecretKey));
    assert_eq!(reads(&world, &token, &input(&a)).await, Some(Reason::InNeedsSecretKey));
    let trimmed = world.core.trim(&token, input(&a), 1).await;
    assert!(matches!(trimmed, Err(Error::PermissionDenied)), "{trimmed:?}");
}

#[tokio::test]
async fn scopes_come_before_the_kind_of_credential() {
    let world = World::new().await;
    world.create("a").await;
    let stranger = world.token(&["read:sessions:b", "write:sessions:b"]);
    assert_eq!(reads(&world, &stranger, &input(&named("a"))).await, Some(Reason::PermissionDenied));
    assert_eq!(writes(&world, &stranger, &output(&named("a"))).await, Some(Reason::PermissionDenied));
}

#[tokio::test]
async fn a_direction_token_opens_that_reserved_channel_only() {
    let world = World::new().await;
    world.create("a").await;
    let a = named("a");
    let out = world.token(&["read:sessions:a:out"]);
    assert_eq!(reads(&world, &out, &output(&a)).await, None);
    let denied = Some(Reason::PermissionDenied);
    assert_eq!(reads(&world, &out, &input(&a)).await, denied);
    assert_eq!(reads(&world, &out, &channel(&a, "tools", Direction::Out)).await, denied);
    assert_eq!(reason(world.core.get_session(&out, &a).await), denied);
    assert_eq!(writes(&world, &out, &input(&a)).await, denied);
}

#[tokio::test]
async fn a_channel_token_opens_that_channel_only() {
    let world = World::new().await;
    world.create("a").await;
    let a = named("a");
    let token = world.token(&["read:sessions:a:channels:tools", "write:sessions:a:channels:tools:in"]);
    let denied = Some(Reason::PermissionDenied);
    for direction in [Direction::In, Direction::Out] {
        assert_eq!(reads(&world, &token, &channel(&a, "tools", direction)).await, None, "a named `.in` is readable");
        assert_eq!(reads(&world, &token, &channel(&a, "other", direction)).await, denied);
    }
    assert_eq!(writes(&world, &token, &channel(&a, "tools", Direction::In)).await, None);
    assert_eq!(writes(&world, &token, &channel(&a, "tools", Direction::Out)).await, denied);
    for target in [input(&a), output(&a)] {
        assert_eq!(reads(&world, &token, &target).await, denied);
        assert_eq!(writes(&world, &token, &target).await, denied);
    }
    assert_eq!(reason(world.core.get_session(&token, &a).await), denied);
}

#[tokio::test]
async fn a_named_out_is_written_with_a_key_only() {
    let world = World::new().await;
    world.create("a").await;
    let tools = channel(&named("a"), "tools", Direction::Out);
    let token = world.token(&["write:sessions:a"]);
    assert_eq!(writes(&world, &token, &tools).await, Some(Reason::OutNeedsSecretKey));
    assert_eq!(writes(&world, &world.key, &tools).await, None);
}

#[tokio::test]
async fn a_legacy_name_that_reads_like_a_narrowed_scope_is_not_opened_by_one() {
    let world = World::new().await;
    let created = world.create("legacy").await;
    let legacy = ExternalId::trusted("X:out".into());
    let patch = SessionPatch { external_id: Some(Some(legacy)), ..SessionPatch::default() };
    let now = continuo_ports::Clock::now(&*world.clock);
    SessionStore::update(&*world.store, &created.session.id, patch, now).await.unwrap();
    let denied = Some(Reason::PermissionDenied);
    let narrowed = world.token(&["read:sessions:X:out"]);
    assert_eq!(reads(&world, &narrowed, &output(&named("X:out"))).await, denied);
    assert_eq!(reason(world.core.get_session(&narrowed, &named("X:out")).await), denied);
    let by_id = world.token(&[&format!("read:sessions:{}", created.session.id)]);
    assert_eq!(reads(&world, &by_id, &output(&named("X:out"))).await, None);
    let by_type = world.token(&["read:sessions"]);
    assert_eq!(reads(&world, &by_type, &output(&SessionRef::Id(created.session.id))).await, None);
}

#[test]
fn a_channel_name_is_letters_digits_and_three_marks() {
    for wrong in ["", "a/b", "a b", "ü", "a:b"] {
        assert!(ChannelName::parse(wrong).is_err(), "{wrong}");
    }
}
