//! What the log says, and the index then has.

use super::support::{Running, World, connect, insert, until};
use crate::Options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_updates_and_deletes_arrive() {
    let world = World::new().await;
    let worker = world.start();
    world.insert("s", 250).await;
    world.sql("UPDATE session SET closed_at_ms = 1790000000500, closed_reason = 'done', updated_at_ms = 9").await;
    // Metadata is not touched, so the log does not carry it, and comes from the row before.
    world.sql(r#"UPDATE session SET tags = '["x"]', expires_at_ms = 5 WHERE id LIKE '%3'"#).await;
    world.sql("DELETE FROM session WHERE id LIKE '%7'").await;
    world.is_equal().await;
    for (line, value) in [
        ("leader", 1.0),
        ("parked_rows", 0.0),
        ("buffered_rows", 0.0),
        // Once for each transaction.
        ("replication_lag_ms_count", 4.0),
        (r#"events_processed_total{event_type="insert"}"#, 250.0),
        (r#"events_processed_total{event_type="delete"}"#, 25.0),
    ] {
        assert_eq!(worker.shown(&format!("sessions_replication_{line} ")), Some(value), "{line}");
    }
    assert!(worker.shown("sessions_replication_sessions_inserted_total ").unwrap() >= 250.0);
    assert!(worker.shown(r#"sessions_replication_batches_flushed_total{success="true"} "#).unwrap() >= 3.0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_removed_notes_leave_is_taken_away() {
    let world = World::new().await;
    let worker = world.start();
    world.insert("s", 10_000).await;
    let vacuumed = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'session_change'";
    until("the notes are vacuumed", async || world.number(vacuumed).await > 0).await;
    world.is_equal().await;
    assert_eq!(world.notes().await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_transaction_its_last_word_on_a_session_counts() {
    let world = World::new().await;
    let worker = world.start();
    let statements = [
        insert("many", 30),
        "UPDATE session SET closed_reason = 'once'".into(),
        "UPDATE session SET closed_reason = 'twice' WHERE id LIKE '%2'".into(),
        "SAVEPOINT here".into(),
        "UPDATE session SET closed_reason = 'never'".into(),
        "ROLLBACK TO here".into(),
        "DELETE FROM session WHERE id LIKE '%5'".into(),
        insert("gone", 3),
        "DELETE FROM session WHERE id LIKE 'gone%'".into(),
        "UPDATE session SET external_id = NULL, metadata = '{\"k\": [1, \"two\"]}' WHERE id LIKE '%8'".into(),
    ];
    world.postgres.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.unwrap();
    world.is_equal().await;
    assert_eq!(world.number("SELECT count(*) FROM session WHERE closed_reason = 'twice'").await, 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_the_index_does_not_show_costs_it_nothing() {
    let world = World::new().await;
    let worker = world.start();
    world.insert("s", 10).await;
    world.is_equal().await;
    let stored = worker.metrics.sessions_inserted.get();
    for run in 0..20 {
        world.sql(&format!("UPDATE session SET current_run_id = 'run_{run}', current_run_version = {run}")).await;
    }
    world.is_equal().await;
    let events = |kind| worker.metrics.events_processed.get_or_create(&[("event_type", kind)]).get();
    assert_eq!((stored, worker.metrics.sessions_inserted.get()), (10, 10));
    assert_eq!((events("insert"), events("update"), events("skipped")), (10, 0, 200));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_every_batch_goes_in_parts() {
    let world = World::new().await;
    let options = Options { batch_rows: 10, flights: 3, ..world.options.clone() };
    let worker = Running::start(&options);
    worker.leads().await;
    let most = std::sync::atomic::AtomicI64::new(0);
    let statements = [
        insert("large", 1_000),
        "UPDATE session SET closed_reason = 'again'".into(),
        "DELETE FROM session WHERE id LIKE '%9'".into(),
    ];
    let other = connect(&world.options.database_url).await;
    let transaction = format!("BEGIN; {}; COMMIT", statements.join("; "));
    let written = async {
        other.batch_execute(&transaction).await.unwrap();
        world.caught_up().await;
    };
    let watched = async {
        loop {
            most.fetch_max(worker.metrics.buffered_rows.get(), std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = written => {}
        () = watched => {}
    }
    assert!(most.into_inner() <= 40, "the part that flies, and the one that fills, of at most 20 each");
    world.is_equal().await;
    worker.stop().await;
}

// Everything the slot was told about is stored although nothing of it was sent: other tables move the log too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_other_tables_is_acknowledged() {
    let world = World::new().await;
    let worker = world.start();
    world.sql("CREATE TABLE other (n int)").await;
    world.sql("INSERT INTO other SELECT generate_series(1, 10000)").await;
    world.caught_up().await;
    world.sql("INSERT INTO other SELECT generate_series(1, 10000)").await;
    world.is_equal().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_table_is_compared_by_itself() {
    let world = World::new().await;
    let worker = world.start();
    world.insert("s", 10).await;
    world.is_equal().await;
    world.postgres.batch_execute("TRUNCATE session CASCADE").await.unwrap();
    world.insert("after", 5).await;
    let compared = "SELECT count(*) FROM session_replication WHERE is_complete AND reconciled_at_ms IS NOT NULL";
    until("the index is compared", async || world.number(compared).await == 1).await;
    world.is_equal().await;
    assert_eq!(worker.metrics.events_processed.get_or_create(&[("event_type", "truncate")]).get(), 1);
    worker.stop().await;
}

// The first copy: what was there before the slot, while everybody writes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_is_brought_by_the_worker() {
    let world = World::bare().await;
    world.insert("before", 500).await;
    let worker = world.start();
    for round in 0..20 {
        world.insert(&format!("meanwhile{round}"), 10).await;
        world.sql(&format!("UPDATE session SET closed_reason = '{round}' WHERE id LIKE '%{round}'")).await;
        world.sql(&format!("DELETE FROM session WHERE id LIKE 'before_{round}%3'")).await;
    }
    let compared = "SELECT count(*) FROM session_replication WHERE is_complete AND reconciled_at_ms IS NOT NULL";
    until("the index is complete", async || world.number(compared).await == 1).await;
    world.is_equal().await;
    worker.stop().await;
}
