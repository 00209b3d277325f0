//! The link to one worker.

use super::presence::{Heard, Presence};
use super::{Assigned, LeaseRef, RevokeReason, RunTokens, WorkerEvent, WorkerHello, WorkerMessage};
use crate::Core;
use continuo_domain::channel::Direction;
use continuo_domain::principal::{Action, Credential, Principal, Resource, RunClaim};
use continuo_domain::run::{Assignment, Holder, Run, RunCommand, RunError, RunStatus};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result, SessionId, Timestamp};
use continuo_ports::run_store::{Applied, DequeueRequest, Renewed};
use continuo_ports::session_store::BootEvent;
use continuo_ports::worker_store::ConnectedWorker;
use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// How much longer a run's token lives than its lease: its last writes are on their way.
const RUN_TOKEN_GRACE_MS: u64 = 60_000;
/// SDKs use no token with less than five minutes left.
const SDK_RUN_TOKEN_GRACE_MS: u64 = 20 * 60_000;
/// How long a link takes no work after an assignment that failed: the run is in its queue again at once, and what made it
/// fail (a log that stopped) may last.
const PAUSE: Duration = Duration::from_secs(1);

impl Core {
    /// Serves one worker until its stream ends. A worker that is gone loses its leases at once; one whose server stops keeps
    /// them until their deadline, so that it can come back.
    pub async fn serve_worker(
        &self,
        caller: Principal,
        hello: WorkerHello,
        inbound: BoxStream<'static, Result<WorkerMessage>>,
        events: mpsc::Sender<WorkerEvent>,
    ) -> Result<()> {
        hello.check()?;
        if !caller.has_secret_key() || !caller.may(Action::Write, &[Resource::all("tasks")]) {
            return Err(Error::PermissionDenied);
        }
        let (id, now) = (self.ports.ids.next(), self.now());
        let presence = Presence::begin(self, connected(&caller, &hello, &id, now)).await?;
        let (heard, hearing) = watch::channel(Heard { at: now, is_draining: false });
        let worker_id = hello.worker_id.clone();
        info!(worker.id = worker_id, "worker connected");
        let mut link = Link {
            core: self.clone(),
            caller,
            hello,
            events,
            held: HashSet::new(),
            stopped: HashSet::new(),
            draining: false,
            paused_until: None,
            id,
            heard,
        };
        let serve = async move {
            let ended = link.serve(inbound).await;
            if !self.stopping.is_cancelled() {
                link.abandon().await;
            }
            ended
        };
        let (ended, ()) = tokio::join!(serve, presence.keep(hearing));
        info!(worker.id = worker_id, "worker gone");
        match ended {
            Err(Gone::Failed(error)) => Err(error),
            Ok(()) | Err(Gone::Left) => Ok(()),
        }
    }
}

/// What has become of an assignment when its fence stands.
enum Prepared {
    Assigned(Box<Assigned>),
    /// A newer run owns the session.
    Superseded,
    /// A newer lease has the run, or it is over.
    Late,
}

/// Why a link ends.
enum Gone {
    Left,
    Failed(Error),
}

impl From<Error> for Gone {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Link {
    core: Core,
    caller: Principal,
    hello: WorkerHello,
    events: mpsc::Sender<WorkerEvent>,
    held: HashSet<LeaseRef>,
    /// Leases that were asked to stop already.
    stopped: HashSet<LeaseRef>,
    draining: bool,
    paused_until: Option<Instant>,
    /// Tells links apart, also those of other replicas: a worker that has come back holds its leases through the newest.
    id: String,
    /// What is heard of the worker, for its row; dropped with the link.
    heard: watch::Sender<Heard>,
}

impl Link {
    async fn serve(&mut self, mut inbound: BoxStream<'static, Result<WorkerMessage>>) -> Result<(), Gone> {
        let mut runs = self.core.signals.runs();
        let mut work = self.core.signals.work();
        let settings = self.core.settings;
        self.tell(WorkerEvent::Welcome { lease_ms: settings.lease_ms, heartbeat_ms: settings.heartbeat_ms }).await?;
        let held = std::mem::take(&mut self.hello.held_leases);
        self.renew(held).await?;
        self.take_work().await?;
        let stopping = self.core.stopping.clone();
        let silence = Duration::from_millis(settings.lease_ms.into());
        let mut silent_at = Instant::now() + silence;
        loop {
            let had_room = self.room();
            let pause = self.paused_until;
            tokio::select! {
                () = stopping.cancelled() => return Err(Gone::Failed(Error::Stopping)),
                () = self.events.closed() => return Err(Gone::Left),
                message = inbound.next() => match message {
                    None => return Ok(()),
                    Some(message) => {
                        self.on_message(message?).await?;
                        silent_at = Instant::now() + silence;
                    }
                },
                // Its connection may be dead and not know it: what it was given next would be lost for another lease.
                () = tokio::time::sleep_until(silent_at) => match inbound.next().now_or_never() {
                    Some(Some(message)) => {
                        self.on_message(message?).await?;
                        silent_at = Instant::now() + silence;
                    }
                    Some(None) => return Ok(()),
                    None => {
                        info!(worker.id = self.hello.worker_id, "nothing was heard of a worker for the life of a lease");
                        return Err(Gone::Left);
                    }
                },
                signal = runs.recv() => match signal {
                    Ok(signal) => self.look_at(|lease| signal.concerns(&lease.run)).await?,
                    Err(RecvError::Lagged(_)) => self.look_at(|_| true).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = work.changed() => self.take_work().await?,
                () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    self.paused_until = None;
                    self.take_work().await?;
                }
            }
            if self.room() > had_room {
                self.take_work().await?;
            }
        }
    }

    fn room(&self) -> u32 {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        if self.draining { 0 } else { self.hello.capacity.saturating_sub(held) }
    }

    async fn take_work(&mut self) -> Result<(), Gone> {
        if self.room() == 0 || self.paused_until.is_some() {
            return Ok(());
        }
        let now = self.core.now();
        let request = DequeueRequest {
            environment: self.caller.environment.clone(),
            worker: self.hello.worker_id.clone(),
            link: self.id.clone(),
            task_identifiers: self.hello.task_identifiers.clone(),
            capacity: self.room(),
            lease_until: now.plus_ms(self.core.settings.lease_ms.into()),
        };
        let mut assignments = Vec::new();
        for assignment in self.core.ports.runs.dequeue(request, now).await? {
            let number = assignment.run.lease.as_ref().map_or(assignment.run.snapshot, |l| l.number);
            let lease = lease_ref(&assignment.run, number);
            // All of them are this link's from here on: if it breaks half-way, all of them are given back.
            self.held.insert(lease.clone());
            assignments.push((assignment, lease));
        }
        self.core.signals.timers_changed();
        for (assignment, lease) in assignments {
            let run = assignment.run.clone();
            match self.assign(assignment, lease.clone()).await {
                Ok(Prepared::Assigned(assigned)) => self.tell(WorkerEvent::Assigned(assigned)).await?,
                Ok(Prepared::Superseded) => {
                    self.release(&lease);
                    self.retire_superseded(&run).await;
                }
                Ok(Prepared::Late) => self.release(&lease),
                Err(error) => {
                    warn!(run.id = %run.spec.id, error = %error, cause = ?error.cause(), "an assignment goes back to its queue");
                    self.paused_until = Some(Instant::now() + PAUSE);
                    self.release(&lease);
                    self.lose(&lease, "The assignment could not be prepared").await;
                }
            }
        }
        Ok(())
    }

    /// The fence stands before the run hears of its lease, so that its predecessor cannot write any more when it begins.
    async fn assign(&self, assignment: Assignment, lease: LeaseRef) -> Result<Prepared> {
        let run = &assignment.run;
        let mut session = None;
        if let Some(id) = &run.spec.session {
            let fence = self.core.raise_fence(id, run.session_version, lease.number).await?;
            if fence.version > run.session_version {
                return Ok(Prepared::Superseded);
            }
            // Only where this replica stood still for longer than the lease.
            if fence.lease > lease.number {
                return Ok(Prepared::Late);
            }
            session = self.core.ports.sessions.get(&self.caller.environment, &SessionRef::Id(id.clone())).await?;
        }
        let tokens = self.mint(&lease, run.spec.session.clone(), run.session_version).await?;
        let lease_ms = self.core.settings.lease_ms;
        Ok(Prepared::Assigned(Box::new(Assigned { assignment, lease, tokens, session, lease_ms })))
    }

    async fn mint(&self, lease: &LeaseRef, session: Option<SessionId>, version: u64) -> Result<RunTokens> {
        let claim = RunClaim { run: lease.run.clone(), session, version, lease: lease.number };
        let lease_until = self.core.now().plus_ms(self.core.settings.lease_ms.into());
        let (tokens, environment) = (&self.core.ports.tokens, &self.caller.environment);
        let run_token = tokens.mint_run(environment, &claim, lease_until.plus_ms(RUN_TOKEN_GRACE_MS)).await?;
        if self.caller.credential != Credential::RootKey {
            return Ok(RunTokens { run_token, sdk_run_token: None });
        }
        let sdk_run_token =
            tokens.mint_sdk_run(environment, &claim, lease_until.plus_ms(SDK_RUN_TOKEN_GRACE_MS)).await?;
        Ok(RunTokens { run_token, sdk_run_token: Some(sdk_run_token) })
    }

    async fn on_message(&mut self, message: WorkerMessage) -> Result<(), Gone> {
        self.draining |= matches!(message, WorkerMessage::Drain);
        self.heard.send_replace(Heard { at: self.core.now(), is_draining: self.draining });
        match message {
            WorkerMessage::Heartbeat(leases) => self.renew(leases).await,
            WorkerMessage::Drain => Ok(()),
            WorkerMessage::Suspended(lease) => {
                self.release(&lease);
                Ok(())
            }
            WorkerMessage::Started(lease) => {
                let command = RunCommand::Start(Holder::Lease(lease.number));
                self.change(lease, command).await.map(drop)
            }
            WorkerMessage::Read(lease, seq_num) => self.note_read(lease, seq_num).await,
            WorkerMessage::Completed { lease, output, output_type } => {
                let command = RunCommand::Complete { holder: Holder::Lease(lease.number), output, output_type };
                self.finish(lease, command).await
            }
            WorkerMessage::Failed { lease, error, may_retry } => {
                let command = RunCommand::Fail { holder: Holder::Lease(lease.number), error, may_retry };
                self.finish(lease, command).await
            }
        }
    }

    async fn finish(&mut self, lease: LeaseRef, command: RunCommand) -> Result<(), Gone> {
        self.release(&lease);
        self.change(lease, command).await.map(drop)
    }

    async fn note_read(&mut self, lease: LeaseRef, seq_num: u64) -> Result<(), Gone> {
        let run = self.core.ports.runs.get(&self.caller.environment, &lease.run).await?;
        let session = run.and_then(|run| run.spec.session);
        let seq_num = match &session {
            Some(session) => self.core.below_tail(session, Direction::In, seq_num).await?,
            None => 0,
        };
        let command = RunCommand::Read { holder: Holder::Lease(lease.number), seq_num };
        if let (Some(_), Some(session)) = (self.change(lease, command).await?, session) {
            self.core.ports.sessions.note_boot(&session, BootEvent::Read(seq_num), self.core.now()).await?;
        }
        Ok(())
    }

    /// Applies a command under a lease. One that is over has no effect and is told to the worker.
    async fn change(&mut self, lease: LeaseRef, command: RunCommand) -> Result<Option<Applied>, Gone> {
        let runs = &self.core.ports.runs;
        match runs.apply(&self.caller.environment, &lease.run, command, self.core.now()).await {
            Ok(applied) => {
                self.core.after_run_change(&applied).await;
                Ok(Some(applied))
            }
            Err(Error::StaleSnapshot { .. } | Error::RunNotReady { .. } | Error::RunNotFound) => {
                self.revoke(lease).await?;
                Ok(None)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// A lease that this link has stays whosever it is by now; one it hears of for the first time, from a worker that has
    /// come back, becomes this link's.
    async fn renew(&mut self, leases: Vec<LeaseRef>) -> Result<(), Gone> {
        let (own, new): (Vec<_>, Vec<_>) = leases.into_iter().partition(|lease| self.held.contains(lease));
        let now = self.core.now();
        let until = now.plus_ms(self.core.settings.lease_ms.into());
        let (environment, runs) = (&self.caller.environment, &self.core.ports.runs);
        let mut outcomes = runs.renew(environment, &own, None, until, now).await?;
        outcomes.extend(runs.renew(environment, &new, Some(&self.id), until, now).await?);
        let mut renewed = Vec::new();
        for (lease, outcome) in own.into_iter().chain(new).zip(outcomes) {
            match outcome {
                Ok(Renewed { session, session_version }) => {
                    self.held.insert(lease.clone());
                    let token = self.mint(&lease, session, session_version).await?;
                    renewed.push((lease, token));
                }
                Err(Error::StaleSnapshot { .. } | Error::RunNotReady { .. } | Error::RunNotFound) => {
                    self.revoke(lease).await?;
                }
                Err(other) => return Err(other.into()),
            }
        }
        self.core.signals.timers_changed();
        self.tell(WorkerEvent::Renewed(renewed)).await
    }

    /// A run of ours was changed by someone else: tell the worker what it means.
    async fn look_at(&mut self, concerns: impl Fn(&LeaseRef) -> bool) -> Result<(), Gone> {
        let leases: Vec<_> = self.held.iter().filter(|l| concerns(l)).cloned().collect();
        for lease in leases {
            let run = self.core.ports.runs.get(&self.caller.environment, &lease.run).await?;
            let still_ours = run.as_ref().and_then(|r| r.lease.as_ref()).is_some_and(|l| l.number == lease.number);
            match run {
                Some(run) if still_ours => self.pass_on_stop(&run, lease).await?,
                // The worker itself asked for it and is about to say so.
                Some(run) if run.status == RunStatus::WaitingToResume => {}
                _ => self.revoke(lease).await?,
            }
        }
        Ok(())
    }

    async fn pass_on_stop(&mut self, run: &Run, lease: LeaseRef) -> Result<(), Gone> {
        let Some(by) = run.stop_by else { return Ok(()) };
        if !self.stopped.insert(lease.clone()) {
            return Ok(());
        }
        self.tell(WorkerEvent::Stop(lease, by.ms_since(self.core.now()))).await
    }

    async fn revoke(&mut self, lease: LeaseRef) -> Result<(), Gone> {
        self.release(&lease);
        let run = self.core.ports.runs.get(&self.caller.environment, &lease.run).await?;
        let reason = match run.map(|r| r.status) {
            Some(RunStatus::Canceled) => RevokeReason::Canceled,
            Some(RunStatus::TimedOut) => RevokeReason::TimedOut,
            Some(RunStatus::WaitingToResume) => RevokeReason::Suspended,
            _ => RevokeReason::LeaseExpired,
        };
        self.tell(WorkerEvent::Revoked(lease, reason)).await
    }

    fn release(&mut self, lease: &LeaseRef) {
        self.held.remove(lease);
        self.stopped.remove(lease);
    }

    async fn tell(&self, event: WorkerEvent) -> Result<(), Gone> {
        tokio::select! {
            // A worker that does not read must not hold up the node's end.
            () = self.core.stopping.cancelled() => Err(Gone::Failed(Error::Stopping)),
            sent = self.events.send(event) => sent.map_err(|_| Gone::Left),
        }
    }

    async fn retire_superseded(&self, run: &Run) {
        let command = RunCommand::Cancel { reason: "A newer run owns its session".into() };
        self.apply_late(run, command).await;
    }

    async fn abandon(&mut self) {
        for lease in std::mem::take(&mut self.held) {
            self.lose(&lease, "The connection to its worker was lost").await;
        }
    }

    /// The worker may have come back and hold it through a newer link, here or elsewhere: then nothing happens.
    async fn lose(&self, lease: &LeaseRef, why: &str) {
        let (number, link) = (lease.number, self.id.clone());
        let command = RunCommand::LoseLease { number, link, error: RunError::new("WORKER_LOST", why) };
        let runs = &self.core.ports.runs;
        match runs.apply(&self.caller.environment, &lease.run, command, self.core.now()).await {
            Ok(applied) => self.core.after_run_change(&applied).await,
            Err(error) => warn!(run.id = %lease.run, error = %error, "its lease ends by the clock"),
        }
    }

    async fn apply_late(&self, run: &Run, command: RunCommand) {
        match self.core.ports.runs.apply(&run.spec.environment, &run.spec.id, command, self.core.now()).await {
            Ok(applied) => self.core.after_run_change(&applied).await,
            Err(error) => warn!(run.id = %run.spec.id, error = %error, "a superseded run ends by the clock"),
        }
    }
}

fn connected(caller: &Principal, hello: &WorkerHello, link: &str, now: Timestamp) -> ConnectedWorker {
    ConnectedWorker {
        environment: caller.environment.clone(),
        id: hello.worker_id.clone(),
        link: link.to_owned(),
        version: hello.version.clone(),
        task_identifiers: hello.task_identifiers.clone(),
        capacity: hello.capacity,
        is_draining: false,
        connected_at: now,
        seen_at: now,
    }
}

fn lease_ref(run: &Run, number: u64) -> LeaseRef {
    LeaseRef { run: run.spec.id.clone(), number }
}
