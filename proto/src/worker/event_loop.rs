//! The loop that owns everything: the connection, the leases, the tasks that execute.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use super::builder::WorkerError;
use super::context::RunContext;
use super::lease::{Lease, LeaseKey, Shared, bearer};
use super::link::{Link, LinkEvent, is_refusal};
use super::task::{Outcome, Task, TaskError};
use crate::v1::work_request::Message;
use crate::v1::work_response::Message as FromServer;
use crate::v1::{
    Assignment, AttemptFailed, LeasesRenewed, RunError, WorkRequest, WorkerDrain, WorkerHeartbeat, WorkerHello,
    WorkerWelcome,
};

/// What a task has left after its lease is over.
const REVOKED_GRACE: Duration = Duration::from_secs(2);
/// How long the server may take to read the last reports.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Read positions that moved and were not looked at yet; more are found by the next heartbeat.
const READ_MOVED_MAX: usize = 1_024;

pub(super) struct Settings {
    pub(super) worker_id: String,
    pub(super) version: String,
    pub(super) capacity: u32,
    pub(super) drain_grace: Duration,
    pub(super) tasks: HashMap<String, Arc<dyn Task>>,
    pub(super) data: Channel,
}

type TaskResult = Result<Outcome, TaskError>;

pub(super) struct EventLoop {
    settings: Settings,
    link: Link,
    shutdown: CancellationToken,
    /// There while the connection is. Without it nothing is queued: what the server missed is made anew from the leases.
    outbound: Option<mpsc::Sender<WorkRequest>>,
    /// A few messages per lease at most.
    outbox: VecDeque<Message>,
    leases: HashMap<LeaseKey, Lease>,
    running: JoinSet<TaskResult>,
    running_keys: HashMap<Id, LeaseKey>,
    read_moved: (mpsc::Sender<LeaseKey>, mpsc::Receiver<LeaseKey>),
    /// Ticks at the server's cadence.
    heartbeat: Interval,
    lease_lives: Duration,
    /// Set once the shutdown began: no run may go on after it.
    drain_until: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(settings: Settings, link: Link, shutdown: CancellationToken) -> Self {
        Self {
            settings,
            link,
            shutdown,
            outbound: None,
            outbox: VecDeque::new(),
            leases: HashMap::new(),
            running: JoinSet::new(),
            running_keys: HashMap::new(),
            read_moved: mpsc::channel(READ_MOVED_MAX),
            heartbeat: every(Duration::from_secs(1)),
            lease_lives: Duration::ZERO,
            drain_until: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), WorkerError> {
        self.link.connect(self.hello());
        while !self.is_drained() {
            tokio::select! {
                event = self.link.next() => self.on_link(event)?,
                permit = room(self.outbound.as_ref()), if !self.outbox.is_empty() => self.send_next(permit),
                Some(ended) = self.running.join_next_with_id() => self.on_ended(ended),
                Some(key) = self.read_moved.1.recv() => self.on_read_moved(&key),
                _ = self.heartbeat.tick() => self.on_heartbeat(),
                () = self.shutdown.cancelled(), if self.drain_until.is_none() => self.begin_drain(),
                () = until(self.drain_until) => return self.give_up().await,
            }
        }
        self.close().await;
        Ok(())
    }

    fn hello(&self) -> Message {
        let held = self.leases.values().filter(|lease| lease.is_held());
        Message::Hello(WorkerHello {
            worker_id: self.settings.worker_id.clone(),
            task_identifiers: self.settings.tasks.keys().cloned().collect(),
            capacity: self.settings.capacity,
            version: self.settings.version.clone(),
            held_leases: held.map(|lease| lease.shared.key.to_ref()).collect(),
        })
    }

    fn on_link(&mut self, event: LinkEvent) -> Result<(), WorkerError> {
        match event {
            LinkEvent::Connected(welcome, outbound) => self.on_connected(&welcome, outbound),
            LinkEvent::Message(response) => {
                if let Some(message) = response.message {
                    self.on_message(message);
                }
            }
            LinkEvent::Lost(status) => return self.on_lost(status),
        }
        Ok(())
    }

    fn on_connected(&mut self, welcome: &WorkerWelcome, outbound: mpsc::Sender<WorkRequest>) {
        info!(worker.id = %self.settings.worker_id, worker.leases = self.leases.len(), "worker connected");
        self.lease_lives = Duration::from_millis(welcome.lease_ms.max(1).into());
        self.heartbeat = every(Duration::from_millis(welcome.heartbeat_ms.max(10).into()));
        self.outbound = Some(outbound);
        self.outbox = self.leases.values_mut().flat_map(Lease::repeat).collect();
        if self.drain_until.is_some() {
            self.send(Message::Drain(WorkerDrain {}));
        }
    }

    fn on_lost(&mut self, status: Status) -> Result<(), WorkerError> {
        self.outbound = None;
        self.outbox.clear();
        if is_refusal(&status) {
            self.leases.values_mut().for_each(|lease| _ = lease.revoke());
            return Err(WorkerError::Refused(status));
        }
        warn!(worker.id = %self.settings.worker_id, error = %status, "worker lost its connection and comes back");
        self.link.connect_later(self.hello());
        Ok(())
    }

    fn on_message(&mut self, message: FromServer) {
        match message {
            FromServer::Assignment(assignment) => self.on_assignment(assignment),
            FromServer::Renewed(renewed) => self.on_renewed(renewed),
            FromServer::Revoked(revoked) => {
                let Some(key) = revoked.lease.map(LeaseKey::from) else { return };
                debug!(run.id = %key.run_id, reason = %revoked.reason, "lease revoked");
                self.revoke(&key);
            }
            FromServer::Stop(stop) => {
                let Some(key) = stop.lease.map(LeaseKey::from) else { return };
                if let Some(lease) = self.leases.get(&key) {
                    lease.shared.stop_requested.cancel();
                }
            }
            FromServer::Welcome(_) => {}
        }
    }

    fn on_assignment(&mut self, mut assignment: Assignment) {
        let run_id = assignment.run.as_ref().map(|run| run.id.clone()).unwrap_or_default();
        let key = LeaseKey { run_id, lease: assignment.lease };
        let token = bearer(&std::mem::take(&mut assignment.run_token));
        if let Some(lease) = self.leases.get_mut(&key) {
            // Repeated after a reconnect.
            lease.renew(token);
            return;
        }
        let task_identifier = assignment.run.as_ref().map_or("", |run| &run.task_identifier);
        let task = self.settings.tasks.get(task_identifier).cloned();
        let (Some(task), Some(token)) = (task, token) else {
            warn!(run.id = %key.run_id, "assignment that this worker cannot execute");
            self.send(refused(&key));
            return;
        };
        let lives = match assignment.lease_ms {
            0 => self.lease_lives,
            lease_ms => Duration::from_millis(lease_ms.into()),
        };
        let (token, token_seen) = watch::channel(token);
        let shared = Arc::new(Shared {
            key: key.clone(),
            assignment,
            token: token_seen,
            revoked: CancellationToken::new(),
            stop_requested: CancellationToken::new(),
            draining: self.shutdown.child_token(),
            data: self.settings.data.clone(),
            read: AtomicU64::new(0),
            read_moved: self.read_moved.0.clone(),
            next_part: AtomicU64::new(0),
        });
        let handle = self.running.spawn(execute(task, RunContext::new(Arc::clone(&shared))));
        self.running_keys.insert(handle.id(), key.clone());
        let lease = Lease::new(shared, token, lives);
        self.send_all(lease.start());
        self.leases.insert(key, lease);
    }

    fn on_renewed(&mut self, renewed: LeasesRenewed) {
        for renewed in renewed.leases {
            let Some(key) = renewed.lease.map(LeaseKey::from) else { continue };
            let Some(lease) = self.leases.get_mut(&key) else { continue };
            let again = lease.renew(bearer(&renewed.run_token).filter(|_| !renewed.run_token.is_empty()));
            self.send_all(again);
        }
    }

    fn revoke(&mut self, key: &LeaseKey) {
        if self.leases.get_mut(key).is_some_and(Lease::revoke) {
            self.leases.remove(key);
        }
    }

    fn on_ended(&mut self, ended: Result<(Id, TaskResult), JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Err(failure(error))),
        };
        let Some(key) = self.running_keys.remove(&id) else { return };
        let Some(lease) = self.leases.get_mut(&key) else { return };
        if let (Err(error), true) = (&result, lease.is_running()) {
            warn!(run.id = %key.run_id, %error, "run failed");
        }
        let (messages, is_kept) = lease.end(result);
        if !is_kept {
            self.leases.remove(&key);
        }
        self.send_all(messages);
    }

    fn on_read_moved(&mut self, key: &LeaseKey) {
        let moved = self.leases.get_mut(key).and_then(Lease::moved_read);
        self.send_all(moved);
    }

    fn on_heartbeat(&mut self) {
        let now = Instant::now();
        let expired: Vec<LeaseKey> =
            self.leases.iter().filter(|(_, lease)| lease.is_expired(now)).map(|(key, _)| key.clone()).collect();
        for key in &expired {
            warn!(run.id = %key.run_id, "lease expired: the server renewed it no more");
            self.revoke(key);
        }
        // A connection that takes nothing gets no second heartbeat on top.
        let is_waiting = self.outbox.iter().any(|message| matches!(message, Message::Heartbeat(_)));
        if self.outbound.is_none() || is_waiting {
            return;
        }
        let moved: Vec<Message> = self.leases.values_mut().filter_map(Lease::moved_read).collect();
        self.send_all(moved);
        self.leases.retain(|_, lease| !lease.is_held() || lease.beat());
        let leases =
            self.leases.values().filter(|lease| lease.is_held()).map(|lease| lease.shared.key.to_ref()).collect();
        self.send(Message::Heartbeat(WorkerHeartbeat { leases }));
    }

    fn begin_drain(&mut self) {
        info!(worker.id = %self.settings.worker_id, worker.leases = self.leases.len(), "worker drains");
        self.drain_until = Some(Instant::now() + self.settings.drain_grace);
        self.send(Message::Drain(WorkerDrain {}));
    }

    /// Nothing executes, and everything is said that there is somebody to say it to.
    fn is_drained(&self) -> bool {
        let is_said = self.outbox.is_empty() && (self.outbound.is_some() || self.leases.is_empty());
        self.drain_until.is_some() && self.running.is_empty() && is_said
    }

    /// Ends the stream and waits until the server has done so too: then it has read everything.
    async fn close(&mut self) {
        if self.outbound.take().is_none() {
            return;
        }
        let ended = async { while !matches!(self.link.next().await, LinkEvent::Lost(_)) {} };
        let _ = tokio::time::timeout(CLOSE_GRACE, ended).await;
    }

    async fn give_up(mut self) -> Result<(), WorkerError> {
        warn!(worker.id = %self.settings.worker_id, worker.leases = self.leases.len(), "worker ends with runs unfinished");
        self.leases.values_mut().for_each(|lease| _ = lease.revoke());
        self.running.shutdown().await;
        Ok(())
    }

    fn send(&mut self, message: Message) {
        if self.outbound.is_some() {
            self.outbox.push_back(message);
        }
    }

    fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        messages.into_iter().for_each(|message| self.send(message));
    }

    fn send_next(&mut self, permit: Option<OwnedPermit<WorkRequest>>) {
        match (permit, self.outbox.pop_front()) {
            (Some(permit), Some(message)) => _ = permit.send(WorkRequest { message: Some(message) }),
            // The connection is gone; the link is about to say so.
            _ => self.outbound = None,
        }
    }
}

/// Runs a task, which is dropped a moment after its lease is over.
async fn execute(task: Arc<dyn Task>, ctx: RunContext) -> TaskResult {
    let revoked = ctx.revoked().clone();
    let left_behind = async {
        revoked.cancelled().await;
        sleep(REVOKED_GRACE).await;
    };
    tokio::select! {
        result = task.run(ctx) => result,
        () = left_behind => Err(TaskError::new("the lease is over")),
    }
}

fn failure(error: JoinError) -> TaskError {
    match error.try_into_panic() {
        Ok(panic) => TaskError::from_panic(&*panic),
        Err(_) => TaskError::new("the task was aborted"),
    }
}

fn refused(key: &LeaseKey) -> Message {
    let message = "the worker does not know the task".to_owned();
    let error = Some(RunError { name: "UnknownTask".to_owned(), message, stack_trace: None });
    Message::Failed(AttemptFailed { lease: Some(key.to_ref()), error, is_final: false })
}

async fn room(outbound: Option<&mpsc::Sender<WorkRequest>>) -> Option<OwnedPermit<WorkRequest>> {
    match outbound {
        Some(outbound) => outbound.clone().reserve_owned().await.ok(),
        None => pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
