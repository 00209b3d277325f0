//! The contract suite of `SessionIndex` on ClickHouse, with the notes of a real Postgres and a test in the place of the worker.
//! The table has nothing, everything, or this and that.

mod costs;
mod interleaved;
#[path = "../../../tests/it/contract/new_sessions.rs"]
mod new_sessions;
#[path = "../../../tests/it/support/postgres.rs"]
mod postgres;
mod refused;
#[path = "../../../tests/it/contract/session_index.rs"]
mod session_index;
#[path = "../../../tests/it/contract/session_walk.rs"]
mod session_walk;
mod worker;

use crate::ClickHouseIndex;
use async_trait::async_trait;
use continuo_domain::session::{ListFilter, PageFrom};
use continuo_domain::{EnvironmentId, IndexPosition, Result, Timestamp};
use continuo_ports::SessionIndex;
use continuo_ports::session_index::{Page, TagCount};
use new_sessions::rows_tests;
use session_index::{Lists, session_index_contract};
use session_walk::{Random, seed};
use std::sync::Arc;
use tokio::sync::Mutex;
use worker::{Feed, Worker};

/// The index, and before every question the worker gets as far as it is told to.
struct Fed {
    index: ClickHouseIndex,
    worker: Worker,
    feed: Feed,
    random: Mutex<Random>,
}

impl Fed {
    async fn feed(&self) {
        self.worker.feed(self.feed, &mut *self.random.lock().await).await;
    }
}

#[async_trait]
impl SessionIndex for Fed {
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        size: u32,
        now: Timestamp,
    ) -> Result<Page> {
        self.feed().await;
        let page = self.index.list(environment, filter, from, size, now).await?;
        assert_eq!(page.as_of, Some(IndexPosition { epoch: 1, lsn: 0 }), "it is ClickHouse that answers");
        Ok(page)
    }

    async fn count(&self, environment: &EnvironmentId, filter: &ListFilter, now: Timestamp) -> Result<u64> {
        self.feed().await;
        self.index.count(environment, filter, now).await
    }

    async fn tags(&self, environment: &EnvironmentId, prefix: &str, limit: u32) -> Result<Vec<TagCount>> {
        self.feed().await;
        self.index.tags(environment, prefix, limit).await
    }

    async fn as_of(&self) -> Result<Option<IndexPosition>> {
        self.index.as_of().await
    }

    async fn tip(&self) -> Result<Option<IndexPosition>> {
        self.index.tip().await
    }
}

async fn fed(feed: Feed) -> (Lists, Worker) {
    let worker = Worker::start().await;
    let seed = seed();
    // Shown where the test fails.
    println!("CONTINUO_TEST_SEED={seed}");
    let random = Mutex::new(Random::of(seed));
    let index = Arc::new(Fed { index: worker.index(), worker: worker.clone(), feed, random });
    (Lists { sessions: worker.sessions.clone(), index }, worker)
}

session_index_contract!(with_nothing_stored, crate::contract::session_index, fed(Feed::Nothing));
session_index_contract!(with_everything_stored, crate::contract::session_index, fed(Feed::Everything));
session_index_contract!(with_this_and_that_stored, crate::contract::session_index, fed(Feed::ThisAndThat));
