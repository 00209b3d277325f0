//! What an index beside the database needs from the database to be right: which sessions it may not be up with, and the rows
//! behind what it finds.

use crate::session_index::TagCount;
use async_trait::async_trait;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{ListFilter, PageFrom, Session};
use continuo_domain::{EnvironmentId, IndexPosition, Result, SessionId, Timestamp};

/// How an index stands to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexState {
    /// It has everything that was there before changes were noted. Until then it cannot be asked at all.
    pub is_complete: bool,
    /// Everything that was committed before is stored in it. Below the oldest row that it refused.
    pub as_of: IndexPosition,
}

/// The noted sessions of a page.
#[derive(Clone, Debug)]
pub struct Changed {
    /// How the index stood at that moment.
    pub state: IndexState,
    /// Those that match, from the position on, nearest first.
    pub sessions: Vec<Session>,
    /// Something that matches lies on the other side: the session at the position itself, or a noted one. `false` says nothing
    /// about sessions that are not noted.
    pub is_any_beyond: bool,
}

/// Every noted session of an environment.
#[derive(Clone, Debug)]
pub struct ChangedIds {
    /// How the index stood at that moment.
    pub state: IndexState,
    /// In no order, each once.
    pub ids: Vec<SessionId>,
}

/// Which end of a list comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// As pages are shown.
    NewestFirst,
    /// As a page before a position is walked.
    OldestFirst,
}

/// The rows that an index is made of, and the notes of what changed in them.
///
/// Every transaction that makes, changes or deletes a session notes so in itself, and a note goes only after the index has stored
/// that transaction. So a session without a note is in the index as it was committed last, for whoever reads the notes **first** and
/// the index second; of the noted ones, and of everything that changed meanwhile, these rows are the truth. All reads see every write
/// that was acknowledged before they began, through any replica.
#[async_trait]
pub trait IndexedRows: Send + Sync + 'static {
    /// Where an environment belongs, which never changes; `None` for one that is not known.
    async fn tenant(&self, environment: &EnvironmentId) -> Result<Option<(OrganizationId, ProjectId)>>;

    /// How the index stands to the database.
    async fn state(&self) -> Result<IndexState>;

    /// How far the log of the database is on disk: past everything that was acknowledged before this call.
    async fn tip(&self) -> Result<IndexPosition>;

    /// The first noted sessions that match, from a position on and in its direction, at most `limit`; in one snapshot with the
    /// rest of the answer.
    async fn changed(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        limit: u32,
        now: Timestamp,
    ) -> Result<Changed>;

    /// Those among these sessions that are in the environment and match, in order, at most `limit`.
    async fn matching(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        order: ListOrder,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>>;

    /// Every noted session, deleted ones included, at most `limit` of them.
    async fn changed_ids(&self, environment: &EnvironmentId, limit: u32) -> Result<ChangedIds>;

    /// How many of these sessions are in the environment and match.
    async fn count(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        ids: &[SessionId],
        now: Timestamp,
    ) -> Result<u64>;

    /// The tags of these sessions that start with `prefix`, in no order.
    async fn tags(&self, environment: &EnvironmentId, prefix: &str, ids: &[SessionId]) -> Result<Vec<TagCount>>;
}
