//! Lists, counts, tags.

use crate::{Core, WaitAsOf};
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::session::{ListFilter, ListPosition, PAGE_SIZE_MAX, PageFrom, Session};
use continuo_domain::{Error, IndexPosition, Result};
use continuo_ports::session_index::TagCount;

/// A page that is asked for.
#[derive(Clone, Debug)]
pub struct ListSessions {
    /// Which sessions.
    pub filter: ListFilter,
    /// 1 to 100.
    pub page_size: u32,
    /// From where.
    pub from: PageFrom,
    /// How far the index has to be up with the database before it is asked. The page is right without.
    pub wait_as_of: Option<WaitAsOf>,
}

/// A page, newest first.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Where the older ones go on.
    pub next: Option<ListPosition>,
    /// Where the newer ones go on.
    pub previous: Option<ListPosition>,
    /// How far the index was up with the database; `None` where lists come from the database itself.
    pub as_of: Option<IndexPosition>,
}

impl Core {
    /// A page of the caller's environment. Fails with [`Error::IndexBehind`] where the index does not come so far in time.
    pub async fn list_sessions(&self, caller: &Principal, request: ListSessions) -> Result<SessionPage> {
        check_may_list(caller, &request.filter)?;
        if let Some(wait) = request.wait_as_of {
            self.wait_as_of(wait).await?;
        }
        let size = request.page_size.clamp(1, PAGE_SIZE_MAX);
        let page = self.ports.index.list(&caller.environment, &request.filter, &request.from, size, self.now()).await?;
        let at = |s: &Session| ListPosition { created_at: s.created_at, id: s.id.clone() };
        Ok(SessionPage {
            next: page.sessions.last().filter(|_| page.has_older).map(at),
            previous: page.sessions.first().filter(|_| page.has_newer).map(at),
            as_of: page.as_of,
            sessions: page.sessions,
        })
    }

    /// How many sessions match.
    pub async fn count_sessions(&self, caller: &Principal, filter: &ListFilter) -> Result<u64> {
        check_may_list(caller, filter)?;
        self.ports.index.count(&caller.environment, filter, self.now()).await
    }

    /// Tags in use.
    pub async fn list_session_tags(&self, caller: &Principal, prefix: &str, limit: u32) -> Result<Vec<TagCount>> {
        check_may_list(caller, &ListFilter::default())?;
        self.ports.index.tags(&caller.environment, prefix, limit.clamp(1, PAGE_SIZE_MAX)).await
    }
}

/// All sessions, or with a filter by task: every task of it. A token for one session lists nothing.
fn check_may_list(caller: &Principal, filter: &ListFilter) -> Result<()> {
    let everything = [Resource::all("sessions"), Resource::all("tasks")];
    let every_task = !filter.task_identifiers.is_empty()
        && filter.task_identifiers.iter().all(|task| caller.may(Action::Read, &[Resource::task(task)]));
    if every_task || caller.may(Action::Read, &everything) { Ok(()) } else { Err(Error::PermissionDenied) }
}
