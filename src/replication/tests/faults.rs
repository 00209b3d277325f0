//! The index or the database away, silent, back again.

use super::support::{Running, World, until};
use crate::Options;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_index_is_away_reading_stops_and_nothing_is_acknowledged() {
    let world = World::new().await;
    let (proxy, options) = world.index_behind_proxy().await;
    let options = Options { batch_rows: 50, ..options };
    let worker = Running::start(&options);
    world.insert("first", 10).await;
    world.is_equal().await;
    proxy.down();
    for batch in 0..40 {
        world.insert(&format!("more{batch}"), 100).await;
    }
    let most = 50 * 2 * 3;
    until("it is tried again and again", async || {
        assert!(
            worker.metrics.buffered_rows.get() <= most + 100,
            "the transaction that fills a batch is read to its end"
        );
        worker.metrics.insert_retries.get_or_create(&[("operation", "insert")]).get() >= 6
    })
    .await;
    assert!(worker.metrics.buffered_rows.get() >= 50);
    let confirmed = world.confirmed().await;
    assert_eq!(world.notes().await, 4_000);
    proxy.up();
    world.is_equal().await;
    assert!(confirmed < world.first_commit("more").await, "what is not stored is not acknowledged");
    assert_eq!(worker.metrics.buffered_rows.get(), 0);
    worker.stop().await;
}

// It takes connections and requests, and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_hangs_is_given_up_and_asked_again() {
    let world = World::new().await;
    let (proxy, options) = world.index_behind_proxy().await;
    let worker = Running::start(&options);
    world.insert("first", 10).await;
    world.is_equal().await;
    proxy.silence();
    world.insert("second", 10).await;
    until("a batch is on its way", async || worker.metrics.buffered_rows.get() > 0).await;
    // New connections are served; the one that hangs is not told.
    proxy.up();
    world.is_equal().await;
    assert_eq!(worker.metrics.leader.get(), 1, "the same term");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_away_is_gone_on_with_where_it_was() {
    let world = World::new().await;
    let (proxy, options) = world.database_behind_proxy().await;
    let worker = Running::start(&options);
    for round in 0..3 {
        world.insert(&format!("s{round}"), 100).await;
        proxy.down();
        until("the term ended", async || worker.metrics.leader.get() == 0).await;
        world.sql("UPDATE session SET closed_reason = closed_reason || 'x', updated_at_ms = updated_at_ms + 1").await;
        proxy.up();
        worker.leads().await;
    }
    world.is_equal().await;
    worker.stop().await;
}

// What fails for a moment on the connection that works otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_that_cannot_be_removed_keep_the_batch_from_being_acknowledged() {
    let world = World::new().await;
    let worker = world.start();
    worker.leads().await;
    // The trigger cannot note either.
    world.sql("ALTER TABLE session DISABLE TRIGGER USER").await;
    world.sql("ALTER TABLE session_change RENAME TO session_change_away").await;
    world.insert("s", 10).await;
    until("the rows are stored", async || world.first_commit("s").await > 0).await;
    // Long enough for several tries, and for the server to say that it has nothing more.
    sleep(Duration::from_millis(500)).await;
    assert!(world.confirmed().await < world.first_commit("s").await);
    world.sql("ALTER TABLE session_change_away RENAME TO session_change").await;
    world.is_equal().await;
    worker.stop().await;
}
