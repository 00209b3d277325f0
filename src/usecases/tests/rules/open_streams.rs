//! Open streams: each ends when the credential it was opened with does, on every replica, and no sooner.

use crate::support::*;
use continuo_domain::error::{Cause, CredentialProblem};
use continuo_domain::principal::{Principal, Scope};
use continuo_domain::session::EnvironmentType;
use continuo_domain::{Error, Timestamp};
use continuo_ports::environments::ApiKey;
use continuo_ports::{Clock, Environments, KeyRing};
use continuo_usecases::{Core, NewToken, ROTATED_KEY_MS, Standing};
use futures_util::FutureExt;
use std::time::Duration;

/// A public token for a minute, bound to a session or to none.
async fn token(world: &World, session: Option<&str>) -> String {
    let new = NewToken {
        scopes: vec![Scope::parse("read:sessions").unwrap()],
        expires_at: Some(world.clock.now().plus_ms(60_000)),
        one_time_use: false,
        realtime: None,
        session: session.map(named),
    };
    world.core.create_public_token(&world.key, new).await.unwrap()
}

async fn open(core: &Core, bearer: &str) -> Standing {
    core.authenticate_stream(bearer).await.unwrap().1
}

async fn look(world: &World, core: &Core) {
    core.end_streams(world.clock.now()).await;
}

fn has_ended(standing: &Standing) -> bool {
    let ended = standing.ended().now_or_never().is_some();
    assert_eq!(ended, standing.problem().is_some(), "an end has its reason");
    ended
}

fn problem(standing: &Standing) -> CredentialProblem {
    match standing.problem() {
        Some(Error::Unauthenticated(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

async fn revoke(world: &World, session: Option<&str>) -> Timestamp {
    world.clock.advance_ms(1_000);
    world.core.revoke_tokens(&world.key, session.map(named).as_ref()).await.unwrap()
}

/// An additional key of the world's environment.
async fn additional_key(world: &World, body: &str) -> (ApiKey, String) {
    let secret = world.credentials.new_additional_key(EnvironmentType::Development).unwrap();
    let key = ApiKey {
        id: continuo_domain::id::ApiKeyId::from_body(body),
        environment: world.key.environment.clone(),
        name: body.into(),
        hash: KeyRing::hash(&*world.credentials, &secret),
        scopes: vec![Scope::parse("admin").unwrap()],
        created_at: world.clock.now(),
        revoked_at: None,
    };
    world.store.add_key(key.clone()).await.unwrap();
    (key, secret)
}

#[tokio::test]
async fn a_stream_ends_at_its_tokens_expiry_and_not_before() {
    let world = World::new().await;
    let sooner = open(&world.core, &token(&world, None).await).await;
    world.clock.advance_ms(30_000);
    let later = open(&world.core, &token(&world, None).await).await;
    world.clock.advance_ms(29_999);
    look(&world, &world.core).await;
    assert!(!has_ended(&sooner));
    world.clock.advance_ms(1);
    look(&world, &world.core).await;
    assert!(has_ended(&sooner) && !has_ended(&later));
    assert_eq!(problem(&sooner), CredentialProblem::InvalidToken);
    world.clock.advance_ms(30_000);
    look(&world, &world.core).await;
    assert!(has_ended(&later));
}

#[tokio::test]
async fn an_expiry_needs_no_database() {
    let world = World::new().await;
    let standing = open(&world.core, &token(&world, None).await).await;
    world.clock.advance_ms(60_000);
    world.key_gates.fail_before("revocations", &[], Error::Unavailable(Cause::new("down")));
    world.key_gates.fail_before("get", &["EnvironmentId"], Error::Unavailable(Cause::new("down")));
    look(&world, &world.core).await;
    assert!(has_ended(&standing));
}

#[tokio::test]
async fn a_revocation_ends_the_streams_it_concerns_on_every_replica_and_no_others() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.create(name).await;
    }
    let replica = world.replica();
    let (_, key) = additional_key(&world, "k").await;
    let root_key = world.credentials.root_key(&world.key.environment).await.unwrap();
    let (of_a, of_b, of_none) =
        (token(&world, Some("a")).await, token(&world, Some("b")).await, token(&world, None).await);
    let (mut of_a_streams, mut others, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for core in [&world.core, &replica] {
        of_a_streams.push(open(core, &of_a).await);
        for bearer in [&of_b, &of_none] {
            others.push(open(core, bearer).await);
        }
        for bearer in [&key, &root_key] {
            keys.push(open(core, bearer).await);
        }
        look(&world, core).await;
    }
    revoke(&world, Some("a")).await;
    for core in [&world.core, &replica] {
        look(&world, core).await;
    }
    assert!(of_a_streams.iter().all(has_ended));
    assert!(!others.iter().any(has_ended) && !keys.iter().any(has_ended));
    revoke(&world, None).await;
    for core in [&world.core, &replica] {
        look(&world, core).await;
    }
    assert!(others.iter().all(has_ended) && !keys.iter().any(has_ended));
}

#[tokio::test]
async fn a_token_issued_after_the_revocation_keeps_its_stream() {
    let world = World::new().await;
    world.create("a").await;
    revoke(&world, Some("a")).await;
    let standing = open(&world.core, &token(&world, Some("a")).await).await;
    look(&world, &world.core).await;
    assert!(!has_ended(&standing));
}

#[tokio::test]
async fn a_revoked_key_ends_its_streams() {
    let world = World::new().await;
    let ((revoked, bearer), (_, other)) = (additional_key(&world, "k1").await, additional_key(&world, "k2").await);
    let replica = world.replica();
    let (ends, stays) = (open(&replica, &bearer).await, open(&replica, &other).await);
    world.store.revoke_key(&revoked.environment, &revoked.id, world.clock.now()).await.unwrap();
    look(&world, &replica).await;
    assert!(has_ended(&ends) && !has_ended(&stays));
    assert_eq!(problem(&ends), CredentialProblem::UnknownKey);
}

#[tokio::test]
async fn a_rotated_root_key_ends_its_streams_and_those_of_what_it_signed_at_the_end_of_its_grace() {
    let world = World::new().await;
    let environment = world.store.get(&world.key.environment).await.unwrap().unwrap();
    let old_key = world.credentials.root_key(&world.key.environment).await.unwrap();
    let new = NewToken {
        scopes: vec![Scope::parse("read:sessions").unwrap()],
        expires_at: Some(world.clock.now().plus_ms(2 * ROTATED_KEY_MS)),
        one_time_use: false,
        realtime: None,
        session: None,
    };
    let old_token = world.core.create_public_token(&world.key, new.clone()).await.unwrap();
    let old = [open(&world.core, &old_key).await, open(&world.core, &old_token).await];
    let new_key = world.credentials.new_root_key(EnvironmentType::Development).unwrap();
    let until = world.clock.now().plus_ms(ROTATED_KEY_MS);
    let rotated = world.credentials.rotate_root_key(environment, &new_key, until).unwrap();
    world.store.put(rotated, world.clock.now()).await.unwrap();
    world.credentials.invalidate();
    let new_token = world.core.create_public_token(&world.key, new).await.unwrap();
    let new = [open(&world.core, &new_key).await, open(&world.core, &new_token).await];
    world.clock.advance_ms(ROTATED_KEY_MS as i64 - 1);
    look(&world, &world.core).await;
    assert!(!old.iter().any(has_ended), "in its grace");
    world.clock.advance_ms(1);
    look(&world, &world.core).await;
    assert!(old.iter().all(has_ended) && !new.iter().any(has_ended));
}

#[tokio::test]
async fn a_runs_streams_go_on_whatever_becomes_of_its_token() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let tokens = &run.assigned.tokens;
    let standing = open(&world.core, &tokens.run_token).await;
    revoke(&world, None).await;
    world.clock.advance_ms(10 * 60_000);
    look(&world, &world.core).await;
    let late = world.core.authenticate(&tokens.run_token).await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))), "{late:?}");
    assert!(!has_ended(&standing));
}

#[tokio::test]
async fn a_run_token_for_sdks_opens_more_than_its_session_and_its_streams_end_with_it() {
    let world = World::new().await;
    world.create("a").await;
    let run = world.start_run().await;
    let bearer = run.assigned.tokens.sdk_run_token.as_deref().unwrap();
    let expires_at = world.core.authenticate(bearer).await.unwrap().expires_at.unwrap();
    let standing = open(&world.core, bearer).await;
    world.clock.advance_ms(expires_at.0 - world.clock.now().0 - 1);
    look(&world, &world.core).await;
    assert!(!has_ended(&standing));
    world.clock.advance_ms(1);
    look(&world, &world.core).await;
    assert!(has_ended(&standing));
}

#[tokio::test]
async fn a_revocation_that_is_committed_late_is_not_missed() {
    let world = World::new().await;
    let session = world.create("a").await.session;
    let bearer = token(&world, Some("a")).await;
    let standing = open(&world.core, &bearer).await;
    world.clock.advance_ms(2_000);
    let dated = world.clock.now();
    for _ in 0..30 {
        world.clock.advance_ms(1_000);
        look(&world, &world.core).await;
    }
    world.store.revoke_tokens(&world.key.environment, Some(&session.id), dated).await.unwrap();
    look(&world, &world.core).await;
    assert!(has_ended(&standing));
}

#[tokio::test]
async fn what_is_revoked_while_the_database_does_not_answer_is_found_when_it_does() {
    let world = World::new().await;
    let (_, key) = additional_key(&world, "k").await;
    let standing = open(&world.core, &key).await;
    look(&world, &world.core).await;
    let down = || Error::Unavailable(Cause::new("down"));
    let keys = world.store.keys(&world.key.environment).await.unwrap();
    world.clock.advance_ms(1_000);
    world.store.revoke_key(&world.key.environment, &keys[0].id, world.clock.now()).await.unwrap();
    for _ in 0..10 {
        world.clock.advance_ms(60_000);
        world.key_gates.fail_before("revocations", &[], down());
        look(&world, &world.core).await;
        assert!(!has_ended(&standing), "nobody has heard of it");
    }
    // It is told, and cannot be asked about: the doubt stays.
    world.key_gates.fail_before("find_key", &[], down());
    look(&world, &world.core).await;
    assert!(!has_ended(&standing));
    look(&world, &world.core).await;
    assert!(has_ended(&standing));
}

#[tokio::test]
async fn a_stream_that_opens_while_its_key_is_revoked_ends_all_the_same() {
    let world = World::new().await;
    let (key, bearer) = additional_key(&world, "k").await;
    // Somebody else's, so that the node looks.
    let (_, other) = additional_key(&world, "other").await;
    let _open = open(&world.core, &other).await;
    world.credentials.invalidate();
    let mut gate = world.key_gates.pause_after("find_key", &[]);
    let revoking = async {
        gate.reached().await;
        world.store.revoke_key(&key.environment, &key.id, world.clock.now()).await.unwrap();
        look(&world, &world.core).await;
        gate.release();
    };
    let (standing, ()) = tokio::join!(open(&world.core, &bearer), revoking);
    assert!(!has_ended(&standing), "the database had said that it counts");
    look(&world, &world.core).await;
    assert!(has_ended(&standing));
}

#[tokio::test]
async fn one_revocation_is_asked_about_once_and_closed_streams_not_at_all() {
    let world = World::new().await;
    world.create("a").await;
    let (_, key) = additional_key(&world, "k").await;
    let closed = open(&world.core, &key).await;
    let (revoked, _) = additional_key(&world, "k2").await;
    world.store.revoke_key(&revoked.environment, &revoked.id, world.clock.now()).await.unwrap();
    drop(closed);
    let before = world.key_gates.calls("find_key");
    look(&world, &world.core).await;
    assert_eq!(world.key_gates.calls("find_key"), before);
    let standing = open(&world.core, &key).await;
    world.store.revoke_key(&revoked.environment, &revoked.id, world.clock.now()).await.unwrap();
    let before = world.key_gates.calls("find_key");
    for _ in 0..5 {
        look(&world, &world.core).await;
    }
    assert!(!has_ended(&standing));
    assert_eq!(world.key_gates.calls("find_key"), before, "it was told of before this stream was opened");
    let (revoked, _) = additional_key(&world, "k3").await;
    world.store.revoke_key(&revoked.environment, &revoked.id, world.clock.now()).await.unwrap();
    for _ in 0..5 {
        look(&world, &world.core).await;
    }
    assert!(!has_ended(&standing));
    assert_eq!(world.key_gates.calls("find_key"), before + 1);
}

/// The loops, as a node runs them.
#[tokio::test]
async fn the_node_ends_streams_by_itself_and_asks_nobody_while_none_is_open() {
    let world = World::new().await;
    world.create("a").await;
    let looping = tokio::spawn(world.core.clone().run_open_streams());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.key_gates.calls("revocations"), 0);
    let standing = open(&world.core, &token(&world, Some("a")).await).await;
    revoke(&world, Some("a")).await;
    soon(standing.ended()).await;
    let elsewhere = open(&world.core, &token(&world, None).await).await;
    // By another replica, which tells nobody.
    let environment = &world.key.environment;
    world.store.revoke_tokens(environment, None, world.clock.now().plus_ms(1)).await.unwrap();
    soon(elsewhere.ended()).await;
    world.clock.advance_ms(2);
    let expiring = open(&world.core, &token(&world, None).await).await;
    world.clock.advance_ms(60_000);
    soon(expiring.ended()).await;
    world.stopping.cancel();
    tokio::time::timeout(Duration::from_secs(20), looping).await.unwrap().unwrap();
}

#[tokio::test]
async fn principals_know_their_end() {
    let world = World::new().await;
    let expires_at = |caller: Principal| caller.expires_at;
    let bearer = token(&world, None).await;
    let found = expires_at(world.core.authenticate(&bearer).await.unwrap());
    assert_eq!(found, Some(world.clock.now().plus_ms(60_000)));
    assert_eq!(expires_at(world.key.clone()), None);
}
