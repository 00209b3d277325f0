//! Create: a row and a live run, once.

use crate::support::*;
use continuo_domain::error::Cause;
use continuo_domain::run::{Run, RunReason};
use continuo_domain::session::{Json, ListFilter, PageFrom, SessionRef, TriggerConfig};
use continuo_domain::{Error, SessionId};
use continuo_ports::Clock;
use continuo_usecases::{ListSessions, Settings};
use std::sync::Arc;

fn payload(run: &Run) -> serde_json::Value {
    serde_json::from_str(&run.spec.payload).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_simultaneous_first_creates_exactly_one_is_not_cached() {
    let world = Arc::new(World::new().await);
    let creates = (0..16).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.create("a").await })
    });
    let mut fresh = 0;
    let mut runs = Vec::new();
    for create in creates.collect::<Vec<_>>() {
        let created = soon(create).await.unwrap();
        fresh += usize::from(!created.is_cached);
        runs.push(created.run.spec.id);
    }
    assert_eq!(fresh, 1);
    assert!(runs.iter().all(|r| *r == runs[0]), "all see one run");
    assert_eq!(world.session(&named("a")).await.current_run_version, 1);
}

#[tokio::test]
async fn a_create_held_between_look_and_write_is_cached_if_another_came_first() {
    let world = Arc::new(World::new().await);
    let mut gate = world.gates.pause_before("create", &[]);
    let late = tokio::spawn({
        let world = world.clone();
        async move { world.create("a").await }
    });
    gate.reached().await;
    let first = world.create("a").await;
    gate.release();
    let late = soon(late).await.unwrap();
    assert_eq!((first.is_cached, late.is_cached), (false, true));
    assert_eq!(first.run.spec.id, late.run.spec.id);
}

#[tokio::test]
async fn without_a_name_every_create_is_new() {
    let world = World::new().await;
    let one = world.core.create_session(&world.key, new_session(None)).await.unwrap();
    let two = world.core.create_session(&world.key, new_session(None)).await.unwrap();
    assert!(!one.is_cached && !two.is_cached);
    assert_ne!(one.session.id, two.session.id);
}

#[tokio::test]
async fn a_cached_create_replaces_the_trigger_config_and_nothing_else() {
    let world = World::new().await;
    let first = world.create("a").await;
    let mut again = new_session(Some("a"));
    again.session_type = "other".into();
    again.tags = vec!["t".into()];
    again.metadata = Some(Json::trusted("{}".into()));
    again.expires_at = Some(world.clock.now().plus_ms(1));
    again.trigger_config = TriggerConfig::new(Json::trusted(r#"{"v":2}"#.into()));
    let cached = world.core.create_session(&world.key, again.clone()).await.unwrap();
    assert!(cached.is_cached);
    let expected = continuo_domain::session::Session {
        trigger_config: again.trigger_config,
        updated_at: cached.session.updated_at,
        ..world.session(&named("a")).await
    };
    assert_eq!(cached.session, expected);
    assert_eq!(cached.session.session_type, first.session.session_type);
    assert_eq!((cached.session.tags.len(), cached.session.metadata, cached.session.expires_at), (0, None, None));
    assert_eq!(cached.run.spec.id, first.run.spec.id, "no run for a config");
}

#[tokio::test]
async fn a_closed_row_is_refused_and_no_run_is_triggered() {
    let world = World::new().await;
    let session = world.create_idle("a").await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let before = world.session(&named("a")).await;
    let mut again = new_session(Some("a"));
    again.trigger_config = TriggerConfig::new(Json::trusted(r#"{"v":2}"#.into()));
    let refused = world.core.create_session(&world.key, again).await;
    assert!(matches!(refused, Err(Error::SessionAlreadyClosed)), "{refused:?}");
    assert_eq!(world.runs_of(&session.id).await.len(), 1);
    assert_eq!(world.session(&named("a")).await, before);
}

#[tokio::test]
async fn an_expired_row_is_refused_and_no_run_is_triggered() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.expires_at = Some(world.clock.now().plus_ms(1_000));
    let created = world.core.create_session(&world.key, new.clone()).await.unwrap();
    world.cancel_quietly(&created.run.spec.id).await;
    world.clock.advance_ms(1_000);
    new.trigger_config = TriggerConfig::new(Json::trusted(r#"{"v":2}"#.into()));
    let refused = world.core.create_session(&world.key, new).await;
    assert!(matches!(refused, Err(Error::SessionAlreadyExpired)), "{refused:?}");
    assert_eq!(world.runs_of(&created.session.id).await.len(), 1);
    assert_eq!(world.session(&named("a")).await.trigger_config, created.session.trigger_config);
}

#[tokio::test]
async fn a_create_that_meets_a_close_after_its_check_triggers_nothing_and_says_closed() {
    let world = Arc::new(World::new().await);
    let session = world.create_idle("a").await;
    let mut gate = world.gates.pause_before("claim_run", &[]);
    let create = tokio::spawn({
        let world = world.clone();
        async move { world.core.create_session(&world.key, new_session(Some("a"))).await }
    });
    gate.reached().await;
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let claims = world.gates.calls("claim_run");
    gate.release();
    let refused = soon(create).await.unwrap();
    assert!(matches!(refused, Err(Error::SessionAlreadyClosed)), "{refused:?}");
    assert_eq!(world.runs_of(&session.id).await.len(), 1, "no run was made for the loser");
    assert_eq!(world.gates.calls("claim_run"), claims, "no further round");
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_healed_by_the_next_call() {
    let world = World::new().await;
    world.gates.fail_after("create", &[], Error::Unavailable(Cause::new("down")));
    let failed = world.core.create_session(&world.key, new_session(Some("a"))).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    world.say("a", "hello").await.unwrap();
    let healed = world.create("a").await;
    assert!(healed.is_cached);
    assert_eq!(world.runs_of(&healed.session.id).await.len(), 1);
}

#[tokio::test]
async fn a_create_whose_claim_fails_is_healed_by_the_next_call() {
    let world = World::new().await;
    world.create_idle("a").await;
    world.gates.fail_before("claim_run", &[], Error::Unavailable(Cause::new("down")));
    let failed = world.core.create_session(&world.key, new_session(Some("a"))).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    let healed = world.create("a").await;
    assert!(healed.is_cached);
    assert_eq!(world.runs_of(&healed.session.id).await.len(), 2);
}

#[tokio::test]
async fn a_failing_engine_keeps_its_inner_text_to_itself() {
    let world = World::new().await;
    world.gates.fail_before("create", &[], Error::internal("password=hunter2"));
    let failed = world.core.create_session(&world.key, new_session(Some("a"))).await.unwrap_err();
    assert_eq!(failed.to_string(), "Internal Server Error");
}

#[tokio::test]
async fn a_create_answers_with_the_run_of_its_own_claim_and_looks_nowhere_for_it() {
    let world = World::new().await;
    world.gates.fail_before("get", &["run_"], Error::internal("a replica that is behind"));
    let created = world.create("a").await;
    assert_eq!(created.session.current_run.as_ref(), Some(&created.run.spec.id));
    assert_eq!(world.run(&created.run.spec.id).await.spec.id, created.run.spec.id);
}

#[tokio::test]
async fn every_answer_names_the_one_current_run() {
    let world = World::new().await;
    let created = world.create("a").await;
    let run = Some(created.run.spec.id.clone());
    assert!(created.run.spec.id.as_str().starts_with("run_"));
    let by_id = SessionRef::Id(created.session.id.clone());
    let core = &world.core;
    let page = ListSessions { filter: ListFilter::default(), page_size: 10, from: PageFrom::Start, wait_as_of: None };
    let listed = core.list_sessions(&world.key, page).await.unwrap().sessions;
    let closed = core.close_session(&world.key, &named("a"), None, None).await.unwrap();
    let closed_again = core.close_session(&world.key, &by_id, None, None).await.unwrap();
    let got = core.get_session(&world.key, &by_id).await.unwrap();
    let updated = core.update_session(&world.key, &by_id, Default::default()).await.unwrap();
    for session in [&created.session, &listed[0], &closed, &closed_again, &got, &updated] {
        assert_eq!(session.current_run, run);
    }
}

#[tokio::test]
async fn the_first_run_gets_the_base_payload_and_the_sessions_id() {
    let world = World::new().await;
    let mut new = new_session(Some("a"));
    new.trigger_config.idle_timeout_s = Some(60);
    let created = world.core.create_session(&world.key, new).await.unwrap();
    let payload = payload(&created.run);
    assert_eq!(payload["sessionId"], created.session.id.as_str());
    assert_eq!(payload["idleTimeoutInSeconds"], 60);
    assert_eq!(payload["trigger"], "submit-message");
    assert_eq!(payload.get("continuation"), None);
    let audit = world.core.session_runs(&world.key, &named("a")).await.unwrap();
    assert_eq!((audit.len(), audit[0].0.reason), (1, RunReason::Initial));
}

#[tokio::test]
async fn a_continuation_names_its_predecessor_and_drops_what_belonged_to_the_first_boot() {
    let world = World::new().await;
    let first = world.create("a").await;
    world.cancel_quietly(&first.run.spec.id).await;
    let second = world.create("a").await;
    assert!(second.is_cached);
    let payload = payload(&second.run);
    assert_eq!(payload["continuation"], true);
    assert_eq!(payload["previousRunId"], first.run.spec.id.as_str());
    assert_eq!(payload["keep"], true);
    for gone in ["message", "messages", "trigger"] {
        assert_eq!(payload.get(gone), None, "{gone}");
    }
    let audit = world.core.session_runs(&world.key, &named("a")).await.unwrap();
    assert_eq!(audit.iter().map(|a| a.0.reason).collect::<Vec<_>>(), [RunReason::Initial, RunReason::Continuation]);
}

#[tokio::test]
async fn with_strict_tasks_only_announced_ones_are_taken() {
    let world = World::with(Settings { tasks_strict: true, ..Settings::default() }).await;
    let refused = world.core.create_session(&world.key, new_session(Some("a"))).await;
    assert!(matches!(refused, Err(Error::TaskNotFound)), "{refused:?}");
    let _worker = world.worker(1).await;
    world.core.create_session(&world.key, new_session(Some("a"))).await.unwrap();
}

#[tokio::test]
async fn a_name_that_reads_like_an_id_is_refused_and_never_looked_up_as_one() {
    use continuo_domain::session::ExternalId;
    assert!(matches!(ExternalId::parse("session_x"), Err(Error::ExternalIdReserved(_))));
    assert_eq!(SessionRef::parse("session_x").unwrap(), SessionRef::Id(SessionId::from_body("x")));
}
