//! Database and index compared while both go on: what was wrong in the index is right afterwards, and nothing that is newer was
//! lost to it.

use super::server::Server;
use super::support::{PATIENCE, World, connect, until};
use crate::{Metrics, Options, Report, Scope, Step, prepare, reconcile};
use continuo_domain::{Error, Result};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

impl World {
    async fn reconciled(&self, scope: Scope) -> Report {
        let metrics = Arc::new(Metrics::default());
        let report =
            timeout(PATIENCE, reconcile(&self.options, scope, &metrics, &|_| {})).await.expect("it hangs").unwrap();
        assert_eq!(metrics.reconcile_differences.get(), report.differing as i64);
        report
    }

    async fn is_marked_complete(&self) -> bool {
        self.number("SELECT count(*) FROM session_replication WHERE is_complete AND reconciled_at_ms > 0").await == 1
    }

    async fn change_index(&self, statement: &str) {
        self.index_sql(&format!("ALTER TABLE TABLE_OF_SESSIONS {statement} SETTINGS mutations_sync = 2")).await;
    }
}

fn report(compared: u64, written: u64, removed: u64) -> Report {
    Report { compared, differing: written + removed, written, removed }
}

/// A comparison in a task, with what it is at.
struct Comparing {
    task: JoinHandle<Result<Report>>,
    steps: watch::Receiver<Option<Step>>,
}

impl Comparing {
    fn start(options: &Options) -> Self {
        let (step, steps) = watch::channel(None);
        let options = options.clone();
        let task = tokio::spawn(async move {
            let metrics = Arc::new(Metrics::default());
            reconcile(&options, Scope::Mend, &metrics, &|at| {
                step.send_replace(Some(at));
            })
            .await
        });
        Self { task, steps }
    }

    /// Fails where it ends without.
    async fn is_at(&mut self, step: Step) {
        let at = self.steps.wait_for(|at| *at == Some(step));
        timeout(PATIENCE, at).await.expect("it is never at that").expect("it ended before");
    }

    async fn ended(self) -> Result<Report> {
        timeout(PATIENCE, self.task).await.expect("it hangs").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_copy_brings_what_was_there_before_the_slot() {
    let world = World::bare().await;
    world.insert("old", 250).await;
    prepare(&world.options).await.unwrap();
    // Or the worker would do it.
    world.is_complete().await;
    world.insert("new", 30).await;
    let running = world.start();
    running.leads().await;
    // Given up in the middle, and done again.
    let mut comparing = Comparing::start(&world.options);
    let some = |at: &Option<Step>| matches!(at, Some(Step::Compares(report)) if report.written > 0);
    timeout(PATIENCE, comparing.steps.wait_for(some)).await.unwrap().expect("it writes before it ends");
    comparing.task.abort();
    assert!(!world.is_marked_complete().await);
    let found = world.reconciled(Scope::Mend).await;
    assert_eq!((found.compared, found.removed), (280, 0));
    assert!(found.written > 0 && found.written <= 250, "{found:?}");
    assert!(world.is_marked_complete().await);
    world.is_equal().await;
    for scope in [Scope::Check, Scope::Mend] {
        assert_eq!(world.reconciled(scope).await, report(280, 0, 0));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_completes_the_index_by_itself() {
    let world = World::bare().await;
    world.insert("old", 250).await;
    let running = world.start();
    until("the first copy is whole", async || world.is_marked_complete().await).await;
    world.is_equal().await;
    running.stop().await;
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    until("the slot is free", async || world.postgres.batch_execute(drop).await.is_ok()).await;
    world.insert("unseen", 20).await;
    world.sql("UPDATE session SET tags = '[]' WHERE id = 'old_1'").await;
    world.sql("DELETE FROM session WHERE id = 'old_2'").await;
    let running = world.start();
    running.leads().await;
    until("what the slot missed is there", async || world.is_marked_complete().await).await;
    world.is_equal().await;
    world.insert("more", 5).await;
    world.sql("TRUNCATE session CASCADE").await;
    world.insert("again", 5).await;
    world.caught_up().await;
    until("the index is emptied too", async || world.is_marked_complete().await).await;
    world.is_equal().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_in_the_index_is_found_and_mended() {
    let world = World::new().await;
    let running = world.start();
    world.insert("s", 300).await;
    world
        .sql("UPDATE session SET tags = '[\"later\"]', updated_at_ms = updated_at_ms + 1 WHERE id IN ('s_40', 's_41')")
        .await;
    world.sql("DELETE FROM session WHERE id = 's_50'").await;
    world.is_equal().await;
    assert_eq!(world.reconciled(Scope::Check).await, report(299, 0, 0));
    // Lost, also the first, the last, and the newest of two versions.
    world.change_index("DELETE WHERE session_id IN ('s_1', 's_17', 's_99', 's_300')").await;
    world.change_index("DELETE WHERE session_id = 's_40' AND tags = ['later']").await;
    // Altered.
    world.change_index("UPDATE tags = ['wrong'] WHERE session_id = 's_2'").await;
    world.change_index("UPDATE closed_at = now64(3), closed_reason = 'wrong' WHERE session_id = 's_3'").await;
    world.change_index("UPDATE metadata = '{\"data\":{\"n\":6}}' WHERE session_id = 's_5'").await;
    world.change_index("UPDATE is_test = 1 - is_test WHERE session_id = 's_6'").await;
    // Too much: a session that never was, one that was deleted, one that is at two places, one marked as deleted.
    let copy = "INSERT INTO TABLE_OF_SESSIONS SELECT * REPLACE";
    let from = |id: &str| format!("FROM (SELECT * FROM TABLE_OF_SESSIONS FINAL WHERE session_id = '{id}')");
    world.index_sql(&format!("{copy} ('never' AS session_id) {}", from("s_7"))).await;
    world.index_sql(&format!("{copy} ('zzz' AS session_id, 0 AS _version) {}", from("s_7"))).await;
    world.index_sql(&format!("{copy} (now64(3) AS created_at) {}", from("s_8"))).await;
    world.index_sql(&format!("{copy} (_version + 1 AS _version, 1 AS _is_deleted) {}", from("s_9"))).await;
    // Whichever versions a merge has left, the newest one is there.
    let newest = "FROM (SELECT * FROM TABLE_OF_SESSIONS WHERE session_id = 's_50' ORDER BY _version DESC LIMIT 1)";
    world.index_sql(&format!("{copy} (_version + 1 AS _version, 0 AS _is_deleted) {newest}")).await;
    let differences = report(0, 10, 4);
    let check = world.reconciled(Scope::Check).await;
    assert_eq!((check.differing, check.written, check.removed), (differences.differing, 0, 0));
    let mended = world.reconciled(Scope::Mend).await;
    assert_eq!(Report { compared: 0, ..mended }, differences);
    world.is_equal().await;
    assert_eq!(world.reconciled(Scope::Check).await, report(299, 0, 0));
    // What was mended gives way to what comes after.
    world
        .sql("UPDATE session SET closed_at_ms = 1, closed_reason = 'over' WHERE id IN ('s_1', 's_2', 's_9', 's_40')")
        .await;
    world.sql("DELETE FROM session WHERE id IN ('s_3', 's_17')").await;
    world.is_equal().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_comparison_mends_everything_while_everybody_writes() {
    let world = World::new().await;
    let running = world.start();
    world.insert("still", 400).await;
    world.insert("busy", 200).await;
    world.is_equal().await;
    let (stop, stopped) = watch::channel(false);
    let writers = (0..2).map(|writer| {
        let (url, stopped) = (world.options.database_url.clone(), stopped.clone());
        tokio::spawn(async move {
            let client = connect(&url).await;
            let mut round = 0;
            while !*stopped.borrow() {
                round += 1;
                let session = format!("busy_{}", (round * 7 + writer * 67) % 200 + 1);
                client
                    .batch_execute(&format!(
                        "UPDATE session SET tags = '[\"{writer} {round}\"]', updated_at_ms = {round} WHERE id = '{session}';
                         BEGIN; UPDATE session SET closed_at_ms = {round}, closed_reason = '{writer}' WHERE id = '{session}';
                         DELETE FROM session WHERE id = 'w{writer}_{}_1'; COMMIT;
                         {}",
                        round - 1,
                        super::support::insert(&format!("w{writer}_{round}"), 1)
                    ))
                    .await
                    .unwrap();
            }
            round
        })
    });
    let writers: Vec<_> = writers.collect();
    world.change_index("DELETE WHERE cityHash64(session_id) % 5 = 0").await;
    world
        .change_index("UPDATE tags = ['wrong'] WHERE cityHash64(session_id) % 5 = 1 AND session_id LIKE 'still%'")
        .await;
    let mut found = Report::default();
    for round in 0..2 {
        found = world.reconciled(Scope::Mend).await;
        assert!(round > 0 || found.written > 100, "{found:?}");
    }
    stop.send_replace(true);
    for writer in writers {
        assert!(writer.await.unwrap() > 3, "it wrote meanwhile");
    }
    world.is_equal().await;
    assert_eq!(world.reconciled(Scope::Check).await.differing, 0, "{found:?}");
    running.stop().await;
}

// A server with a standby has commits in its log for as long as the standby takes, and shows them only then. The log is read
// all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_in_the_log_and_not_yet_seen_is_waited_for() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let world = World::on(&server.url).await;
    world.sql("ALTER SYSTEM SET synchronous_commit = local").await;
    world.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    world.sql("SELECT pg_reload_conf()").await;
    until("the server waits for standbys", async || {
        let client = connect(&world.options.database_url).await;
        let row = client.query_one("SHOW synchronous_standby_names", &[]).await.unwrap();
        row.get::<_, String>(0) == "nobody"
    })
    .await;
    world.postgres.batch_execute("SET synchronous_commit = local").await.unwrap();
    prepare(&world.options).await.unwrap();
    world.is_complete().await;
    let running = world.start();
    world.insert("s", 3).await;
    world.is_equal().await;
    let writer = connect(&world.options.database_url).await;
    let committing = tokio::spawn(async move {
        let update =
            "SET synchronous_commit = on; UPDATE session SET closed_at_ms = 7, closed_reason = 'new' WHERE id = 's_2'";
        writer.batch_execute(update).await
    });
    let seen = "SELECT count(*) FROM session WHERE closed_reason = 'new'";
    let stored =
        format!("SELECT count() FROM {} FINAL WHERE closed_reason = 'new'", world.clickhouse.table("sessions_v1"));
    let is_stored = async || world.clickhouse.client().query(&stored).fetch_one::<u64>().await.unwrap() == 1;
    until("the index has it", is_stored).await;
    assert_eq!(world.number(seen).await, 0, "and the database does not show it");
    let mut comparing = Comparing::start(&world.options);
    comparing.is_at(Step::AwaitsTransactions).await;
    world.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
    world.sql("SELECT pg_reload_conf()").await;
    timeout(PATIENCE, committing).await.unwrap().unwrap().unwrap();
    assert_eq!(comparing.ended().await.unwrap(), report(3, 0, 0), "with the session as it is");
    world.is_equal().await;
    running.stop().await;
    drop(world);
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_open_across_the_snapshot_has_the_last_word() {
    let world = World::new().await;
    let running = world.start();
    world.insert("s", 5).await;
    world.is_equal().await;
    world.change_index("DELETE WHERE session_id IN ('s_1', 's_2', 's_3', 's_4')").await;
    let (before, across) = (connect(&world.options.database_url).await, connect(&world.options.database_url).await);
    let change =
        |id: &str| format!("BEGIN; UPDATE session SET closed_at_ms = 7, closed_reason = 'new' WHERE id = '{id}'");
    before.batch_execute(&change("s_1")).await.unwrap();
    let mut comparing = Comparing::start(&world.options);
    comparing.is_at(Step::AwaitsTransactions).await;
    across.batch_execute(&change("s_2")).await.unwrap();
    across.batch_execute("DELETE FROM session WHERE id = 's_3'").await.unwrap();
    across.batch_execute(&super::support::insert("late", 1)).await.unwrap();
    before.batch_execute("COMMIT").await.unwrap();
    let found = comparing.ended().await.unwrap();
    // The first one came with the stream; of the others the comparison knows what was.
    assert_eq!(found, report(5, 3, 0));
    across.batch_execute("COMMIT").await.unwrap();
    world.is_equal().await;
    assert_eq!(world.reconciled(Scope::Check).await, report(5, 0, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_began_anew_meanwhile_leaves_the_index_incomplete() {
    let world = World::new().await;
    world.insert("s", 5).await;
    let open = connect(&world.options.database_url).await;
    open.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let mut comparing = Comparing::start(&world.options);
    comparing.is_at(Step::AwaitsTransactions).await;
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    world.sql(drop).await;
    let preparing = tokio::spawn({
        let options = world.options.clone();
        async move { prepare(&options).await }
    });
    until("it is known to be incomplete", async || {
        world.number("SELECT count(*) FROM session_replication WHERE is_complete").await == 0
    })
    .await;
    open.batch_execute("COMMIT").await.unwrap();
    preparing.await.unwrap().unwrap();
    let ended = comparing.ended().await;
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    assert!(!world.is_marked_complete().await);
    world.reconciled(Scope::Mend).await;
    assert!(world.is_marked_complete().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_index_refuses_is_parked_with_a_note_and_the_worker_tries_it_again() {
    let world = World::bare().await;
    world.insert("s", 250).await;
    prepare(&world.options).await.unwrap();
    world.is_complete().await;
    let running = world.start();
    running.leads().await;
    world.index_sql("ALTER TABLE TABLE_OF_SESSIONS ADD CONSTRAINT refuses CHECK session_id != 's_77'").await;
    assert_eq!(world.reconciled(Scope::Mend).await, report(250, 250, 0));
    assert!(world.is_marked_complete().await);
    let parked = "SELECT count(*) FROM session_parked p JOIN session_change c ON c.session_id = p.session_id
        WHERE p.session_id = 's_77' AND c.environment_id = 'env_a'";
    assert_eq!((world.parked().await, world.number(parked).await), (1, 1), "lists find it in the database");
    let check = world.reconciled(Scope::Check).await;
    assert_eq!((check.compared, check.differing), (250, 1));
    world.index_sql("ALTER TABLE TABLE_OF_SESSIONS DROP CONSTRAINT refuses").await;
    world.sql("UPDATE session_parked SET retry_at_ms = 0").await;
    until("it is parked no more", async || world.parked().await == 0).await;
    world.is_equal().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_compared_by_what_it_means_to_the_index() {
    let world = World::new().await;
    let running = world.start();
    let many: String = (0..400).map(|n| format!(r#""k{n}": {n}, "#)).collect();
    let many = format!(r#"{{{many} "last": [1, 2]}}"#);
    let texts = [
        r#"{"n": 1.50, "e": 1e3, "big": 123456789012345678901234567890, "neg": -9223372036854775808, "u": 18446744073709551615}"#,
        r#"{"null": null, "empty": {}, "none": [], "nested": {"null": null, "list": [null, 1, "a", {"b": [[]]}]}}"#,
        r#"{"a.b": 1, "a": {"c": 2, "b": 3}, "": "nameless", " ": 1}"#,
        r#"{"twice": 1, "twice": 2}"#,
        r#"{"date": "2026-01-01", "time": "2026-01-01T00:00:00Z", "spaced": "2026-01-01 00:00:00", "ip": "127.0.0.1", "n": "12"}"#,
        r#"{"escaped": "\u00fc\n\"\\ \ud83d\ude00", "raw": "ü😀"}"#,
        r#"[1, "a", {"b": null}]"#,
        r#""text""#,
        "1.0",
        "null",
        "true",
        &many,
    ];
    world.insert("s", texts.len() as i32).await;
    for (number, text) in (1..).zip(texts) {
        let update = "UPDATE session SET metadata = $1 WHERE id = $2";
        world.postgres.execute(update, &[&text, &format!("s_{number}")]).await.unwrap();
    }
    world.caught_up().await;
    assert_eq!(world.parked().await, 0);
    let compared = texts.len() as u64;
    assert_eq!(world.reconciled(Scope::Check).await, report(compared, 0, 0));
    world.index_sql("OPTIMIZE TABLE TABLE_OF_SESSIONS FINAL").await;
    assert_eq!(world.reconciled(Scope::Check).await, report(compared, 0, 0), "merged, it is the same");
    // Each of them is told from another one.
    let others = (1..=texts.len()).map(|number| format!("('s_{number}', '{{\"data\":{{\"other\":{number}}}}}')"));
    for other in others {
        let (id, metadata) = other.trim_matches(['(', ')']).split_once(", ").unwrap();
        world.change_index(&format!("UPDATE metadata = {metadata} WHERE session_id = {id}")).await;
    }
    assert_eq!(world.reconciled(Scope::Mend).await, report(compared, compared, 0));
    assert_eq!(world.reconciled(Scope::Check).await, report(compared, 0, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_worker_the_index_is_mended_and_not_judged() {
    let world = World::new().await;
    world.insert("s", 5).await;
    let metrics = Arc::new(Metrics::default());
    let check = timeout(PATIENCE, reconcile(&world.options, Scope::Check, &metrics, &|_| {})).await.unwrap();
    assert!(matches!(check, Err(Error::Unavailable(_))), "{check:?}");
    assert_eq!(world.reconciled(Scope::Mend).await, report(5, 5, 0));
    let running = world.start();
    world.is_equal().await;
    running.stop().await;
    let nowhere = Options { slot_name: "there_is_none".into(), ..world.options.clone() };
    let refused = reconcile(&nowhere, Scope::Mend, &metrics, &|_| {}).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
}
