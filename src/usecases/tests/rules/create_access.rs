//! Who may create: the two-permission rule, and what a cached create may not take over.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::Principal;
use continuo_domain::session::{Json, TriggerConfig};
use continuo_usecases::Settings;

async fn open_world() -> World {
    World::with(Settings { create_allow_jwt: true, ..Settings::default() }).await
}

async fn may_create(world: &World, caller: &Principal, name: Option<&str>) -> bool {
    match world.core.create_session(caller, new_session(name)).await {
        Ok(_) => true,
        Err(Error::PermissionDenied) => false,
        Err(other) => panic!("{other:?}"),
    }
}

/// For task `chat` and a body with external id `chat-1`.
const TABLE: [(&[&str], bool); 15] = [
    (&["write:sessions"], false),
    (&["trigger:tasks:chat"], false),
    (&["write:tasks:chat"], false),
    (&["write:sessions", "trigger:tasks:chat"], true),
    (&["write:sessions", "write:tasks:chat"], true),
    (&["write:sessions", "trigger:tasks"], true),
    (&["write:sessions", "write:tasks"], true),
    (&["write:sessions", "trigger:tasks:other"], false),
    (&["write:sessions:chat-1", "trigger:tasks:chat"], true),
    (&["write:sessions:chat-2", "trigger:tasks:chat"], false),
    (&["read:sessions:chat-1", "trigger:tasks:chat"], false),
    (&["write:sessions:chat-1:in", "trigger:tasks:chat"], false),
    (&["write:all"], true),
    (&["admin"], true),
    (&[], false),
];

#[tokio::test]
async fn with_the_setting_on_tokens_create_by_the_two_permission_table() {
    for (scopes, allowed) in TABLE {
        let world = open_world().await;
        assert_eq!(may_create(&world, &world.token(scopes), Some("chat-1")).await, allowed, "{scopes:?}");
    }
}

#[tokio::test]
async fn restricted_keys_create_by_the_same_table_whatever_the_setting() {
    for (scopes, allowed) in TABLE.into_iter().filter(|(scopes, _)| !scopes.is_empty()) {
        let world = World::new().await;
        let key = world.additional_key(scopes).await;
        assert_eq!(may_create(&world, &key, Some("chat-1")).await, allowed, "{scopes:?}");
    }
}

#[tokio::test]
async fn with_the_setting_off_no_token_creates_whatever_it_holds() {
    let world = World::new().await;
    for (scopes, _) in TABLE {
        let refused = world.core.create_session(&world.token(scopes), new_session(Some("chat-1"))).await;
        let Err(Error::Unauthenticated(problem)) = refused else { panic!("{refused:?}") };
        assert_eq!(problem, CredentialProblem::UnknownKey);
    }
    assert!(may_create(&world, &world.key, Some("chat-1")).await);
}

#[tokio::test]
async fn a_create_without_a_name_needs_the_type_level() {
    let world = open_world().await;
    let one = world.token(&["write:sessions:chat-1", "trigger:tasks:chat"]);
    assert!(!may_create(&world, &one, None).await);
    let all = world.token(&["write:sessions", "trigger:tasks:chat"]);
    assert!(may_create(&world, &all, None).await);
}

#[tokio::test]
async fn the_sessions_id_in_a_scope_opens_a_cached_create() {
    let world = open_world().await;
    let created = world.create("chat-1").await;
    let scope = format!("write:sessions:{}", created.session.id);
    assert!(may_create(&world, &world.token(&[&scope, "trigger:tasks:chat"]), Some("chat-1")).await);
    assert!(!may_create(&world, &world.token(&[&scope, "trigger:tasks:chat"]), Some("chat-2")).await);
}

#[tokio::test]
async fn a_cached_create_with_a_task_the_caller_may_not_trigger_changes_nothing() {
    let world = open_world().await;
    world.create("chat-1").await;
    let before = world.session(&named("chat-1")).await;
    let thief = world.token(&["write:sessions:chat-1", "trigger:tasks:mine"]);
    let mut request = new_session(Some("chat-1"));
    request.task_identifier = "mine".into();
    request.trigger_config = TriggerConfig::new(Json::trusted(r#"{"stolen":true}"#.into()));
    let refused = world.core.create_session(&thief, request).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    assert_eq!(world.session(&named("chat-1")).await, before);
}

#[tokio::test]
async fn a_run_creates_no_sessions() {
    let world = open_world().await;
    world.create("a").await;
    let run = world.start_run().await;
    assert!(!may_create(&world, &run.caller, Some("b")).await);
}
