//! Who replicates, and how it ends in order.

use super::support::{Running, World, connect, insert, until};
use async_trait::async_trait;
use continuo_domain::Result;
use continuo_ports::Leases;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_the_slot_lets_one_in() {
    let world = World::new().await;
    let one = world.start();
    one.leads().await;
    let two = world.start();
    world.insert("s", 50).await;
    world.is_equal().await;
    assert_eq!((one.metrics.leader.get(), two.metrics.leader.get()), (1, 0));
    one.kill().await;
    world.sql("UPDATE session SET closed_reason = 'next'").await;
    two.leads().await;
    world.is_equal().await;
    let three = world.start();
    two.stop().await;
    world.sql("DELETE FROM session WHERE id LIKE '%1'").await;
    three.leads().await;
    world.is_equal().await;
    three.stop().await;
}

/// A lease that others may take.
#[derive(Default)]
struct Turn(AtomicBool);

#[async_trait]
impl Leases for Turn {
    async fn hold(&self, _: &'static str, _: Duration) -> Result<bool> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    async fn release_all(&self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_the_lease_steps_down() {
    let world = World::new().await;
    let (ones, twos) = (Arc::new(Turn::default()), Arc::new(Turn::default()));
    let one = Running::start_by(&world.options, ones.clone());
    let two = Running::start_by(&world.options, twos.clone());
    for round in 0..3 {
        let (is_first, name) = (round % 2 == 0, format!("s{round}"));
        ones.0.store(is_first, Ordering::Relaxed);
        twos.0.store(!is_first, Ordering::Relaxed);
        world.insert(&name, 50).await;
        if is_first {
            one.leads().await
        } else {
            two.leads().await
        }
        until("the other stands by", async || (one.metrics.leader.get() == 1) == is_first).await;
        world.is_equal().await;
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_is_stored_and_acknowledged_before_the_end() {
    let world = World::new().await;
    // Far longer than the test: only the end makes the batch leave.
    let options = crate::Options { flush_interval: Duration::from_secs(3_600), ..world.options.clone() };
    let worker = Running::start(&options);
    worker.leads().await;
    world.insert("s", 10).await;
    until("the rows are read", async || worker.metrics.buffered_rows.get() == 10).await;
    assert_eq!(world.notes().await, 10);
    worker.stop().await;
    assert_eq!(world.notes().await, 0);
    assert!(world.confirmed().await > world.first_commit("s").await);
    let active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = current_database() AND active";
    until("the slot is free", async || world.number(active).await == 0).await;
    let next = world.start();
    world.is_equal().await;
    assert_eq!(next.metrics.sessions_inserted.get(), 0, "nothing came again");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_open_at_the_end_comes_later() {
    let world = World::new().await;
    let worker = world.start();
    worker.leads().await;
    let mut other = connect(&world.options.database_url).await;
    let open = other.transaction().await.unwrap();
    open.batch_execute(&insert("open", 500)).await.unwrap();
    world.insert("s", 10).await;
    world.caught_up().await;
    worker.stop().await;
    open.batch_execute("UPDATE session SET closed_reason = 'late' WHERE id LIKE 'open%'").await.unwrap();
    open.commit().await.unwrap();
    let next = world.start();
    world.is_equal().await;
    assert_eq!(world.number("SELECT count(*) FROM session").await, 510);
    next.stop().await;
}

// Nobody takes what was read: the end does not wait for ever, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_comes_also_while_the_index_is_away() {
    let world = World::new().await;
    let (proxy, options) = world.index_behind_proxy().await;
    let worker = Running::start(&options);
    worker.leads().await;
    proxy.down();
    for batch in 0..20 {
        world.insert(&format!("s{batch}"), 100).await;
    }
    until("the rows are read", async || worker.metrics.buffered_rows.get() >= 100).await;
    worker.stop().await;
    assert_eq!(world.notes().await, 2_000);
    let next = world.start();
    world.is_equal().await;
    next.stop().await;
}
