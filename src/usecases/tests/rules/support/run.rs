//! A run that executes.

use super::{TestWorker, World, append, control, output};
use continuo_domain::channel::{Appended, NewRecord};
use continuo_domain::principal::Principal;
use continuo_domain::session::SessionRef;
use continuo_domain::{Result, RunId};
use continuo_usecases::{Assigned, Core, LeaseRef, WorkerMessage};

/// A started run, its worker and who it is.
pub(crate) struct RunningRun {
    pub(crate) worker: TestWorker,
    pub(crate) assigned: Assigned,
    pub(crate) caller: Principal,
}

impl RunningRun {
    pub(super) async fn start(world: &World) -> Self {
        let mut worker = world.worker(1).await;
        let assigned = worker.assigned().await;
        // One run is all it wants: what boots later is for others.
        worker.send(WorkerMessage::Drain);
        worker.start(&assigned.lease).await;
        let caller = world.core.authenticate(&assigned.tokens.run_token).await.unwrap();
        Self { worker, assigned, caller }
    }

    pub(crate) fn id(&self) -> RunId {
        self.assigned.assignment.run.spec.id.clone()
    }

    pub(crate) fn lease(&self) -> LeaseRef {
        self.assigned.lease.clone()
    }

    /// Its session.
    pub(crate) fn session(&self) -> SessionRef {
        SessionRef::Id(self.assigned.session.as_ref().unwrap().id.clone())
    }

    /// Writes to its `.out`.
    pub(crate) async fn put(&self, core: &Core, record: NewRecord) -> Result<Appended> {
        core.append(&self.caller, append(output(&self.session()), record)).await
    }

    /// Writes a chunk of data.
    pub(crate) async fn chunk(&self, core: &Core, body: &str) -> Result<Appended> {
        self.put(core, NewRecord::data(body.to_owned())).await
    }

    /// Writes a control record.
    pub(crate) async fn control(&self, core: &Core, subtype: &str) -> Result<Appended> {
        self.put(core, control(subtype)).await
    }

    /// Says that it has read its `.in` below this number.
    pub(crate) async fn read(&mut self, seq_num: u64) {
        let lease = self.lease();
        self.worker.send(WorkerMessage::Read(lease, seq_num));
        self.worker.settle().await;
    }

    /// Ends well.
    pub(crate) async fn complete(&mut self) {
        let lease = self.lease();
        self.worker.complete(&lease).await;
    }

    /// Ends with an error.
    pub(crate) async fn fail(&mut self) {
        let lease = self.lease();
        self.worker.fail(&lease, false).await;
    }
}
