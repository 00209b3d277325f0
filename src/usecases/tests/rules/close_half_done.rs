//! Closes that were left half done, and who finishes them.

use crate::support::*;
use continuo_domain::Error;
use continuo_domain::channel::Direction;
use continuo_domain::error::Cause;
use continuo_domain::session::{ExternalId, SessionPatch};

fn down() -> Error {
    Error::Unavailable(Cause::new("down"))
}

#[tokio::test]
async fn a_close_that_failed_after_closed_at_is_finished_by_the_sweeper() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_before("append", &["direction: In", "fence"], down());
    let failed = world.core.close_session(&world.key, &named("a"), Some("bye".into()), None).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    let half = world.session(&named("a")).await;
    assert!(half.closed_at.is_some() && !half.close_finished);
    assert_eq!(world.core.sweep_closes().await.unwrap(), 1);
    assert!(world.fence(&created.session.id, Direction::In).await.closed);
    assert!(world.fence(&created.session.id, Direction::Out).await.closed);
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await).len(), 1);
    assert!(world.session(&named("a")).await.close_finished);
    assert_eq!(world.core.sweep_closes().await.unwrap(), 0);
}

#[tokio::test]
async fn a_close_that_failed_at_any_later_step_is_finished_by_a_repeat_with_one_wake() {
    for step in ["finish_close", "drain", "channels", "get"] {
        let world = World::new().await;
        let created = world.create("a").await;
        let with: &[&str] = if step == "get" { &["run_"] } else { &[] };
        world.gates.fail_before(step, with, down());
        // A wake that is late is no failure of the close; the other steps are.
        let outcome = world.core.close_session(&world.key, &named("a"), None, None).await;
        assert_eq!(outcome.is_ok(), step == "drain", "{step}");
        world.core.close_session(&world.key, &named("a"), None, None).await.unwrap();
        assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await).len(), 1, "{step}");
        assert!(world.session(&named("a")).await.close_finished, "{step}");
    }
}

#[tokio::test]
async fn a_wake_of_unknown_outcome_is_not_written_twice() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_after("append", &["close:session_"], Error::OutcomeUnknown(Cause::new("lost")));
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap_err();
    world.core.sweep_closes().await.unwrap();
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await).len(), 1);
    assert!(world.session(&named("a")).await.close_finished);
}

#[tokio::test]
async fn a_rename_between_the_halves_does_not_keep_a_close_from_being_finished() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_before("finish_close", &[], down());
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap_err();
    let patch = SessionPatch { external_id: Some(Some(ExternalId::trusted("b".into()))), ..Default::default() };
    world.core.update_session(&world.key, &named("a"), patch).await.unwrap();
    world.core.close_session(&world.key, &named("b"), None, None).await.unwrap();
    assert!(world.session(&named("b")).await.close_finished);
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await).len(), 1);
}

#[tokio::test]
async fn one_close_that_cannot_be_finished_does_not_hold_up_the_others() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.create(name).await;
        world.gates.fail_before("append", &["fence", "direction: In"], down());
        world.core.close_session(&world.key, &named(name), None, None).await.unwrap_err();
        world.clock.advance_ms(1);
    }
    world.gates.fail_before("append", &["fence", "direction: In"], down());
    let _ = world.core.sweep_closes().await;
    assert!(!world.session(&named("a")).await.close_finished);
    assert!(world.session(&named("b")).await.close_finished);
}

#[tokio::test]
async fn a_close_half_done_takes_no_input_though_its_fence_is_missing() {
    let world = World::new().await;
    let created = world.create("a").await;
    world.gates.fail_before("append", &["direction: In", "fence"], down());
    world.core.close_session(&world.key, &named("a"), None, None).await.unwrap_err();
    let refused = world.say("a", "x").await;
    assert!(matches!(refused, Err(Error::SessionClosed { .. })), "{refused:?}");
    assert!(world.records(&created.session.id, Direction::In).await.is_empty());
}
