//! Lists of sessions.

use async_trait::async_trait;
use continuo_domain::session::{ListFilter, PageFrom, Session};
use continuo_domain::{EnvironmentId, IndexPosition, Result, Timestamp};

/// A page, newest first by (created_at, id).
#[derive(Clone, Debug)]
pub struct Page {
    /// At most as many as asked for, never fewer while there are more.
    pub sessions: Vec<Session>,
    /// There are older sessions than the last one of the page.
    pub has_older: bool,
    /// There are newer sessions than the first one of the page.
    pub has_newer: bool,
    /// How far the index was up with the database when it was asked; `None` for one that is the database. The page holds
    /// everything that was acknowledged before, however far that is.
    pub as_of: Option<IndexPosition>,
}

/// A tag and how many sessions have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// Sessions.
    pub sessions: u64,
}

/// Lists, counts and tags: right at once, whatever serves them. What was acknowledged before the call is in the answer, on SQL
/// and on an index that replication feeds, which says beside it how far it has come itself.
#[async_trait]
pub trait SessionIndex: Send + Sync + 'static {
    /// A page. Statuses are derived at `now`. Stable while sessions are made: a page after a position holds the sessions
    /// right below it, whatever came above.
    async fn list(
        &self,
        environment: &EnvironmentId,
        filter: &ListFilter,
        from: &PageFrom,
        size: u32,
        now: Timestamp,
    ) -> Result<Page>;

    /// How many sessions match.
    async fn count(&self, environment: &EnvironmentId, filter: &ListFilter, now: Timestamp) -> Result<u64>;

    /// The tags that start with `prefix`, most used first, at most `limit`.
    async fn tags(&self, environment: &EnvironmentId, prefix: &str, limit: u32) -> Result<Vec<TagCount>>;

    /// How far the index is up with the database; `None` for one that is the database.
    async fn as_of(&self) -> Result<Option<IndexPosition>>;

    /// A position that covers everything acknowledged before this call; `None` as above.
    async fn tip(&self) -> Result<Option<IndexPosition>>;
}
