//! Who may reach a session row; what a caller learns who may not.

use crate::support::*;
use continuo_domain::principal::Principal;
use continuo_domain::session::{SessionPatch, SessionRef};
use continuo_domain::{Error, Result, RunId};
use continuo_usecases::{EndAndContinue, ListChannels};

/// Every verb on a row, by name.
async fn all_verbs(world: &World, caller: &Principal, asked: &SessionRef) -> Vec<(&'static str, Result<()>)> {
    let core = &world.core;
    let hand_over = EndAndContinue {
        session: asked.clone(),
        calling_run: RunId::from_body("none"),
        reason: continuo_domain::run::RunReason::Manual,
        external_deployment_id: None,
    };
    let channels = ListChannels { session: asked.clone(), page_size: 10, after: None };
    vec![
        ("get", core.get_session(caller, asked).await.map(drop)),
        ("update", core.update_session(caller, asked, SessionPatch::default()).await.map(drop)),
        ("end_and_continue", core.end_and_continue(caller, hand_over).await.map(drop)),
        ("session_runs", core.session_runs(caller, asked).await.map(drop)),
        ("append", core.append(caller, text(input(asked), "x")).await.map(drop)),
        ("list_records", core.list_records(caller, &output(asked), 0).await.map(drop)),
        ("check_tail", core.check_tail(caller, &output(asked)).await.map(drop)),
        ("list_channels", core.list_channels(caller, channels).await.map(drop)),
        ("initialize", core.initialize_channel(caller, &input(asked), None).await.map(drop)),
        ("trim", core.trim(caller, input(asked), 0).await.map(drop)),
        ("close", core.close_session(caller, asked, None, None).await.map(drop)),
        ("delete", core.delete_session(caller, asked).await),
    ]
}

#[tokio::test]
async fn under_scoped_callers_cannot_tell_a_missing_session_from_an_existing_one() {
    let world = World::new().await;
    world.create("a").await;
    let restricted = world.additional_key(&["read:sessions:other", "write:sessions:other"]).await;
    for caller in
        [world.token(&[]), world.token(&["read:sessions:b", "write:sessions:b", "admin:sessions:b"]), restricted]
    {
        for asked in [named("a"), named("missing"), SessionRef::parse("session_missing").unwrap()] {
            for (verb, outcome) in all_verbs(&world, &caller, &asked).await {
                assert!(matches!(outcome, Err(Error::PermissionDenied)), "{verb} {asked:?}: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_key_learns_what_is_missing() {
    let world = World::new().await;
    for asked in [named("missing"), SessionRef::parse("session_missing").unwrap()] {
        for (verb, outcome) in all_verbs(&world, &world.key, &asked).await {
            if verb == "list_records" && matches!(asked, SessionRef::External(_)) {
                assert!(outcome.is_ok(), "a name without a session has no records");
                continue;
            }
            assert!(matches!(outcome, Err(Error::SessionNotFound)), "{verb} {asked:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_cancel_of_a_missing_run_is_not_found_for_the_key_and_forbidden_for_others() {
    let world = World::new().await;
    let missing = RunId::from_body("none");
    let answer = world.core.cancel_run(&world.key, &missing).await;
    assert!(matches!(answer, Err(Error::RunNotFound)), "{answer:?}");
    let answer = world.core.cancel_run(&world.token(&["read:runs:run_none"]), &missing).await;
    assert!(matches!(answer, Err(Error::PermissionDenied)), "{answer:?}");
}

#[tokio::test]
async fn another_environments_session_does_not_exist() {
    let world = World::new().await;
    let created = world.create("a").await;
    let other = world.other_environment().await;
    for asked in [named("a"), SessionRef::Id(created.session.id.clone())] {
        for (verb, outcome) in all_verbs(&world, &other, &asked).await {
            if verb == "list_records" && outcome.is_ok() {
                continue;
            }
            assert!(matches!(outcome, Err(Error::SessionNotFound)), "{verb}: {outcome:?}");
        }
    }
    let run = world.core.get_run(&other, &created.run.spec.id).await;
    assert!(matches!(run, Err(Error::RunNotFound)), "{run:?}");
}

#[tokio::test]
async fn scopes_by_either_name_open_both_forms_for_read_append_and_hand_over() {
    let world = World::new().await;
    let created = world.create("a").await;
    let id = created.session.id.as_str();
    for scope in ["a", id] {
        let scopes = [format!("read:sessions:{scope}"), format!("write:sessions:{scope}")];
        let caller = world.token(&scopes.each_ref().map(String::as_str));
        for asked in [named("a"), SessionRef::Id(created.session.id.clone())] {
            world.core.get_session(&caller, &asked).await.unwrap();
            world.core.list_records(&caller, &output(&asked), 0).await.map(drop).unwrap();
            world.core.append(&caller, text(input(&asked), "x")).await.unwrap();
            world.core.initialize_channel(&caller, &input(&asked), None).await.unwrap();
            let calling_run = world.session(&asked).await.current_run.unwrap();
            let request = EndAndContinue {
                session: asked.clone(),
                calling_run,
                reason: continuo_domain::run::RunReason::Manual,
                external_deployment_id: None,
            };
            assert!(world.core.end_and_continue(&caller, request).await.unwrap().swapped);
        }
    }
}

#[tokio::test]
async fn closing_and_updating_need_admin_by_either_name() {
    let world = World::new().await;
    let created = world.create("a").await;
    let writer = world.token(&["write:sessions:a", "write:all"]);
    let refused = world.core.update_session(&writer, &named("a"), SessionPatch::default()).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    let refused = world.core.close_session(&writer, &named("a"), None, None).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    let admin = world.token(&["admin:sessions:a"]);
    let by_id = SessionRef::Id(created.session.id);
    world.core.update_session(&admin, &by_id, SessionPatch::default()).await.unwrap();
    world.core.close_session(&admin, &by_id, None, None).await.unwrap();
}

#[tokio::test]
async fn a_restricted_key_is_secret_on_its_own_session_and_nothing_elsewhere() {
    let world = World::new().await;
    world.create("a").await;
    world.create("b").await;
    let key = world.additional_key(&["read:sessions:a", "write:sessions:a"]).await;
    world.core.append(&key, text(output(&named("a")), "x")).await.unwrap();
    world.core.list_records(&key, &input(&named("a")), 0).await.map(drop).unwrap();
    let refused = world.core.append(&key, text(input(&named("b")), "x")).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
    let refused = world.core.close_session(&key, &named("a"), None, None).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
}

#[tokio::test]
async fn a_key_with_admin_is_not_restricted() {
    let world = World::new().await;
    let key = world.additional_key(&["admin"]).await;
    world.core.create_session(&key, new_session(Some("a"))).await.unwrap();
    world.core.close_session(&key, &named("a"), None, None).await.unwrap();
}
