//! What the suites on rows share: the ports of one store, makers of rows, and a start at the same moment.

pub(crate) use super::new_sessions::*;

use continuo_domain::run::{Assignment, Holder, NewRun, Run, RunCommand, RunReason};
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::waitpoint::{Waitpoint, WaitpointKind};
use continuo_domain::{RunId, SessionId, Timestamp, WaitpointId};
use continuo_ports::run_store::DequeueRequest;
use continuo_ports::session_store::{Claim, ClaimRun};
use continuo_ports::worker_store::ConnectedWorker;
use continuo_ports::{AppendClaims, Environments, RunStore, SessionIndex, SessionStore, WorkerStore};
use std::sync::Arc;
use tokio::sync::Barrier;

/// The ports of one empty database.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) sessions: Arc<dyn SessionStore>,
    pub(crate) index: Arc<dyn SessionIndex>,
    pub(crate) runs: Arc<dyn RunStore>,
    pub(crate) workers: Arc<dyn WorkerStore>,
    pub(crate) environments: Arc<dyn Environments>,
    pub(crate) claims: Arc<dyn AppendClaims>,
}

pub(crate) fn by_name(text: &str) -> SessionRef {
    SessionRef::External(name(text))
}

/// A worker as it says hello.
pub(crate) fn worker(id: &str, link: &str, ms: u64) -> ConnectedWorker {
    ConnectedWorker {
        environment: env(),
        id: id.into(),
        link: link.into(),
        version: "v1".into(),
        task_identifiers: vec![TASK.into()],
        capacity: 3,
        is_draining: false,
        connected_at: after(ms),
        seen_at: after(ms),
    }
}

pub(crate) fn new_run(body: &str) -> NewRun {
    NewRun::of_task(RunId::from_body(body), env(), TASK, "{}".into())
}

/// Open, for callers to complete, on nothing.
pub(crate) fn waitpoint(body: &str) -> Waitpoint {
    Waitpoint {
        id: WaitpointId::from_body(body),
        environment: env(),
        kind: WaitpointKind::Manual,
        run: None,
        channel: None,
        awaited_run: None,
        idempotency_key: None,
        idempotency_key_expires_at: None,
        tags: vec![],
        timeout_at: None,
        completed_at: None,
        completion: None,
        created_at: T0,
    }
}

pub(crate) fn claim(session: &SessionId, expected_version: u64, run: &str) -> ClaimRun {
    ClaimRun {
        session: session.clone(),
        expected_version,
        expected_run: None,
        run: new_run(run),
        reason: RunReason::Initial,
        trigger_config: None,
    }
}

impl Rows {
    pub(crate) async fn session(&self, body: &str, external_id: Option<&str>) -> Session {
        let made = self.sessions.upsert(new_session(body, external_id), T0).await.unwrap();
        assert!(made.is_new);
        made.session
    }

    pub(crate) async fn read(&self, session: &SessionId) -> Session {
        self.sessions.get(&env(), &SessionRef::Id(session.clone())).await.unwrap().unwrap()
    }

    pub(crate) async fn read_run(&self, run: &RunId) -> Run {
        self.runs.get(&env(), run).await.unwrap().unwrap()
    }

    /// Claims and wins.
    pub(crate) async fn won(&self, session: &SessionId, expected_version: u64, run: &str) -> Run {
        match self.sessions.claim_run(claim(session, expected_version, run), T0).await.unwrap() {
            Claim::Won { run, .. } => *run,
            Claim::Lost(row) => panic!("lost against {row:?}"),
        }
    }

    pub(crate) async fn apply(&self, run: &RunId, command: RunCommand, now: Timestamp) -> Run {
        self.runs.apply(&env(), run, command, now).await.unwrap().run
    }

    pub(crate) async fn dequeue(&self, capacity: u32, now: Timestamp) -> Vec<Assignment> {
        self.runs.dequeue(request("worker", capacity, now), now).await.unwrap()
    }

    /// A run of the queue, on a worker and started.
    pub(crate) async fn executing(&self, run: NewRun, now: Timestamp) -> (Run, Holder) {
        let id = self.runs.trigger(run.into(), now).await.unwrap().row.spec.id;
        let taken = self.dequeue(1, now).await.pop().unwrap().run;
        assert_eq!(taken.spec.id, id);
        let holder = Holder::Lease(taken.lease.unwrap().number);
        (self.apply(&id, RunCommand::Start(holder), now).await, holder)
    }
}

pub(crate) fn request(worker: &str, capacity: u32, now: Timestamp) -> DequeueRequest {
    DequeueRequest {
        environment: env(),
        worker: worker.into(),
        link: "link".into(),
        task_identifiers: vec![TASK.into()],
        capacity,
        lease_until: now.plus_ms(30_000),
    }
}

/// Runs `count` callers that start at the same moment.
pub(crate) async fn together<T, F>(count: usize, make: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let callers: Vec<_> = (0..count)
        .map(|i| {
            let (start, call) = (start.clone(), make(i));
            tokio::spawn(async move {
                start.wait().await;
                call.await
            })
        })
        .collect();
    let mut results = Vec::with_capacity(count);
    for caller in callers {
        results.push(caller.await.unwrap());
    }
    results
}
