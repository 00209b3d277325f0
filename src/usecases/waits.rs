//! Waits: make a waitpoint, suspend on it, complete it; wake whoever waits on a channel.
//!
//! The wake by append and the wait that begins at the same moment cannot miss each other: the waiter registers first and
//! looks at the channel after, the appender writes first and drains after.

use crate::body::client_text;
use crate::{Core, tokens::WAITPOINT_TOKEN_MS};
use continuo_domain::channel::{ChannelKey, Direction, NewRecord, ReadFrom, SeqNum};
use continuo_domain::error::Violations;
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::run::{Holder, Run, RunCommand};
use continuo_domain::session::{PAGE_SIZE_MAX, Session, SessionRef, check_tags};
use continuo_domain::text::bounded;
use continuo_domain::waitpoint::{
    ChannelWait, Completion, IDEMPOTENCY_KEY_CHARS_MAX, REGISTRATION_MS_DEFAULT, WaitedSession, Waitpoint,
    WaitpointKind,
};
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp, WaitpointId};
use continuo_ports::run_store::{MadeOrFound, Page, PageFrom, WaitpointCompleted, WaitpointFilter};
use continuo_ports::waitpoint_registry::WaitKey;
use tracing::{debug, warn};

/// A waitpoint that a caller completes.
#[derive(Clone, Debug, Default)]
pub struct NewManualWaitpoint {
    /// When it completes by itself, with an error.
    pub timeout_at: Option<Timestamp>,
    /// A repeat with this key finds it.
    pub idempotency_key: Option<String>,
    /// How long the key counts.
    pub idempotency_key_ttl_ms: Option<u64>,
    /// Labels.
    pub tags: Vec<String>,
}

/// A wait of a run on a reserved channel.
#[derive(Clone, Debug)]
pub struct WaitOnChannel {
    /// The run.
    pub run: RunId,
    /// Whose channel.
    pub session: SessionRef,
    /// Which side.
    pub direction: Direction,
    /// The last number the run has seen.
    pub last_seq_num: Option<SeqNum>,
    /// The waitpoint itself.
    pub waitpoint: NewManualWaitpoint,
}

/// A wait of a run for a moment.
#[derive(Clone, Debug)]
pub struct WaitForDuration {
    /// The run.
    pub run: RunId,
    /// The moment.
    pub until: Timestamp,
    /// A repeat with this key finds the waitpoint.
    pub idempotency_key: Option<String>,
    /// How long the key counts.
    pub idempotency_key_ttl_ms: Option<u64>,
}

impl Core {
    /// A waitpoint that completes with the next record; at once if it is there already. A name may come before its session.
    pub async fn wait_on_channel(&self, caller: &Principal, wait: WaitOnChannel) -> Result<MadeOrFound<Waitpoint>> {
        self.own_run(caller, &wait.run).await?;
        let row = self.find_session(caller, &wait.session).await?;
        let is_elsewhere = caller.run().is_some_and(|claim| row.as_ref().map(|r| &r.id) != claim.session.as_ref());
        if is_elsewhere && !caller.has_secret_key() {
            return Err(Error::PermissionDenied);
        }
        let session = match (&row, wait.session) {
            (Some(row), _) => WaitedSession::Id(row.id.clone()),
            (None, SessionRef::External(name)) => WaitedSession::Name(name.as_str().to_owned()),
            (None, SessionRef::Id(_)) => return Err(Error::SessionNotFound),
        };
        let after_last = wait.last_seq_num.map_or(0, |n| n.saturating_add(1));
        // Nobody has seen what is not there yet: a number past the end, of a channel that was made anew perhaps, would
        // otherwise sleep through every record up to it.
        let from_seq_num = match &row {
            Some(row) => self.below_tail(&row.id, wait.direction, after_last).await?,
            None => 0,
        };
        let channel = ChannelWait { session, direction: wait.direction, from_seq_num };
        let mut waitpoint = self.new_waitpoint(caller, WaitpointKind::Manual, wait.waitpoint)?;
        (waitpoint.run, waitpoint.channel) = (Some(wait.run), Some(channel));
        let mut made = self.ports.runs.create_waitpoint(waitpoint).await?;
        self.signals.timers_changed();
        if let Err(error) = self.register_and_check(&mut made.row).await {
            warn!(waitpoint.id = %made.row.id, error = %error, cause = ?error.cause(), "race check of a wait failed");
            // The record may be there already, and no append follow that would wake this one.
            if let Some(row) = row {
                drop(self.follow_up(&ChannelKey::reserved(row.id, wait.direction), None));
            }
        }
        Ok(made)
    }

    /// Registers the hint, then looks whether the record is there already. The look does not depend on the hint.
    pub(crate) async fn register_and_check(&self, waitpoint: &mut Waitpoint) -> Result<()> {
        let Some(wait) = waitpoint.channel.clone().filter(|_| waitpoint.is_open()) else { return Ok(()) };
        let key = wait_key(&waitpoint.environment, wait.session.clone(), wait.direction);
        let until = waitpoint.timeout_at.unwrap_or(waitpoint.created_at.plus_ms(REGISTRATION_MS_DEFAULT));
        if let Err(error) = self.ports.registry.register(&key, &waitpoint.id, until).await {
            debug!(waitpoint.id = %waitpoint.id, cause = ?error.cause(), "a wait is not registered");
        }
        let Some(session) = self.waited_session(&waitpoint.environment, &wait.session).await? else { return Ok(()) };
        let channel = ChannelKey::reserved(session, wait.direction);
        let mut next = wait.from_seq_num;
        loop {
            let (records, _) = self.ports.channels.read(&channel, ReadFrom::seq_num(next)).await?;
            let Some(last) = records.last().map(|r| r.seq_num) else { return Ok(()) };
            if let Some(record) = records.iter().find(|r| !r.is_command()) {
                // One that stays is passed over when it is found complete, and ends with its time.
                let _ = self.ports.registry.remove(&key, &waitpoint.id).await;
                let completion = Completion::json(client_text(&record.body));
                *waitpoint = self.complete(&waitpoint.id, completion).await?.waitpoint;
                return Ok(());
            }
            next = last + 1;
        }
    }

    async fn waited_session(&self, environment: &EnvironmentId, waited: &WaitedSession) -> Result<Option<SessionId>> {
        let name = match waited {
            WaitedSession::Id(id) => return Ok(Some(id.clone())),
            WaitedSession::Name(name) => continuo_domain::session::ExternalId::trusted(name.clone()),
        };
        let row = self.ports.sessions.get(environment, &SessionRef::External(name)).await?;
        Ok(row.map(|r| r.id))
    }

    /// Wakes all who wait on a channel for this record. Best effort: the record is durable, and the sweeper finds whoever was
    /// missed.
    pub(crate) async fn drain(&self, session: &Session, direction: Direction, seq_num: SeqNum, record: &NewRecord) {
        if matches!(record.command(), Ok(Some(_))) {
            return;
        }
        let by_id = WaitedSession::Id(session.id.clone());
        let by_name = session.external_id.as_ref().map(|e| WaitedSession::Name(e.as_str().to_owned()));
        for waited in std::iter::once(by_id).chain(by_name) {
            let key = wait_key(&session.tenant.environment, waited, direction);
            if let Err(error) = self.drain_key(session, &key, seq_num, record).await {
                warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "a wake is late");
            }
        }
    }

    async fn drain_key(&self, session: &Session, key: &WaitKey, seq_num: SeqNum, record: &NewRecord) -> Result<()> {
        for id in self.ports.registry.drain(key, self.now()).await? {
            // The set is cleared: one that fails must not keep the others asleep.
            if let Err(error) = self.wake(session, key, &id, seq_num, record).await {
                warn!(waitpoint.id = %id, error = %error, cause = ?error.cause(), "a wake is late");
            }
        }
        Ok(())
    }

    /// Completes the wait, unless it is for a later record, or for the session that had this one's name before.
    async fn wake(
        &self,
        session: &Session,
        key: &WaitKey,
        id: &WaitpointId,
        seq_num: SeqNum,
        record: &NewRecord,
    ) -> Result<()> {
        let waitpoint = self.ports.runs.get_waitpoint(&key.environment, id).await?;
        let Some(mut waitpoint) = waitpoint.filter(Waitpoint::is_open) else { return Ok(()) };
        let is_for_this = waitpoint.channel.as_ref().is_none_or(|wait| {
            let is_bound_elsewhere = matches!(&wait.session, WaitedSession::Id(bound) if *bound != session.id);
            !is_bound_elsewhere && wait.from_seq_num <= seq_num
        });
        if is_for_this {
            self.complete(id, Completion::json(client_text(&record.body))).await.map(drop)
        } else {
            self.register_and_check(&mut waitpoint).await
        }
    }

    /// PENDING to COMPLETED exactly once; the runs that were suspended on it are offered to workers.
    pub(crate) async fn complete(&self, id: &WaitpointId, completion: Completion) -> Result<WaitpointCompleted> {
        let completed = self.ports.runs.complete_waitpoint(id, completion, self.now()).await?;
        for resumed in &completed.resumed {
            self.after_run_change(resumed).await;
        }
        Ok(completed)
    }

    /// A waitpoint that completes by the clock, and the run suspended on it.
    pub async fn wait_for_duration(&self, caller: &Principal, wait: WaitForDuration) -> Result<Waitpoint> {
        self.own_run(caller, &wait.run).await?;
        let WaitForDuration { run, until, idempotency_key, idempotency_key_ttl_ms } = wait;
        let new =
            NewManualWaitpoint { timeout_at: Some(until), idempotency_key, idempotency_key_ttl_ms, tags: Vec::new() };
        let mut waitpoint = self.new_waitpoint(caller, WaitpointKind::DateTime, new)?;
        waitpoint.run = Some(run.clone());
        let waitpoint = self.ports.runs.create_waitpoint(waitpoint).await?.row;
        self.suspend(caller, &run, &waitpoint.id, None).await?;
        Ok(waitpoint)
    }

    /// Suspends the run until the waitpoint completes; if it is complete already the run is queued again at once.
    pub async fn suspend(&self, caller: &Principal, run: &RunId, id: &WaitpointId, lease: Option<u64>) -> Result<Run> {
        self.own_run(caller, run).await?;
        self.ports.runs.get_waitpoint(&caller.environment, id).await?.ok_or(Error::WaitpointNotFound)?;
        let own_lease = caller.run().map(|claim| claim.lease);
        let holder = lease.or(own_lease).map_or(Holder::Owner, Holder::Lease);
        let command = RunCommand::Suspend { holder, waitpoint: id.clone() };
        let applied = self.ports.runs.apply(&caller.environment, run, command, self.now()).await?;
        self.after_run_change(&applied).await;
        Ok(applied.run)
    }

    /// A waitpoint that a caller completes, and a token to do so.
    pub async fn create_waitpoint(
        &self,
        caller: &Principal,
        new: NewManualWaitpoint,
    ) -> Result<(MadeOrFound<Waitpoint>, String)> {
        check_key_or_run(caller, Action::Write, &[Resource::all("waitpoints")])?;
        let mut waitpoint = self.new_waitpoint(caller, WaitpointKind::Manual, new)?;
        waitpoint.run = caller.run().map(|claim| claim.run.clone());
        let made = self.ports.runs.create_waitpoint(waitpoint).await?;
        self.signals.timers_changed();
        let scopes = [format!("write:waitpoints:{}", made.row.id)];
        let token = self.mint_for(caller, &scopes, WAITPOINT_TOKEN_MS).await?;
        Ok((made, token))
    }

    /// One waitpoint.
    pub async fn get_waitpoint(&self, caller: &Principal, id: &WaitpointId) -> Result<Waitpoint> {
        let this = [Resource::one("waitpoints", id.as_str()), Resource::all("waitpoints")];
        check_key_or_run(caller, Action::Read, &this)?;
        self.ports.runs.get_waitpoint(&caller.environment, id).await?.ok_or(Error::WaitpointNotFound)
    }

    /// The token in the URL that completes a waitpoint without any other credential. Those that something else completes
    /// have none.
    pub fn callback_token(&self, waitpoint: &Waitpoint) -> Option<String> {
        let is_for_callers = waitpoint.kind == WaitpointKind::Manual && waitpoint.channel.is_none();
        is_for_callers.then(|| self.ports.tokens.mint_waitpoint(&waitpoint.environment, &waitpoint.id))
    }

    /// A page of waitpoints, newest first.
    pub async fn list_waitpoints(
        &self,
        caller: &Principal,
        filter: &WaitpointFilter,
        from: &PageFrom<WaitpointId>,
        size: u32,
    ) -> Result<Page<Waitpoint>> {
        if !caller.has_secret_key() || !caller.may(Action::Read, &[Resource::all("waitpoints")]) {
            return Err(Error::PermissionDenied);
        }
        self.ports.runs.list_waitpoints(&caller.environment, filter, from, size.clamp(1, PAGE_SIZE_MAX)).await
    }

    /// Completes a waitpoint; a repeat is a success without effect.
    pub async fn complete_waitpoint(
        &self,
        caller: &Principal,
        id: &WaitpointId,
        completion: Completion,
    ) -> Result<Waitpoint> {
        let this = [Resource::one("waitpoints", id.as_str()), Resource::all("waitpoints")];
        if !caller.may(Action::Write, &this) && caller.run().is_none() {
            return Err(Error::PermissionDenied);
        }
        self.ports.runs.get_waitpoint(&caller.environment, id).await?.ok_or(Error::WaitpointNotFound)?;
        Ok(self.complete(id, completion).await?.waitpoint)
    }

    fn new_waitpoint(&self, caller: &Principal, kind: WaitpointKind, new: NewManualWaitpoint) -> Result<Waitpoint> {
        let mut found = Violations::new();
        check_tags("tags", &new.tags, &mut found);
        if let Some(key) = &new.idempotency_key {
            found.take(bounded("idempotency_key", key, IDEMPOTENCY_KEY_CHARS_MAX))?;
        }
        found.finish()?;
        let now = self.now();
        Ok(Waitpoint {
            id: WaitpointId::from_body(&self.ports.ids.next()),
            environment: caller.environment.clone(),
            kind,
            run: None,
            channel: None,
            awaited_run: None,
            idempotency_key_expires_at: new.idempotency_key_ttl_ms.map(|ttl| now.plus_ms(ttl)),
            idempotency_key: new.idempotency_key,
            tags: new.tags,
            timeout_at: new.timeout_at,
            completed_at: None,
            completion: None,
            created_at: now,
        })
    }
}

fn wait_key(environment: &EnvironmentId, session: WaitedSession, direction: Direction) -> WaitKey {
    WaitKey { environment: environment.clone(), session, direction }
}

/// A run, or a key whose scopes reach so far.
fn check_key_or_run(caller: &Principal, action: Action, any_of: &[Resource]) -> Result<()> {
    let has_key = caller.has_secret_key() && caller.may(action, any_of);
    if has_key || caller.run().is_some() { Ok(()) } else { Err(Error::PermissionDenied) }
}
