//! Which channels of a session a caller is told of.

use crate::support::*;
use continuo_domain::channel::{ChannelKey, Direction};
use continuo_domain::principal::{Credential, Principal, StreamClaim, StreamWriter};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result, SessionId};
use continuo_usecases::{CHANNELS_PAGE_MAX, ChannelPage, ListChannels};
use futures_util::future;

async fn page(
    world: &World,
    caller: &Principal,
    session: &SessionRef,
    page: (u32, Option<ChannelKey>),
) -> Result<ChannelPage> {
    let (page_size, after) = page;
    world.core.list_channels(caller, ListChannels { session: session.clone(), page_size, after }).await
}

/// Without the session's id; the reasons of what was refused.
async fn listed(world: &World, caller: &Principal, name: &str) -> Vec<String> {
    match page(world, caller, &named(name), (CHANNELS_PAGE_MAX, None)).await {
        Ok(page) => {
            assert_eq!(page.next, None);
            let short = |channel: &ChannelKey| channel.to_string().split_once('/').unwrap().1.to_owned();
            page.channels.iter().map(|written| short(&written.channel)).collect()
        }
        Err(refused) => vec![format!("{:?}", refused.reason())],
    }
}

/// Session `a` with four channels besides the reserved pair.
async fn world() -> (World, SessionId, Principal) {
    let world = World::new().await;
    let created = world.create("a").await;
    world.create("b").await;
    for name in ["tools", "tools-2"] {
        for direction in [Direction::In, Direction::Out] {
            world.core.append(&world.key, text(channel(&named("a"), name, direction), "x")).await.unwrap();
        }
    }
    world.say("a", "x").await.unwrap();
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    (world, created.session.id, token)
}

#[tokio::test]
async fn a_caller_is_told_of_what_it_may_read() {
    let (world, session, session_token) = world().await;
    let all = ["in", "out", "channels/tools/in", "channels/tools/out", "channels/tools-2/in", "channels/tools-2/out"];
    assert_eq!(listed(&world, &world.key, "a").await, all);
    assert_eq!(listed(&world, &session_token, "a").await, all[1..], "the reserved `.in` is for keys");
    let restricted = world.additional_key(&["read:sessions:a"]).await;
    assert_eq!(listed(&world, &restricted, "a").await, all);
    let by_id = page(&world, &world.key, &SessionRef::Id(session.clone()), (10, None)).await.unwrap();
    assert_eq!(by_id, page(&world, &world.key, &named("a"), (10, None)).await.unwrap());
    for (scopes, expected) in [
        (&["read:sessions"][..], &all[1..]),
        (&["read:sessions:a:out"], &all[1..2]),
        (&["read:sessions:a:channels:tools"], &all[2..4]),
        (&["read:sessions:a:channels:tools-2:out", "read:sessions:b"], &all[5..]),
        (&["read:sessions:a:channels:unwritten", "write:sessions:a"], &[]),
        (&["read:sessions:a:in", "read:sessions:a:out", "read:sessions:a:channels:tools:in"], &all[1..3]),
    ] {
        assert_eq!(listed(&world, &world.token(scopes), "a").await, expected, "{scopes:?}");
    }
}

#[tokio::test]
async fn a_run_is_told_of_its_own_sessions_channels() {
    let world = World::new().await;
    world.create("a").await;
    world.say("a", "x").await.unwrap();
    let run = world.start_run().await;
    assert_eq!(listed(&world, &run.caller, "a").await, ["in", "out"]);
    world.create("b").await;
    assert_eq!(listed(&world, &run.caller, "b").await, ["PermissionDenied"]);
    assert_eq!(listed(&world, &run.caller, "missing").await, ["PermissionDenied"]);
}

#[tokio::test]
async fn a_stream_token_is_told_of_its_channel() {
    let (world, session, _) = world().await;
    let target = channel(&named("a"), "tools", Direction::Out);
    let direct = world.core.initialize_channel(&world.key, &target, None).await.unwrap().access_token;
    let direct = world.core.authenticate(&direct).await.unwrap();
    assert_eq!(listed(&world, &direct, "a").await, ["channels/tools/out"]);
    assert_eq!(listed(&world, &direct, "b").await, ["PermissionDenied"]);
    let channel = ChannelKey::reserved(session, Direction::In);
    let append_only = StreamClaim { channel, writer: StreamWriter::Public };
    let append_only = Principal { credential: Credential::StreamToken(append_only), ..direct };
    assert_eq!(listed(&world, &append_only, "a").await, ["PermissionDenied"]);
}

#[tokio::test]
async fn who_may_read_nothing_cannot_tell_a_missing_session_from_an_existing_one() {
    let (world, ..) = world().await;
    let restricted = world.additional_key(&["read:sessions:b"]).await;
    let tokens = [
        &[][..],
        &["read:sessions:b:out"],
        &["write:sessions:a", "write:sessions:missing", "admin:sessions"],
        &["read:sessions:a:in", "read:sessions:missing:in"],
        &["read:sessions:b:channels:tools", "write:sessions:a:channels:tools", "read:runs"],
    ];
    for caller in tokens.map(|scopes| world.token(scopes)).into_iter().chain([restricted]) {
        for name in ["a", "missing"] {
            assert_eq!(listed(&world, &caller, name).await, ["PermissionDenied"], "{name} {:?}", caller.scopes);
        }
    }
    for scope in ["read:sessions:missing", "read:sessions:missing:out", "read:sessions:missing:channels:tools"] {
        assert_eq!(listed(&world, &world.token(&[scope]), "missing").await, ["SessionNotFound"]);
    }
    assert_eq!(listed(&world, &world.key, "missing").await, ["SessionNotFound"]);
}

#[tokio::test]
async fn a_session_that_nobody_wrote_to_has_none_and_a_deleted_one_is_missing() {
    let world = World::new().await;
    let session = world.create_idle("quiet").await;
    let of = SessionRef::Id(session.id);
    let before = page(&world, &world.key, &of, (10, None)).await.unwrap();
    assert!(before.channels.iter().all(|written| written.channel.direction == Direction::Out), "fences: {before:?}");
    world.core.delete_session(&world.key, &of).await.unwrap();
    let gone = page(&world, &world.key, &of, (10, None)).await;
    assert!(matches!(gone, Err(Error::SessionNotFound)), "{gone:?}");
}

#[tokio::test]
async fn pages_are_full_of_what_may_be_read() {
    let world = World::new().await;
    world.create("a").await;
    // With the reserved `.out` one more than a page.
    let names: Vec<_> = (0..CHANNELS_PAGE_MAX).map(|n| format!("n{n}")).collect();
    let writes =
        names.iter().map(|name| world.core.append(&world.key, text(channel(&named("a"), name, Direction::In), "x")));
    assert!(future::join_all(writes).await.iter().all(Result::is_ok));
    let a = named("a");
    let first = page(&world, &world.key, &a, (CHANNELS_PAGE_MAX, None)).await.unwrap();
    assert_eq!(first.channels.len(), CHANNELS_PAGE_MAX as usize);
    assert_eq!(first.next.as_ref(), first.channels.last().map(|last| &last.channel));
    let rest = page(&world, &world.key, &a, (CHANNELS_PAGE_MAX, first.next)).await.unwrap();
    assert_eq!((rest.channels.len(), rest.next), (1, None));
    // The last page is full as well.
    let halves = page(&world, &world.key, &a, (1, Some(rest.channels[0].channel.clone()))).await.unwrap();
    assert_eq!((halves.channels.len(), halves.next), (0, None));

    let few = world.token(&[
        "read:sessions:a:channels:n10",
        "read:sessions:a:channels:n500",
        "read:sessions:a:channels:n999",
    ]);
    let first = page(&world, &few, &a, (2, None)).await.unwrap();
    let rest = page(&world, &few, &a, (2, first.next.clone())).await.unwrap();
    assert_eq!((first.channels.len(), rest.channels.len(), rest.next), (2, 1, None));
}

#[tokio::test]
async fn a_page_goes_on_in_its_own_session_only() {
    let (world, session, session_token) = world().await;
    let after = Some(ChannelKey::reserved(session, Direction::In));
    let elsewhere = page(&world, &world.key, &named("b"), (10, after.clone())).await;
    assert!(matches!(elsewhere, Err(Error::InvalidArgument(_))), "{elsewhere:?}");
    let denied = page(&world, &session_token, &named("b"), (10, after)).await;
    assert!(matches!(denied, Err(Error::PermissionDenied)), "who may not ask is told nothing: {denied:?}");
}
