//! What whoever looks is told.

use super::support::{World, until};
use crate::{Status, status};
use continuo_domain::IndexPosition;

impl World {
    async fn status(&self) -> Status {
        status(&self.options).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_start_there_is_nothing() {
    let world = World::bare().await;
    let nothing = Status {
        slot: None,
        lag_bytes: None,
        is_published: false,
        is_noted: false,
        epoch: None,
        as_of: None,
        is_complete: false,
        reconciled_at_ms: None,
        notes: 0,
        parked_count: 0,
        parked: Vec::new(),
    };
    assert_eq!(world.status().await, nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_who_reads_how_far_and_what_is_refused() {
    let world = World::new().await;
    world.insert("s", 3).await;
    let idle = world.status().await;
    let slot = idle.slot.unwrap();
    assert_eq!((slot.reader_pid, slot.is_lost, slot.wal_status.as_str()), (None, false, "reserved"));
    assert_eq!((idle.is_published, idle.is_noted, idle.is_complete, idle.notes), (true, true, true, 3));
    assert!(idle.lag_bytes > Some(0), "{:?}", idle.lag_bytes);
    assert_eq!(idle.as_of, Some(IndexPosition { epoch: 1, lsn: slot.confirmed_lsn }));
    let running = world.start();
    running.leads().await;
    world.is_equal().await;
    let busy = world.status().await;
    let slot = busy.slot.unwrap();
    assert_eq!(slot.reader_name.as_deref(), Some("continuo test"));
    assert!(slot.reader_pid.is_some() && busy.as_of > idle.as_of && busy.notes == 0);
    world.index_sql("ALTER TABLE TABLE_OF_SESSIONS ADD CONSTRAINT refuses CHECK session_id != 'p_1'").await;
    world.insert("p", 2).await;
    until("the row is parked", async || world.parked().await == 1).await;
    world.caught_up().await;
    let refused = world.status().await;
    assert_eq!((refused.parked_count, refused.parked[0].session_id.as_str()), (1, "p_1"));
    assert!(refused.parked[0].error.contains("refuses"), "{:?}", refused.parked);
    let confirmed = IndexPosition { epoch: 1, lsn: refused.slot.unwrap().confirmed_lsn };
    assert!(refused.as_of < Some(confirmed), "lists are not up to there: {:?}", refused.as_of);
    running.stop().await;
}
