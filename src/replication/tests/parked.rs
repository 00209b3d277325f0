//! Rows that the index refuses.

use super::support::{World, until};
use crate::parked::PARKED_MAX;

/// Makes the index refuse sessions closed for this reason (469).
const REFUSE: &str = "ALTER TABLE TABLE_OF_SESSIONS ADD CONSTRAINT no_poison CHECK closed_reason != 'poison'";
const ACCEPT: &str = "ALTER TABLE TABLE_OF_SESSIONS DROP CONSTRAINT no_poison";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_rows_are_parked_and_the_rest_goes_on() {
    let world = World::new().await;
    world.index_sql(REFUSE).await;
    world.insert("s", 300).await;
    world.sql("UPDATE session SET closed_reason = 'poison' WHERE id IN ('s_7', 's_77', 's_277')").await;
    let worker = world.start();
    world.caught_up().await;
    assert_eq!((world.parked().await, worker.metrics.parked_rows.get()), (3, 3));
    let kept = "SELECT count(*) FROM session_parked p JOIN session s ON s.id = p.session_id
        WHERE index_row ->> 'closed_reason' = 'poison' AND error LIKE 'Code: 469%' AND attempts = 1 AND retry_at_ms > parked_at_ms
        AND version >> 56 = 1";
    assert_eq!(world.number(kept).await, 3);
    // Theirs stay, and that they are parked is noted too, so that lists show them as the database has them.
    until("the notes of the others go", async || world.notes().await == 6).await;
    // Others come and go meanwhile.
    world.sql("UPDATE session SET closed_reason = 'fine' WHERE id = 's_1'").await;
    world.caught_up().await;
    assert_eq!(world.parked().await, 3);

    // Refused again, and later again.
    world.sql("UPDATE session_parked SET retry_at_ms = 0 WHERE session_id = 's_7'").await;
    until("it is tried again", async || {
        world.number("SELECT attempts FROM session_parked WHERE session_id = 's_7'").await == 2
    })
    .await;
    // Stored by a newer version.
    world.sql("UPDATE session SET closed_reason = 'mended' WHERE id = 's_77'").await;
    until("it is parked no more", async || world.parked().await == 2).await;
    // Stored when the index accepts it.
    world.index_sql(ACCEPT).await;
    world.sql("UPDATE session_parked SET retry_at_ms = 0").await;
    until("they are parked no more", async || world.parked().await == 0).await;
    world.is_equal().await;
    assert_eq!(worker.metrics.parked_rows.get(), 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_goes_on_with_what_one_parked() {
    let world = World::new().await;
    world.index_sql(REFUSE).await;
    world.insert("s", 5).await;
    world.sql("UPDATE session SET closed_reason = 'poison'").await;
    let one = world.start();
    until("all are parked", async || world.parked().await == 5).await;
    one.kill().await;
    let two = world.start();
    two.leads().await;
    assert_eq!(two.metrics.parked_rows.get(), 5);
    // The deletion of what was never stored carries the same row: refused too, until the index accepts it.
    world.sql("DELETE FROM session WHERE id = 's_1'").await;
    world.sql("UPDATE session SET closed_reason = 'mended' WHERE id = 's_2'").await;
    until("the newer row is stored", async || world.parked().await == 4).await;
    world.index_sql(ACCEPT).await;
    world.sql("UPDATE session_parked SET retry_at_ms = 0").await;
    until("they are parked no more", async || {
        world.sql("UPDATE session_parked SET retry_at_ms = 0").await;
        world.parked().await == 0
    })
    .await;
    world.is_equal().await;
    two.stop().await;
}

// What a worker parked after a newer row of the session was stored (its batch was slower) is found out by the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_row_that_was_overtaken_is_dropped() {
    let world = World::new().await;
    world.insert("s", 2).await;
    let one = world.start();
    world.is_equal().await;
    one.stop().await;
    world.sql("UPDATE session SET closed_reason = 'newer'").await;
    let two = world.start();
    world.is_equal().await;
    two.stop().await;
    let table = world.clickhouse.table("sessions_v1");
    let newest = format!("SELECT toInt64(min(_version)) FROM {table} FINAL");
    let version = world.clickhouse.client().query(&newest).fetch_one::<i64>().await.unwrap() - 1;
    let row = world.index_row("s_1").await;
    let row = continuo_clickhouse::SessionRow { closed_reason: "older".into(), _version: version as u64, ..row };
    let park = "INSERT INTO session_parked
        (slot_name, session_id, version, index_row, error, attempts, parked_at_ms, retry_at_ms)
        VALUES ($1, 's_1', $2, CAST(CAST($3 AS text) AS jsonb), 'Code: 469.', 1, 0, 0)";
    let text = serde_json::to_string(&row).unwrap();
    world.postgres.execute(park, &[&world.options.slot_name, &version, &text]).await.unwrap();
    let three = world.start();
    until("it is parked no more", async || world.parked().await == 0).await;
    world.is_equal().await;
    let stored = three.metrics.insert_retries.get_or_create(&[("operation", "parked")]).get();
    assert_eq!(stored, 0, "there was no need to");
    three.stop().await;
}

// That many are no accident of the rows: whoever looks after the index has to, and nothing is lost until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_refused_rows_are_waited_for() {
    let world = World::new().await;
    world.index_sql(REFUSE).await;
    let park = "INSERT INTO session_parked
            (slot_name, session_id, version, index_row, error, attempts, parked_at_ms, retry_at_ms)
        SELECT $1, 'earlier_' || n, 1, '{}', 'Code: 469.', 1, 0, 9000000000000 FROM generate_series(1, $2) n";
    let room = 2;
    let earlier = i32::try_from(PARKED_MAX).unwrap() - room;
    world.postgres.execute(park, &[&world.options.slot_name, &earlier]).await.unwrap();
    let worker = world.start();
    worker.leads().await;
    world.insert("s", 20).await;
    world.sql("UPDATE session SET closed_reason = 'poison' WHERE id IN ('s_3', 's_5', 's_8', 's_13')").await;
    until("there is no room", async || world.parked().await == i64::from(earlier + room)).await;
    let retries = || worker.metrics.insert_retries.get_or_create(&[("operation", "insert")]).get();
    until("the others are tried again and again", async || retries() >= 3).await;
    world.index_sql(ACCEPT).await;
    world.sql("UPDATE session_parked SET retry_at_ms = 0 WHERE session_id LIKE 's%'").await;
    world.caught_up().await;
    until("none of them is parked", async || world.parked().await == i64::from(earlier)).await;
    world.is_equal().await;
    worker.stop().await;
}
