//! What happens between the three questions of a list: each time at the worst moment, and no later.

use super::new_sessions::*;
use super::worker::Worker;
use crate::ClickHouseIndex;
use async_trait::async_trait;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{ListFilter, PageFrom, Session, SessionStatus};
use continuo_domain::{EnvironmentId, IndexPosition, Result, SessionId, Timestamp};
use continuo_ports::SessionIndex;
use continuo_ports::indexed_rows::{Changed, ChangedIds, IndexState, IndexedRows, ListOrder};
use continuo_ports::session_index::TagCount;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A moment of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    BeforeTheNotes,
    AfterTheNotes,
    BeforeTheTruth,
}

type Meanwhile = Arc<dyn Fn(Worker) -> BoxFuture<'static, ()> + Send + Sync>;

/// The rows, and something that happens at a moment.
struct Interleaved {
    worker: Worker,
    moment: Moment,
    meanwhile: Meanwhile,
}

impl Interleaved {
    async fn now(&self, moment: Moment) {
        if moment == self.moment {
            (self.meanwhile)(self.worker.clone()).await;
        }
    }
}

#[async_trait]
impl IndexedRows for Interleaved {
    async fn tenant(&self, environment: &EnvironmentId) -> Result<Option<(OrganizationId, ProjectId)>> {
        self.worker.rows.tenant(environment).await
    }

    async fn state(&self) -> Result<IndexState> {
        self.worker.rows.state().await
    }

    async fn tip(&self) -> Result<IndexPosition> {
        self.worker.rows.tip().await
    }

    async fn changed(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        limit: u32,
        now: Timestamp,
    ) -> Result<Changed> {
        self.now(Moment::BeforeTheNotes).await;
        let changed = self.worker.rows.changed(environment, filter, from, limit, now).await;
        self.now(Moment::AfterTheNotes).await;
        changed
    }

    async fn matching(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        order: ListOrder,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>> {
        self.now(Moment::BeforeTheTruth).await;
        self.worker.rows.matching(environment, filter, ids, order, limit, now).await
    }

    async fn changed_ids(&self, environment: &EnvironmentId, limit: u32) -> Result<ChangedIds> {
        self.now(Moment::BeforeTheNotes).await;
        let ids = self.worker.rows.changed_ids(environment, limit).await;
        self.now(Moment::AfterTheNotes).await;
        ids
    }

    async fn count(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        now: Timestamp,
    ) -> Result<u64> {
        self.worker.rows.count(environment, filter, ids, now).await
    }

    async fn tags(&self, environment: &EnvironmentId, prefix: &str, ids: &[SessionId]) -> Result<Vec<TagCount>> {
        self.worker.rows.tags(environment, prefix, ids).await
    }
}

pub(super) fn index(
    worker: &Worker,
    moment: Moment,
    meanwhile: impl Fn(Worker) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> ClickHouseIndex {
    let interleaved = Interleaved { worker: worker.clone(), moment, meanwhile: Arc::new(meanwhile) };
    worker.index_on(Arc::new(interleaved))
}

async fn make(worker: &Worker, bodies: &[&str]) {
    for body in bodies {
        let mut new = new_session(body, None);
        new.tags = vec!["tag".into()];
        worker.sessions.upsert(new, T0).await.unwrap();
    }
}

pub(super) async fn bodies(index: &ClickHouseIndex, filter: &ListFilter) -> String {
    let page = index.list(&env(), filter, &PageFrom::Start, 9, T0).await.unwrap();
    let body = |session: &Session| session.id.to_string().replace("session_", "");
    page.sessions.iter().map(body).collect::<Vec<_>>().join(" ")
}

pub(super) fn active() -> ListFilter {
    ListFilter { statuses: vec![SessionStatus::Active], ..ListFilter::default() }
}

/// The worker stores everything and removes the notes, at any moment of a list, a count and the tags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_goes_between_the_questions_takes_no_session_with_it() {
    for moment in [Moment::BeforeTheNotes, Moment::AfterTheNotes, Moment::BeforeTheTruth] {
        let worker = Worker::start().await;
        make(&worker, &["a", "b"]).await;
        worker.store_noted(|_| true).await;
        make(&worker, &["c", "d"]).await;
        let store =
            |worker: Worker| -> BoxFuture<'static, ()> { Box::pin(async move { worker.store_noted(|_| true).await }) };
        assert_eq!(bodies(&index(&worker, moment, store), &active()).await, "d c b a", "{moment:?}");
        make(&worker, &["e"]).await;
        assert_eq!(index(&worker, moment, store).count(&env(), &active(), T0).await.unwrap(), 5, "{moment:?}");
        make(&worker, &["f"]).await;
        let tags = index(&worker, moment, store).tags(&env(), "t", 9).await.unwrap();
        assert_eq!(tags, [TagCount { tag: "tag".into(), sessions: 6 }], "{moment:?}");
    }
}

/// A session that is closed or deleted in the middle of a list is in it or not; what is shown matches, and its neighbours are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_between_the_questions_is_not_shown_as_it_was() {
    for moment in [Moment::BeforeTheNotes, Moment::AfterTheNotes, Moment::BeforeTheTruth] {
        let worker = Worker::start().await;
        make(&worker, &["a", "b", "c", "d"]).await;
        worker.store_noted(|_| true).await;
        let change = |worker: Worker| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                worker.sessions.close(&SessionId::from_body("b"), None, T0).await.unwrap();
                worker.sessions.delete(&SessionId::from_body("c")).await.unwrap();
            })
        };
        assert_eq!(bodies(&index(&worker, moment, change), &active()).await, "d a", "{moment:?}");
    }
}

/// A session that begins to match in the middle of a list, and is stored and merged before the second question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_before_the_list_is_in_it_though_the_worker_overtakes_it() {
    let worker = Worker::start().await;
    make(&worker, &["a", "b"]).await;
    worker.store_noted(|_| true).await;
    worker.sessions.close(&SessionId::from_body("a"), None, T0).await.unwrap();
    let closed = ListFilter { statuses: vec![SessionStatus::Closed], ..ListFilter::default() };
    for moment in [Moment::BeforeTheNotes, Moment::AfterTheNotes] {
        let store = |worker: Worker| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                worker.store_noted(|_| true).await;
                worker.merge().await;
            })
        };
        assert_eq!(bodies(&index(&worker, moment, store), &closed).await, "a", "{moment:?}");
        assert_eq!(bodies(&worker.index(), &active()).await, "b");
    }
}
