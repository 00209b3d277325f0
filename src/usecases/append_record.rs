//! Append to a channel: authorize, let the log decide who may write, then wake whoever waits.

use crate::body::{boots, without_webhook_mark};
use crate::{ChannelTarget, Core};
use bytes::Bytes;
use continuo_domain::channel::{
    Append, Appended, ChannelKey, Command, Direction, Fence, FencingToken, Header, NewRecord, TURN_COMPLETE,
};
use continuo_domain::principal::{Principal, RunClaim, Writer};
use continuo_domain::run::{Holder, RunCommand, RunReason, RunStatus};
use continuo_domain::session::Session;
use continuo_domain::{Error, Result, Violation};
use continuo_ports::session_store::BootEvent;
use tracing::{debug, warn};

/// How often an append that races with a moving fence looks again before it gives up.
const FENCE_ROUNDS_MAX: u32 = 16;
/// Control records a superseded run may still write until its successor's first record.
const FAREWELLS: [&str; 4] = ["upgrade-required", "pending-version", TURN_COMPLETE, "session-closed"];
/// Last header of a control record that a superseded run wrote: what tells it from one of the owner's. Readers ignore it.
const SUPERSEDED_HEADER: &str = "continuo-superseded";

/// May an append start a run?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Unless its body says stop.
    Default,
    /// No.
    Never,
}

/// What the close of the session is to an append.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    /// Its end.
    Refuses,
    /// Nothing: a run that writes with its environment's key finishes what it began. Its credential is from before the close.
    Passes,
}

/// An append as a caller asks for it.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// Where.
    pub channel: ChannelTarget,
    /// What.
    pub append: Append,
    /// May it start a run?
    pub boot: Boot,
}

/// The envelope in which a text is stored on `.in`.
pub(crate) fn envelope(text: &str, id: &str) -> Bytes {
    Bytes::from(serde_json::json!({ "data": text, "id": id }).to_string())
}

impl Core {
    /// Durable and readable on return. On the reserved `.in` a run is then made sure of; neither that nor waking the waiters
    /// may fail an append whose record is already durable.
    pub async fn append(&self, caller: &Principal, request: AppendRequest) -> Result<Appended> {
        request.append.check()?;
        let row = self.find_session(caller, &request.channel.session).await?;
        Self::check_write(caller, &request.channel, row.as_ref())?;
        let session = row.ok_or(Error::SessionNotFound)?;
        self.append_to(caller, &session, request).await
    }

    /// As `append`, once the caller is known to have the right: what a stream of appends does for each.
    pub(crate) async fn append_to(
        &self,
        caller: &Principal,
        session: &Session,
        request: AppendRequest,
    ) -> Result<Appended> {
        let channel = request.channel.key(session);
        let append = self.prepare(caller, &channel, request.append)?;
        let is_output = channel.is_reserved() && channel.direction == Direction::Out;
        let appended = match caller.writer(&session.id) {
            Writer::Run(claim) if is_output => self.append_as_run(caller, &channel, claim, append.clone()).await,
            Writer::Key if is_output && caller.writes_directly() => {
                self.append_unowned(session, &channel, append.clone(), Close::Passes).await
            }
            Writer::Run(claim) => {
                self.check_alive(caller, claim).await?;
                self.append_brokered(session, &channel, append.clone()).await
            }
            Writer::Key | Writer::Public => self.append_brokered(session, &channel, append.clone()).await,
        }?;
        self.after_append(caller, session, &channel, &append, appended, request.boot).await;
        Ok(appended)
    }

    /// `.in` and named channels have no owner in the log, so it is the row that ends what a run may write there.
    async fn check_alive(&self, caller: &Principal, claim: &RunClaim) -> Result<()> {
        let run = self.ports.runs.get(&caller.environment, &claim.run).await?;
        if run.is_some_and(|run| run.is_alive()) {
            return Ok(());
        }
        Err(Error::Fenced { fencing_token: String::new() })
    }

    /// What a caller without a key may not say is refused or stripped; fences are the server's own.
    fn prepare(&self, caller: &Principal, channel: &ChannelKey, mut append: Append) -> Result<Append> {
        let is_command = |record: &NewRecord| matches!(record.command(), Ok(Some(_)));
        if append.records.iter().any(|r| matches!(r.command(), Ok(Some(Command::Fence(_))))) {
            return Err(Violation::new("records", "holds a fence command; fences are set by the server").into());
        }
        let has_condition = append.match_seq_num.is_some() || append.fencing_token.is_some();
        if caller.writer(&channel.session) == Writer::Public && (has_condition || append.records.iter().any(is_command))
        {
            return Err(Error::PermissionDenied);
        }
        if caller.writer(&channel.session) != Writer::Key && channel.is_reserved() && channel.direction == Direction::In
        {
            for record in &mut append.records {
                if let Some(body) = without_webhook_mark(&record.body) {
                    record.body = body;
                }
            }
        }
        Ok(append)
    }

    /// The path of everybody but a run on its own `.out`: refused once the session is closed or expired, and if a close
    /// comes between, the closed fence in the log refuses it.
    async fn append_brokered(&self, session: &Session, channel: &ChannelKey, append: Append) -> Result<Appended> {
        if let Err(refusal) = session.check_open(self.now()) {
            return self.repeat_or(refusal, channel, append).await;
        }
        if let Some(name) = &channel.name
            && !self.ports.sessions.register_channel(&session.id, name).await?
        {
            let closed_reason = self.closed_reason(session).await;
            return self.repeat_or(Error::SessionClosed { closed_reason }, channel, append).await;
        }
        self.append_unowned(session, channel, append, Close::Refuses).await
    }

    /// Under whatever fencing token is in force, unless the caller names one.
    async fn append_unowned(
        &self,
        session: &Session,
        channel: &ChannelKey,
        append: Append,
        close: Close,
    ) -> Result<Appended> {
        let own_token = append.fencing_token.clone();
        // An old token is refused, and the true one then asked for.
        let mut hint = self.ports.channels.fencing_token_hint(channel);
        for _ in 0..FENCE_ROUNDS_MAX {
            let seen = match hint.take() {
                Some(token) => token,
                None => {
                    let tail = self.ports.channels.tail(channel).await?;
                    if tail.position.seq_num == 0 {
                        // Nobody wrote to it yet, or it went with its session, and its closed fence with it.
                        self.check_still_open(session).await?;
                    }
                    tail.fencing_token
                }
            };
            if Fence::of_token(&seen).closed && close == Close::Refuses {
                let closed_reason = self.closed_reason(session).await;
                return self.repeat_or(Error::SessionClosed { closed_reason }, channel, append).await;
            }
            let fencing_token = Some(own_token.clone().unwrap_or(seen));
            match self.ports.channels.append(channel, Append { fencing_token, ..append.clone() }).await {
                Err(Error::Fenced { .. }) if own_token.is_none() => {}
                outcome => return outcome,
            }
        }
        Err(Error::LimitExceeded { what: "the channel's owner keeps changing, which", retry_after_ms: 100 })
    }

    /// As `Session::check_open`, on the row as it is now.
    async fn check_still_open(&self, session: &Session) -> Result<()> {
        let asked = continuo_domain::session::SessionRef::Id(session.id.clone());
        let row = self.ports.sessions.get(&session.tenant.environment, &asked).await?;
        row.ok_or(Error::SessionNotFound)?.check_open(self.now())
    }

    /// A part id that was stored before the refusal has its outcome still. The token is one that is never in force, so that a
    /// record that was trimmed away meanwhile is not written again.
    async fn repeat_or(&self, refusal: Error, channel: &ChannelKey, append: Append) -> Result<Appended> {
        let Some(part_id) = &append.part_id else { return Err(refusal) };
        if self.ports.channels.part(channel, part_id).await?.is_none() {
            return Err(refusal);
        }
        let fencing_token = Some(FencingToken::parse("only-a-repeat")?);
        match self.ports.channels.append(channel, Append { fencing_token, ..append }).await {
            Err(Error::Fenced { .. }) => Err(refusal),
            outcome => outcome,
        }
    }

    pub(crate) async fn closed_reason(&self, session: &Session) -> Option<String> {
        let asked = continuo_domain::session::SessionRef::Id(session.id.clone());
        let row = self.ports.sessions.get(&session.tenant.environment, &asked).await;
        row.ok().flatten().and_then(|row| row.closed_reason)
    }

    /// A run writes under its lease, also while the session closes; a newer owner's fence ends that.
    async fn append_as_run(
        &self,
        caller: &Principal,
        channel: &ChannelKey,
        claim: &RunClaim,
        append: Append,
    ) -> Result<Appended> {
        let mut own = Fence { version: claim.version, lease: claim.lease, closed: false };
        let mut fencing_token = own.to_token();
        for _ in 0..FENCE_ROUNDS_MAX {
            let attempt = Append { fencing_token: Some(fencing_token.clone()), ..append.clone() };
            let current = match self.ports.channels.append(channel, attempt).await {
                Err(Error::Fenced { fencing_token }) => fencing_token,
                outcome => return outcome,
            };
            let in_force = FencingToken::parse(&current)?;
            let fence = Fence::of_token(&in_force);
            // Closed, or renewed: the owner is the same.
            if (fence.version, fence.lease) == (own.version, own.lease) {
                fencing_token = in_force;
            } else if fence.version == own.version && self.has_only_slept(caller, claim, fence.lease).await? {
                own = fence;
                fencing_token = in_force;
            } else if fence.version > own.version && self.may_say_farewell(caller, claim).await? {
                return self.append_farewell(channel, append, current).await;
            } else {
                return Err(Error::Fenced { fencing_token: current });
            }
        }
        Err(Error::Fenced { fencing_token: fencing_token.as_str().to_owned() })
    }

    /// Clients keep a stream token while their run sleeps, and go on with it under the lease that it woke with. Within one attempt
    /// no lease ends in another way.
    async fn has_only_slept(&self, caller: &Principal, claim: &RunClaim, lease: u64) -> Result<bool> {
        if !caller.writes_directly() || lease <= claim.lease {
            return Ok(false);
        }
        let run = self.ports.runs.get(&caller.environment, &claim.run).await?;
        Ok(run.is_some_and(|run| {
            let is_awake = run.status == RunStatus::Executing && run.lease.is_some_and(|held| held.number == lease);
            is_awake && run.attempt_lease <= claim.lease
        }))
    }

    /// A run that goes on, or that ended well. One that was canceled or crashed has nothing more to say.
    async fn may_say_farewell(&self, caller: &Principal, claim: &RunClaim) -> Result<bool> {
        let run = self.ports.runs.get(&caller.environment, &claim.run).await?;
        Ok(run.is_some_and(|run| run.is_alive() || run.status == RunStatus::CompletedSuccessfully))
    }

    /// A superseded run's last control records pass until its successor has written: at the tail that was checked, or not.
    async fn append_farewell(&self, channel: &ChannelKey, mut append: Append, current: String) -> Result<Appended> {
        let is_farewell = |r: &NewRecord| {
            r.headers.first().is_some_and(|h| {
                h.name == continuo_domain::channel::CONTROL_HEADER.as_bytes()
                    && FAREWELLS.iter().any(|f| h.value == f.as_bytes())
            })
        };
        let refusal = Error::Fenced { fencing_token: current };
        if !append.records.iter().all(is_farewell) || append.match_seq_num.is_some() {
            return Err(refusal);
        }
        // A repeat by part id compares records, so one with a part id stays as it came.
        if append.part_id.is_none() {
            append.records.iter_mut().for_each(|r| r.headers.push(Header::new(SUPERSEDED_HEADER, "true")));
        }
        for _ in 0..FENCE_ROUNDS_MAX {
            let tail = self.ports.channels.tail(channel).await?;
            let fence = Fence::of_token(&tail.fencing_token);
            if self.owner_has_written(channel, fence.version, tail.position.seq_num).await? {
                return Err(refusal);
            }
            let attempt = Append {
                fencing_token: Some(tail.fencing_token),
                match_seq_num: Some(tail.position.seq_num),
                ..append.clone()
            };
            match self.ports.channels.append(channel, attempt).await {
                Err(Error::SeqNumMismatch { .. } | Error::Fenced { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(refusal)
    }

    /// Has anything but commands and farewells been written since the fence of this version went up?
    async fn owner_has_written(&self, channel: &ChannelKey, version: u64, tail: u64) -> Result<bool> {
        let newest = self.walk_back(channel, tail, |record| match record.command() {
            Some(Command::Fence(token)) => {
                let fence = Fence::of_token(&token);
                fence.version < version || (fence.lease == 0 && !token.is_renewed())
            }
            Some(Command::Trim(_)) => false,
            None => record.header(SUPERSEDED_HEADER).is_none(),
        });
        Ok(newest.await?.is_some_and(|record| !record.is_command()))
    }

    async fn after_append(
        &self,
        caller: &Principal,
        session: &Session,
        channel: &ChannelKey,
        append: &Append,
        appended: Appended,
        boot: Boot,
    ) {
        if !channel.is_reserved() {
            return;
        }
        let first_data =
            append.records.iter().zip(appended.start.seq_num..).find(|(r, _)| matches!(r.command(), Ok(None)));
        if let Some((record, seq_num)) = first_data {
            self.drain(session, channel.direction, seq_num, record).await;
        }
        match channel.direction {
            Direction::In => self.boot_by_append(session, append, boot).await,
            Direction::Out => self.note_turns(caller, session, append).await,
        }
    }

    /// The record is durable; if no run lives to read it, one is started. A failure is made good when the session's run ends,
    /// with the next append, or by the sweeper.
    async fn boot_by_append(&self, session: &Session, append: &Append, boot: Boot) {
        let is_message = |r: &NewRecord| matches!(r.command(), Ok(None)) && boots(&r.body);
        if boot == Boot::Never || !append.records.iter().any(is_message) {
            return;
        }
        match self.reload_and_ensure(session, RunReason::Continuation).await {
            Ok(()) => {}
            Err(error @ (Error::SessionClosed { .. } | Error::SessionExpired | Error::BootBackoff { .. })) => {
                debug!(session.id = %session.id, error = %error, "input stays unread for now");
            }
            Err(error) => {
                warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "no run for new input yet");
                self.signals.owe_boot(&session.tenant.environment, &session.id);
            }
        }
    }

    /// A turn-complete tells how far its turn has read `.in`.
    async fn note_turns(&self, caller: &Principal, session: &Session, append: &Append) {
        for record in &append.records {
            let header = |name: &str| {
                let found = record.headers.iter().find(|h| h.name == name.as_bytes());
                found.and_then(|h| std::str::from_utf8(&h.value).ok())
            };
            if header(continuo_domain::channel::CONTROL_HEADER) != Some(TURN_COMPLETE) {
                continue;
            }
            let Some(read) = header("session-in-event-id").and_then(|n| n.parse::<u64>().ok()) else { continue };
            if let Err(error) = self.note_turn(caller, session, read.saturating_add(1)).await {
                warn!(session.id = %session.id, error = %error, "a read position is late");
            }
        }
    }

    /// The session has it for what is unread, the run for whether it got through its boot.
    async fn note_turn(&self, caller: &Principal, session: &Session, seq_num: u64) -> Result<()> {
        let now = self.now();
        let seq_num = self.below_tail(&session.id, Direction::In, seq_num).await?;
        let row = self.ports.sessions.note_boot(&session.id, BootEvent::Read(seq_num), now).await?;
        let (run, holder) = match caller.writer(&session.id) {
            Writer::Run(claim) => (Some(claim.run.clone()), Holder::Lease(claim.lease)),
            Writer::Key | Writer::Public => (row.current_run, Holder::Owner),
        };
        let Some(run) = run else { return Ok(()) };
        match self.ports.runs.apply(&caller.environment, &run, RunCommand::Read { holder, seq_num }, now).await {
            // Of a run that is over, or was never ours, there is nothing to note.
            Ok(_) | Err(Error::StaleSnapshot { .. } | Error::RunNotReady { .. } | Error::RunNotFound) => Ok(()),
            Err(other) => Err(other),
        }
    }
}
