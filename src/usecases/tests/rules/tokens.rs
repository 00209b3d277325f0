//! Tokens: what a minted one opens, and for how long.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::principal::{Credential, Scope};
use continuo_domain::session::{ExternalId, SessionPatch, SessionRef};
use continuo_ports::Clock;
use continuo_usecases::{NewToken, PUBLIC_TOKEN_MS_MAX, SESSION_TOKEN_MS};

fn rename(to: &str) -> SessionPatch {
    SessionPatch { external_id: Some(Some(ExternalId::parse(to).unwrap())), ..Default::default() }
}

#[tokio::test]
async fn a_session_token_says_exactly_two_scopes_and_its_session() {
    let world = World::new().await;
    let created = world.create("a").await;
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    let scopes: Vec<_> = token.scopes.iter().map(Scope::as_str).collect();
    assert_eq!(scopes, ["read:sessions:a", "write:sessions:a"]);
    assert_eq!(token.credential, Credential::PublicToken { session: Some(created.session.id), one_time: None });
}

#[tokio::test]
async fn a_session_token_opens_both_forms_for_an_hour() {
    let world = World::new().await;
    let created = world.create("a").await;
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    for asked in [named("a"), SessionRef::Id(created.session.id.clone())] {
        world.core.get_session(&token, &asked).await.unwrap();
        world.core.append(&token, text(input(&asked), "x")).await.unwrap();
    }
    world.clock.advance_ms(SESSION_TOKEN_MS as i64 - 1_000);
    world.core.authenticate(&created.public_access_token).await.unwrap();
    world.clock.advance_ms(1_000);
    let late = world.core.authenticate(&created.public_access_token).await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))), "{late:?}");
}

#[tokio::test]
async fn a_session_token_follows_a_rename_and_does_not_open_who_takes_the_old_name() {
    let world = World::new().await;
    let created = world.create("a").await;
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    world.core.update_session(&world.key, &named("a"), rename("b")).await.unwrap();
    let thief = world.create("a").await;
    assert_ne!(thief.session.id, created.session.id);
    for asked in [named("b"), SessionRef::Id(created.session.id.clone())] {
        world.core.get_session(&token, &asked).await.unwrap();
        world.core.append(&token, text(input(&asked), "mine")).await.unwrap();
        world.core.list_records(&token, &output(&asked), 0).await.map(drop).unwrap();
    }
    for asked in [named("a"), SessionRef::Id(thief.session.id.clone())] {
        let refused = world.core.get_session(&token, &asked).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
        let refused = world.core.append(&token, text(input(&asked), "x")).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
        let refused = world.core.list_records(&token, &output(&asked), 0).await.map(drop);
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_signed_by_name_follows_the_name() {
    let world = World::new().await;
    world.create("a").await;
    let by_name = world.token(&["read:sessions:a"]);
    world.core.update_session(&world.key, &named("a"), rename("b")).await.unwrap();
    let refused = world.core.get_session(&by_name, &named("b")).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    world.create("a").await;
    world.core.get_session(&by_name, &named("a")).await.unwrap();
}

#[tokio::test]
async fn a_taken_name_is_refused_and_a_given_up_one_is_free_at_once() {
    let world = World::new().await;
    world.create("a").await;
    world.create("b").await;
    let taken = world.core.update_session(&world.key, &named("a"), rename("b")).await;
    assert!(matches!(taken, Err(Error::ExternalIdTaken)), "{taken:?}");
    world.core.update_session(&world.key, &named("b"), rename("c")).await.unwrap();
    world.core.update_session(&world.key, &named("a"), rename("b")).await.unwrap();
}

#[tokio::test]
async fn a_rename_keeps_the_records() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.say("a", "one").await.unwrap();
    world.core.update_session(&world.key, &named("a"), rename("b")).await.unwrap();
    assert_eq!(world.say("b", "two").await.unwrap().start.seq_num, 1);
    let stored = world.records(&created.session.id, continuo_domain::channel::Direction::In).await;
    assert_eq!(bodies(&stored), ["one", "two"]);
}

#[tokio::test]
async fn a_restricted_key_mints_no_more_than_it_has() {
    let world = World::new().await;
    let key = world.additional_key(&["read:sessions:a"]).await;
    let new = |scopes: &[&str], life_ms| NewToken {
        scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
        expires_at: Some(world.clock.now().plus_ms(life_ms)),
        one_time_use: false,
        realtime: None,
        session: None,
    };
    world.core.create_public_token(&key, new(&["read:sessions:a"], 1_000)).await.unwrap();
    let refused = world.core.create_public_token(&key, new(&["read:sessions:a", "write:sessions:a"], 1_000)).await;
    let Err(Error::ScopesExceedKey(denied)) = refused else { panic!("{refused:?}") };
    assert_eq!(denied, ["write:sessions:a"]);
    for life_ms in [0, PUBLIC_TOKEN_MS_MAX + 1] {
        let refused = world.core.create_public_token(&key, new(&["read:sessions:a"], life_ms)).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
    let by_token = world.core.create_public_token(&world.token(&["admin"]), new(&["read:all"], 1_000)).await;
    assert!(matches!(by_token, Err(Error::PermissionDenied)), "{by_token:?}");
}

fn bound(session: &SessionRef, scopes: &[&str]) -> NewToken {
    NewToken {
        scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
        expires_at: None,
        one_time_use: false,
        realtime: None,
        session: Some(session.clone()),
    }
}

#[tokio::test]
async fn a_token_may_be_bound_to_a_session_and_ends_with_its_tokens() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.create("b").await;
    let id = SessionRef::Id(created.session.id.clone());
    for (asked, scopes) in [
        (named("a"), &["read:sessions:a", "write:sessions"][..]),
        (id.clone(), &[&format!("read:sessions:{}", created.session.id)]),
        (named("a"), &["read:sessions:a:out"]),
    ] {
        let made = world.core.create_public_token(&world.key, bound(&asked, scopes)).await.unwrap();
        let token = world.core.authenticate(&made).await.unwrap();
        let session = Some(created.session.id.clone());
        assert_eq!(token.credential, Credential::PublicToken { session, one_time: None });
        world.core.list_records(&token, &output(&named("a")), 0).await.map(drop).unwrap();
        let elsewhere = world.core.list_records(&token, &output(&named("b")), 0).await.map(drop);
        assert!(matches!(elsewhere, Err(Error::PermissionDenied)), "{elsewhere:?}");
        let row = world.core.get_session(&token, &id).await;
        assert_eq!(row.is_ok(), !scopes[0].ends_with(":out"), "{scopes:?}");
        world.clock.advance_ms(2_000);
        world.core.revoke_tokens(&world.key, Some(&named("a"))).await.unwrap();
        world.clock.advance_ms(1_000);
        let revoked = world.core.authenticate(&made).await;
        assert!(matches!(revoked, Err(Error::Unauthenticated(_))), "{revoked:?}");
    }
}

#[tokio::test]
async fn a_key_binds_no_token_to_a_session_it_may_not_reach() {
    let world = World::new().await;
    world.create("a").await;
    world.create("b").await;
    let key = world.additional_key(&["read:sessions:a", "write:tasks"]).await;
    world.core.create_public_token(&key, bound(&named("a"), &["read:sessions:a"])).await.unwrap();
    for (session, scopes) in [("b", "read:sessions:a"), ("nobody", "read:sessions:a"), ("b", "write:tasks:chat")] {
        let refused = world.core.create_public_token(&key, bound(&named(session), &[scopes])).await;
        assert!(matches!(refused, Err(Error::PermissionDenied)), "{session} {scopes}: {refused:?}");
    }
    let refused = world.core.create_public_token(&world.key, bound(&named("b"), &["read:sessions:a"])).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    let missing = world.core.create_public_token(&world.key, bound(&named("nobody"), &["read:sessions"])).await;
    assert!(matches!(missing, Err(Error::SessionNotFound)), "{missing:?}");
}

#[tokio::test]
async fn revoking_a_sessions_tokens_leaves_other_sessions_alone() {
    let world = World::new().await;
    let (a, b) = (world.create("a").await, world.create("b").await);
    world.clock.advance_ms(2_000);
    world.core.revoke_tokens(&world.key, Some(&named("a"))).await.unwrap();
    world.clock.advance_ms(1_000);
    let revoked = world.core.authenticate(&a.public_access_token).await;
    assert!(matches!(revoked, Err(Error::Unauthenticated(_))), "{revoked:?}");
    world.core.authenticate(&b.public_access_token).await.unwrap();
    let fresh = world.create("a").await;
    world.core.authenticate(&fresh.public_access_token).await.unwrap();
}
