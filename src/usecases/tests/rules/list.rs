//! Lists: who may, and which page.

use crate::support::*;
use continuo_domain::principal::Principal;
use continuo_domain::session::{ExternalId, ListFilter, ListPosition, PageFrom, SessionPatch, SessionStatus};
use continuo_domain::{Error, Result};
use continuo_usecases::{ListSessions, SessionPage};

async fn list(world: &World, caller: &Principal, tasks: &[&str]) -> Result<usize> {
    let filter = ListFilter { task_identifiers: tasks.iter().map(|t| (*t).into()).collect(), ..Default::default() };
    let count = world.core.count_sessions(caller, &filter).await;
    let request = ListSessions { filter, page_size: 100, from: PageFrom::Start, wait_as_of: None };
    let page = world.core.list_sessions(caller, request).await;
    assert_eq!(count.is_ok(), page.is_ok());
    page.map(|p| p.sessions.len())
}

#[tokio::test]
async fn a_token_for_one_task_lists_only_with_that_task_as_its_filter() {
    let world = World::new().await;
    world.create("a").await;
    let mut other = new_session(Some("b"));
    other.task_identifier = "other".into();
    world.core.create_session(&world.key, other).await.unwrap();
    for (scope, tasks, expected) in [
        ("read:tasks:chat", &["chat"][..], Some(1)),
        ("read:tasks:chat", &[], None),
        ("read:tasks:chat", &["other"], None),
        ("read:tasks:chat", &["chat", "other"], None),
        ("read:tasks", &[], Some(2)),
        ("read:tasks", &["chat", "other"], Some(2)),
        ("read:sessions", &[], Some(2)),
        ("read:sessions", &["other"], Some(1)),
        ("read:all", &[], Some(2)),
        ("admin", &[], Some(2)),
        ("read:sessions:a", &[], None),
        ("read:sessions:a", &["chat"], None),
        ("write:sessions", &[], None),
    ] {
        let listed = list(&world, &world.token(&[scope]), tasks).await;
        match expected {
            Some(count) => assert_eq!(listed.unwrap(), count, "{scope} {tasks:?}"),
            None => assert!(matches!(listed, Err(Error::PermissionDenied)), "{scope} {tasks:?}: {listed:?}"),
        }
    }
    assert_eq!(list(&world, &world.key, &[]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_session_token_lists_nothing() {
    let world = World::new().await;
    let created = world.create("a").await;
    let token = world.core.authenticate(&created.public_access_token).await.unwrap();
    let refused = list(&world, &token, &["chat"]).await;
    assert!(matches!(refused, Err(Error::PermissionDenied)), "{refused:?}");
}

fn names(page: &SessionPage) -> Vec<&str> {
    page.sessions.iter().map(|s| s.external_id.as_ref().map_or("", ExternalId::as_str)).collect()
}

#[tokio::test]
async fn a_backward_page_holds_the_neighbours_newest_first() {
    let world = World::new().await;
    for n in 1..=11 {
        world.create(&format!("c{n:02}")).await;
        world.clock.advance_ms(1);
    }
    let at = world.session(&named("c07")).await;
    let from = PageFrom::Before(ListPosition { created_at: at.created_at, id: at.id });
    let request = ListSessions { filter: ListFilter::default(), page_size: 3, from, wait_as_of: None };
    let page = world.core.list_sessions(&world.key, request).await.unwrap();
    assert_eq!(names(&page), ["c10", "c09", "c08"]);
    assert_eq!(page.previous.unwrap().id, page.sessions[0].id);
    assert_eq!(page.next.unwrap().id, page.sessions[2].id);
}

#[tokio::test]
async fn several_statuses_are_any_of() {
    let world = World::new().await;
    world.create("open").await;
    world.create("closed").await;
    world.core.close_session(&world.key, &named("closed"), None, None).await.unwrap();
    let mut expiring = new_session(Some("expired"));
    expiring.expires_at = Some(continuo_ports::Clock::now(&*world.clock).plus_ms(1));
    world.core.create_session(&world.key, expiring).await.unwrap();
    world.clock.advance_ms(1);
    let statuses = vec![SessionStatus::Active, SessionStatus::Closed];
    let filter = ListFilter { statuses, ..Default::default() };
    let request = ListSessions { filter, page_size: 10, from: PageFrom::Start, wait_as_of: None };
    let page = world.core.list_sessions(&world.key, request).await.unwrap();
    assert_eq!(names(&page), ["closed", "open"]);
}

#[tokio::test]
async fn a_write_is_in_the_very_next_list() {
    let world = World::new().await;
    world.create("a").await;
    let patch = SessionPatch { tags: Some(vec!["t".into()]), ..Default::default() };
    world.core.update_session(&world.key, &named("a"), patch).await.unwrap();
    let filter = ListFilter { tags: vec!["t".into()], ..Default::default() };
    assert_eq!(world.core.count_sessions(&world.key, &filter).await.unwrap(), 1);
    let tags = world.core.list_session_tags(&world.key, "", 10).await.unwrap();
    assert_eq!(tags.len(), 1);
}
