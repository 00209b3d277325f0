//! A worker that ends without a last word, at every point between the log and the acknowledgement.

use super::support::{Running, World, connect, insert, until};
use crate::Options;
use std::time::Duration;
use tokio::time::sleep;

async fn stored(world: &World) -> u64 {
    let count = format!("SELECT count() FROM {}", world.clickhouse.table("sessions_v1"));
    world.clickhouse.client().query(&count).fetch_one::<u64>().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_index_has_answered() {
    let world = World::new().await;
    let (proxy, options) = world.index_behind_proxy().await;
    let worker = Running::start(&options);
    world.insert("first", 10).await;
    world.is_equal().await;
    proxy.silence();
    let before = world.confirmed().await;
    world.insert("second", 300).await;
    until("batches are on their way", async || worker.metrics.buffered_rows.get() > 0).await;
    worker.kill().await;
    assert!(world.confirmed().await >= before);
    assert_eq!(world.notes().await, 300, "lists know what the index misses");
    let next = world.start();
    world.is_equal().await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_rows_are_stored_and_before_their_notes_are_removed() {
    let world = World::new().await;
    let worker = world.start();
    worker.leads().await;
    world.insert("first", 10).await;
    world.is_equal().await;
    // Notes are made by whoever writes sessions; whoever removes them waits for a lock.
    let gate = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
        CREATE TRIGGER gate BEFORE DELETE ON session_change FOR EACH STATEMENT EXECUTE FUNCTION gate();
        SELECT pg_advisory_lock(1)";
    world.postgres.batch_execute(gate).await.unwrap();
    world.insert("second", 50).await;
    until("the rows are stored", async || stored(&world).await >= 60).await;
    assert!(world.confirmed().await < world.first_commit("second").await);
    assert_eq!(world.notes().await, 50);
    worker.kill().await;
    world.postgres.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let next = world.start();
    world.is_equal().await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_everything_and_before_the_acknowledgement_is_out() {
    let world = World::new().await;
    let (proxy, options) = world.database_behind_proxy().await;
    let worker = Running::start(&options);
    world.insert("first", 10).await;
    world.is_equal().await;
    for round in 0..5 {
        world.insert(&format!("s{round}"), 20).await;
        let expected = 10 + 20 * (round + 1);
        until("the rows are stored", async || stored(&world).await >= expected).await;
        // Cut at some moment between the insert and the acknowledgement.
        proxy.down();
        until("the term ended", async || worker.metrics.leader.get() == 0).await;
        proxy.up();
    }
    world.is_equal().await;
    worker.stop().await;
}

// Every moment there is, by chance: under writes of every kind, in small batches, on a transaction in parts too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_any_moment() {
    let world = World::new().await;
    let options =
        Options { batch_rows: 40, flush_interval: Duration::from_millis(2), flights: 3, ..world.options.clone() };
    let writer = connect(&world.options.database_url).await;
    let writing = tokio::spawn(async move {
        for round in 0..40 {
            let statements = [
                insert(&format!("r{round}"), 1 + round % 40),
                "UPDATE session SET closed_reason = coalesce(closed_reason, '') || 'x' WHERE id LIKE '%33'".into(),
                format!("UPDATE session SET updated_at_ms = updated_at_ms + 1 WHERE id LIKE 'r{}%'", round / 2),
                format!("DELETE FROM session WHERE id LIKE 'r{}_1%'", round / 3),
            ];
            if round % 2 == 0 {
                writer.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.unwrap();
            } else {
                for statement in &statements {
                    writer.batch_execute(statement).await.unwrap();
                }
            }
        }
    });
    let mut kills = 0;
    while !writing.is_finished() || kills < 20 {
        let worker = Running::start(&options);
        worker.leads().await;
        sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 60))).await;
        worker.kill().await;
        kills += 1;
    }
    writing.await.unwrap();
    let last = Running::start(&options);
    world.is_equal().await;
    last.stop().await;
}
