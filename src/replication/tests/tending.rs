//! What is looked after beside the stream goes on while something else there hangs.

use super::server::Server;
use super::support::{Running, World, connect, until};

/// With the slot asked for only between the tries of a parked row, each of which hangs for 20 s, nobody would see in time that the
/// server does not keep the log any more: it takes five looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_given_up_is_let_go_while_a_parked_row_hangs() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let world = World::on(&server.url).await;
    crate::prepare(&world.options).await.unwrap();
    world.is_complete().await;
    let (proxy, options) = world.index_behind_proxy().await;
    let worker = Running::start(&options);
    world.insert("s", 5).await;
    worker.leads().await;
    world.is_equal().await;
    proxy.silence();
    let park = "INSERT INTO session_parked
            (slot_name, session_id, version, index_row, error, attempts, parked_at_ms, retry_at_ms)
        SELECT $1, 's_1', 1 << 40, CAST(CAST($2 AS text) AS jsonb), 'Code: 469.', 1, 0, 0";
    let row = serde_json::to_string(&world.index_row("s_1").await).unwrap();
    world.postgres.execute(park, &[&options.slot_name, &row]).await.unwrap();
    until("the row is learned of", async || worker.metrics.parked_rows.get() == 1).await;
    // So much that the worker reads no further, and what it does not read fills what lies between.
    for batch in 0..40 {
        world.insert(&format!("more{batch}"), 150).await;
    }
    let unsent = "SELECT CAST(pg_current_wal_flush_lsn() - sent_lsn AS bigint) FROM pg_stat_replication";
    until("the server cannot send", async || {
        worker.metrics.buffered_rows.get() >= 3 * 150 && world.number(unsent).await > 1 << 20
    })
    .await;
    world.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
    world.sql("SELECT pg_reload_conf()").await;
    // A checkpoint may wait for whoever reads the slot.
    let other = connect(&options.database_url).await;
    let filling = tokio::spawn(async move {
        loop {
            for statement in
                ["CREATE TABLE filler (n int)", "DROP TABLE filler", "SELECT pg_switch_wal()", "CHECKPOINT"]
            {
                if other.batch_execute(statement).await.is_err() {
                    return;
                }
            }
        }
    });
    until("the term ends", async || worker.metrics.leader.get() == 0).await;
    filling.abort();
    proxy.up();
    world.sql("DELETE FROM session_parked").await;
    world.sql("ALTER SYSTEM RESET max_slot_wal_keep_size").await;
    world.sql("SELECT pg_reload_conf()").await;
    worker.leads().await;
    let whole = "SELECT CAST(count(*) AS bigint) FROM session_replication WHERE is_complete";
    until("what the slot does not have is compared", async || world.number(whole).await == 1).await;
    world.is_equal().await;
    worker.stop().await;
    drop(world);
    drop(server);
}
