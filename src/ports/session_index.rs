//! Lists of sessions.

use async_trait::async_trait;
use continuo_domain::session::{ListFilter, PageFrom, Session};
use continuo_domain::{EnvironmentId, Result, Timestamp};

/// A page, newest first by (created_at, id).
#[derive(Clone, Debug)]
pub struct Page {
    /// At most as many as asked for, never fewer while there are more.
    pub sessions: Vec<Session>,
    /// There are older sessions than the last one of the page.
    pub has_older: bool,
    /// There are newer sessions than the first one of the page.
    pub has_newer: bool,
}

/// A tag and how many sessions have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// Sessions.
    pub sessions: u64,
}

/// Lists, counts and tags. On SQL it is never behind; an index fed by replication says how far it is.
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
}
