//! Who is connected.

use crate::Core;
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::{Error, Result};
use continuo_ports::worker_store::{ConnectedWorker, WorkerPage, WorkerPosition};

/// Most workers in a page.
pub const WORKERS_PAGE_MAX: u32 = 1_000;
/// A page with more is cut short, though not below one worker: each may know many tasks, and clients take an answer of 4 MiB.
pub(crate) const WORKERS_PAGE_BYTES_MAX: usize = 2 << 20;
/// Rows that are read for a page, whatever its size: each may be half a megabyte.
const WORKERS_READ_MAX: u32 = 100;
/// What a name takes beside its bytes on the wire.
const NAME_OVERHEAD_BYTES: usize = 3;

impl Core {
    /// A page of the workers that are connected, to this replica or another one, newest first. `after` is where a page before
    /// this one ended.
    pub async fn list_workers(
        &self,
        caller: &Principal,
        after: Option<&WorkerPosition>,
        size: u32,
    ) -> Result<WorkerPage> {
        if !caller.has_secret_key() || !caller.may(Action::Read, &[Resource::all("tasks")]) {
            return Err(Error::PermissionDenied);
        }
        let seen_from = self.workers_lost_before(self.now());
        let size = size.clamp(1, WORKERS_READ_MAX);
        let mut page = self.ports.workers.list_workers(&caller.environment, seen_from, after, size).await?;
        let mut bytes = 0;
        let fitting = page.workers.iter().take_while(|listed| {
            bytes += bytes_of(&listed.worker);
            bytes <= WORKERS_PAGE_BYTES_MAX
        });
        let fitting = fitting.count().max(1);
        page.has_older |= fitting < page.workers.len();
        page.workers.truncate(fitting);
        Ok(page)
    }
}

fn bytes_of(worker: &ConnectedWorker) -> usize {
    let names = worker.task_identifiers.iter().chain([&worker.id, &worker.version]);
    names.map(|name| name.len() + NAME_OVERHEAD_BYTES).sum()
}
