//! What the stream stands on: made once, mended, and known to be incomplete after anything that leaves a gap.

use super::server::Server;
use super::support::{PATIENCE, World, connect, until};
use crate::{Options, Prepared, Slot, drop_replication, prepare};
use continuo_domain::{Error, IndexPosition};
use tokio::time::timeout;

impl World {
    /// The epoch and whether the index is complete, as a worker that begins now is told.
    async fn prepared(&self) -> (u8, bool) {
        let Prepared { epoch, is_complete, confirmed_lsn } = prepare(&self.options).await.unwrap();
        assert_eq!(confirmed_lsn, self.confirmed().await.cast_unsigned());
        assert_eq!(i64::from(epoch), self.number("SELECT epoch FROM session_replication").await, "noted here");
        let noted = format!("SELECT max(epoch) FROM {}", self.clickhouse.table("replication_epochs_v1"));
        assert_eq!(epoch, self.clickhouse.client().query(&noted).fetch_one::<u8>().await.unwrap(), "and there");
        (epoch, is_complete)
    }

    pub(super) async fn is_complete(&self) {
        self.sql("UPDATE session_replication SET is_complete = true").await;
    }

    async fn refused(&self, options: &Options) -> String {
        match prepare(options).await.unwrap_err() {
            error @ Error::InvalidArgument(_) => error.to_string(),
            error => panic!("not for the operator: {error:?}"),
        }
    }

    async fn slot(&self) -> Slot {
        Slot::find(&self.postgres, &self.options.slot_name).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_at_once_make_it_once() {
    let world = World::bare().await;
    let five = (0..5).map(|_| {
        let options = world.options.clone();
        tokio::spawn(async move { prepare(&options).await.unwrap() })
    });
    let mut all = Vec::new();
    for prepared in five.collect::<Vec<_>>() {
        all.push(prepared.await.unwrap());
    }
    assert!(all.windows(2).all(|two| two[0] == two[1]), "{all:?}");
    assert_eq!((all[0].epoch, all[0].is_complete), (1, false));
    assert_eq!(world.number("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'session_note_%'").await, 2);
    let identity = "SELECT count(*) FROM pg_class WHERE oid = CAST('session' AS regclass) AND relreplident = 'f'";
    assert_eq!(world.number(identity).await, 1);
    world.is_complete().await;
    assert_eq!(world.prepared().await, (1, true), "nothing was missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_gone_is_made_anew_and_leaves_a_gap() {
    let world = World::new().await;
    assert_eq!(world.prepared().await, (1, true));
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    world.sql(drop).await;
    assert_eq!(world.prepared().await, (1, false));
    assert_eq!(world.prepared().await, (1, false), "until somebody has looked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_is_mended_and_what_it_left_out_is_missing() {
    let world = World::new().await;
    let name = &world.options.publication_name;
    let leaves_out = [
        format!("ALTER PUBLICATION {name} SET (publish = 'insert, update')"),
        format!("ALTER PUBLICATION {name} DROP TABLE session"),
        format!("ALTER PUBLICATION {name} SET TABLE session WHERE (is_test)"),
    ];
    for wrong in leaves_out {
        world.sql(&wrong).await;
        let before = world.confirmed().await;
        assert_eq!(world.prepared().await, (1, false), "{wrong}");
        assert_eq!(world.confirmed().await, before, "the slot can be read");
        world.is_complete().await;
        assert_eq!(world.prepared().await, (1, true), "{wrong}");
    }
    // The slot's log is of a time when there was no such publication: it could not be read.
    world.sql(&format!("DROP PUBLICATION {name}")).await;
    world.insert("before", 1).await;
    let before = world.confirmed().await;
    assert_eq!(world.prepared().await, (1, false));
    assert!(world.confirmed().await > before, "another slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_is_another_epoch() {
    let world = World::new().await;
    let others = [
        "UPDATE session_replication SET system_identifier = '1'",
        "UPDATE session_replication SET timeline = timeline - 1",
        "UPDATE session_replication SET epoch = epoch - 1",
        "DELETE FROM session_replication",
    ];
    for (epoch, other) in (2..).zip(others) {
        world.sql(other).await;
        assert_eq!(world.prepared().await, (epoch, false), "{other}");
        world.is_complete().await;
        assert_eq!(world.prepared().await, (epoch, true), "once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_knows_more_than_the_log_or_nothing_is_another_epoch() {
    let world = World::new().await;
    // The second as after the files of an older time were put back.
    let written = world.written().await.cast_unsigned();
    for (lsn, prepared) in [(written, (1, true)), (written + (1 << 30), (2, false))] {
        let version = IndexPosition { epoch: 1, lsn }.version();
        let insert = format!(
            "INSERT INTO TABLE_OF_SESSIONS (session_id, environment_id, created_at, metadata, _version) \
             VALUES ('session_a', 'env_a', now(), '{{}}', {version})"
        );
        world.index_sql(&insert).await;
        assert_eq!(world.prepared().await, prepared);
    }
    world.is_complete().await;
    world.index_sql(&format!("DROP DATABASE {} SYNC", world.options.clickhouse.database)).await;
    world.clickhouse.migrate().await.unwrap();
    assert_eq!(world.prepared().await, (3, false), "another index, which has nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_has_to_do_is_said() {
    let world = World::bare().await;
    let physical = format!("{}_physical", world.options.slot_name);
    world.sql(&format!("SELECT pg_create_physical_replication_slot('{physical}')")).await;
    let refused = world.refused(&Options { slot_name: physical.clone(), ..world.options.clone() }).await;
    world.sql(&format!("SELECT pg_drop_replication_slot('{physical}')")).await;
    assert!(refused.contains("replication.slot_name") && refused.contains("serves something else"), "{refused}");
    let elsewhere = World::new().await;
    let theirs = Options { slot_name: elsewhere.options.slot_name.clone(), ..world.options.clone() };
    assert!(world.refused(&theirs).await.contains("serves something else"));
    for slot_name in ["", "Upper", "a-b", &"x".repeat(64)] {
        let refused = world.refused(&Options { slot_name: slot_name.into(), ..world.options.clone() }).await;
        assert!(refused.contains("lower-case"), "{refused}");
    }
    for name in ["", "a,b", "a b", &"x".repeat(64)] {
        let refused = world.refused(&Options { publication_name: name.into(), ..world.options.clone() }).await;
        assert!(refused.contains("replication.publication_name"), "{refused}");
    }
    world.index_sql(&format!("DROP DATABASE {} SYNC", world.options.clickhouse.database)).await;
    let refused = world.refused(&world.options).await;
    assert!(refused.contains("clickhouse.url") && refused.contains("continuo migrate up"), "{refused}");
    world.clickhouse.migrate().await.unwrap();
    world.sql("DROP TABLE session_replication").await;
    let refused = world.refused(&world.options).await;
    assert!(refused.contains("database.url") && refused.contains("continuo migrate up"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_is_told_what_it_needs() {
    let world = World::bare().await;
    let account = format!("{}_account", world.options.slot_name);
    world.postgres.batch_execute(&format!("CREATE ROLE {account} LOGIN")).await.unwrap();
    let database_url = world.options.database_url.replace("postgres://postgres@", &format!("postgres://{account}@"));
    assert_ne!(database_url, world.options.database_url);
    let refused = world.refused(&Options { database_url, ..world.options.clone() }).await;
    world.postgres.batch_execute(&format!("DROP ROLE {account}")).await.unwrap();
    assert!(refused.contains("REPLICATION"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_table_is_not_waited_for_with_everyone_behind() {
    let world = World::bare().await;
    let other = connect(&world.options.database_url).await;
    other.batch_execute("BEGIN; LOCK TABLE session IN ROW EXCLUSIVE MODE").await.unwrap();
    let given_up = timeout(PATIENCE, prepare(&world.options)).await.unwrap().unwrap_err();
    assert!(matches!(given_up, Error::Unavailable(_)), "{given_up:?}");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(world.prepared().await, (1, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_taken_back() {
    let world = World::new().await;
    world.insert("one", 2).await;
    assert_eq!(world.notes().await, 2);
    let running = world.start();
    running.leads().await;
    assert!(matches!(drop_replication(&world.options).await, Err(Error::Unavailable(_))), "it is read");
    running.stop().await;
    until("nobody reads the slot", async || world.slot().await.reader_pid.is_none()).await;
    for _ in 0..2 {
        drop_replication(&world.options).await.unwrap();
        let left = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())
            + (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'session_note_%')
            + (SELECT count(*) FROM session_change) + (SELECT count(*) FROM session_replication)";
        assert_eq!(world.number(left).await, 0);
    }
    assert_eq!(world.prepared().await, (2, false), "and begins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_log_is_gone_is_made_anew_and_a_server_with_too_small_a_log_is_refused() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let world = World::on(&server.url).await;
    let first = prepare(&world.options).await.unwrap();
    world.is_complete().await;
    world.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
    world.sql("SELECT pg_reload_conf()").await;
    until("the slot is lost", async || {
        for statement in ["CREATE TABLE filler (n int)", "DROP TABLE filler", "SELECT pg_switch_wal()", "CHECKPOINT"] {
            world.sql(statement).await;
        }
        world.slot().await.is_lost
    })
    .await;
    let anew = prepare(&world.options).await.unwrap();
    assert!(anew.confirmed_lsn > first.confirmed_lsn);
    assert_eq!((anew.epoch, anew.is_complete), (first.epoch, false), "of the same epoch, with a gap");
    world.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await;
    world.sql("ALTER SYSTEM SET wal_level = 'replica'").await;
    let restart = move || {
        server.restart();
        server
    };
    let server = tokio::task::spawn_blocking(restart).await.unwrap();
    let refused = world.refused(&world.options).await;
    assert!(refused.contains("database.url") && refused.contains("set wal_level = logical"), "{refused}");
    drop(world);
    drop(server);
}
