//! Homes and time, on both engines.

use crate::Database;
use crate::contract::postgres::PostgresDatabase;
use continuo_domain::Timestamp;
use std::time::SystemTime;

async fn the_first_place_is_the_home_until_it_is_moved(database: Database) {
    let (one, two) = tokio::join!(database.home("log", "a"), database.home("log", "b"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two, "two who come at once are told the same");
    assert_eq!(one.position, None);
    assert_eq!(database.home("blobs", "files").await.unwrap().place, "files", "each part has its own");

    database.move_home("log", "c").await.unwrap();
    assert_eq!(database.home("log", "a").await.unwrap().place, "c");
    database.move_home("new", "x").await.unwrap();
    assert_eq!(database.home("new", "y").await.unwrap().place, "x");
}

async fn a_position_only_grows_and_belongs_to_its_place(database: Database) {
    database.home("log", "a").await.unwrap();
    for (place, position) in [("a", 7), ("a", 5), ("b", 9)] {
        database.note_position("log", place, position).await.unwrap();
    }
    assert_eq!(database.home("log", "a").await.unwrap().position, Some(7));
    database.move_home("log", "b").await.unwrap();
    assert_eq!(database.home("log", "a").await.unwrap().position, None);
}

async fn it_tells_the_time(database: Database) {
    let system = || Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64);
    let before = system();
    let time = database.time().await.unwrap();
    assert!(before.0 - 1 <= time.0 && time.0 <= system().0 + 1, "one machine has one time: {time:?}");
}

macro_rules! on_both {
    ($($test:ident)*) => {$(
        mod $test {
            use super::*;

            #[tokio::test]
            async fn on_sqlite() {
                let directory = tempfile::tempdir().unwrap();
                super::$test(Database::open(directory.path().join("continuo.sqlite")).await.unwrap()).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                let database = PostgresDatabase::migrated().await;
                super::$test(database.connect().await).await;
            }
        }
    )*};
}
on_both! {
    the_first_place_is_the_home_until_it_is_moved
    a_position_only_grows_and_belongs_to_its_place
    it_tells_the_time
}
