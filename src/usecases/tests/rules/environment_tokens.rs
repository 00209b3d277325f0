//! Tokens made with the admin key for an environment.

use crate::support::*;
use continuo_domain::principal::{Credential, Scope};
use continuo_domain::{EnvironmentId, Error, Timestamp};
use continuo_in_process::TimeOrderedIds;
use continuo_ports::Clock;
use continuo_usecases::{Administration, ENVIRONMENT_TOKEN_MS_DEFAULT, NewToken, PUBLIC_TOKEN_MS_MAX};
use std::sync::Arc;

fn administration(world: &World) -> Administration {
    let World { store, credentials, clock, .. } = world;
    let ids = Arc::new(TimeOrderedIds::new(clock.clone()).unwrap());
    Administration::new(store.clone(), credentials.clone(), credentials.clone(), clock.clone(), ids)
}

fn token(scopes: &[&str], expires_at: Option<Timestamp>) -> NewToken {
    let scopes = scopes.iter().map(|s| Scope::parse(s).unwrap()).collect();
    NewToken { scopes, expires_at, one_time_use: false, realtime: None, session: None }
}

#[tokio::test]
async fn it_is_a_public_token_of_that_environment_for_an_hour() {
    let world = World::new().await;
    let other = world.other_environment().await;
    let asked = token(&["read:runs", "write:sessions"], None);
    let made = administration(&world).create_environment_token(&other.environment, asked).await.unwrap();
    let caller = world.core.authenticate(&made).await.unwrap();
    assert_eq!(
        (&caller.environment, &caller.credential),
        (&other.environment, &Credential::PublicToken { session: None, one_time: None })
    );
    assert_eq!(caller.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(), ["read:runs", "write:sessions"]);

    world.clock.advance_ms(ENVIRONMENT_TOKEN_MS_DEFAULT as i64 - 1_000);
    world.core.authenticate(&made).await.unwrap();
    world.clock.advance_ms(1_000);
    let late = world.core.authenticate(&made).await;
    assert!(matches!(late, Err(Error::Unauthenticated(_))), "{late:?}");
}

#[tokio::test]
async fn it_ends_when_the_tokens_of_its_environment_are_revoked() {
    let world = World::new().await;
    let asked = token(&["read:runs"], None);
    let made = administration(&world).create_environment_token(&world.key.environment, asked).await.unwrap();
    world.clock.advance_ms(2_000);
    world.core.revoke_tokens(&world.key, None).await.unwrap();
    world.clock.advance_ms(1_000);
    let revoked = world.core.authenticate(&made).await;
    assert!(matches!(revoked, Err(Error::Unauthenticated(_))), "{revoked:?}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let world = World::new().await;
    let here = &world.key.environment;
    let at = |ms| Some(world.clock.now().plus_ms(ms));
    for (environment, asked, field) in [
        (&EnvironmentId::from_body("nowhere"), token(&["read:runs"], None), "environment_id"),
        (here, token(&[], None), "scopes"),
        (here, token(&["read:runs"; 257], None), "scopes"),
        (here, token(&["read:runs"], at(0)), "expires_at"),
        (here, token(&["read:runs"], at(PUBLIC_TOKEN_MS_MAX + 1)), "expires_at"),
    ] {
        let refused = administration(&world).create_environment_token(environment, asked).await;
        let Err(Error::InvalidArgument(violations)) = refused else { panic!("{field}: {refused:?}") };
        assert_eq!(violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}
