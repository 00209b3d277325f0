//! Who is connected.

use crate::Core;
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::{Error, Result};
use continuo_ports::worker_store::{ConnectedWorker, WorkerPage, WorkerPosition};

/// Most workers in a page.
pub const WORKERS_PAGE_MAX: u32 = 1_000;
/// A page with more is cut short, though not below one worker: each may know many tasks, and clients take an answer of 4 MiB.
pub(crate) const WORKERS_PAGE_BYTES_MAX: usize = 2 << 20;
/// Rows that are read at a time: each may be half a megabyte.
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
        let size = size.clamp(1, WORKERS_PAGE_MAX);
        let mut page = WorkerPage { workers: Vec::new(), has_older: true };
        let (mut after, mut left, mut bytes) = (after.cloned(), size, 0);
        while page.has_older && left > 0 {
            let wanted = left.min(WORKERS_READ_MAX);
            let read = self.ports.workers.list_workers(&caller.environment, seen_from, after.as_ref(), wanted).await?;
            page.has_older = read.has_older;
            for listed in read.workers {
                bytes += bytes_of(&listed.worker);
                if bytes > WORKERS_PAGE_BYTES_MAX && !page.workers.is_empty() {
                    page.has_older = true;
                    return Ok(page);
                }
                page.workers.push(listed);
            }
            after = page.workers.last().map(|last| last.worker.position());
            left -= wanted;
        }
        Ok(page)
    }
}

fn bytes_of(worker: &ConnectedWorker) -> usize {
    let names = worker.task_identifiers.iter().chain([&worker.id, &worker.version]);
    names.map(|name| name.len() + NAME_OVERHEAD_BYTES).sum()
}
