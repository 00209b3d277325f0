//! Append to a channel: authorize, let the log decide who may write, then wake whoever waits.
//!
//! Where a run lives, the one look at the database is all there is of it before the answer.

mod after;
mod owned;

use crate::body::without_webhook_mark;
use crate::held_claim::HeldClaim;
use crate::{ChannelTarget, Core};
use bytes::Bytes;
use continuo_domain::channel::{
    Append, Appended, ChannelKey, Command, Direction, Fence, FencingToken, NewRecord, PartId,
};
use continuo_domain::principal::{Principal, RunClaim, Writer};
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{Error, Result, Violation};
use continuo_ports::session_store::Probe;

/// How often an append that races with a moving fence looks again before it gives up.
const FENCE_ROUNDS_MAX: u32 = 16;

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
        let (found, held) = self.probe(caller, &request.channel, Some(&request.append)).await?;
        Self::check_write(caller, &request.channel, found.as_ref().map(|found| &found.session))?;
        let mut found = found.ok_or(Error::SessionNotFound)?;
        self.append_to(caller, &mut found, request, held).await
    }

    /// What an append needs to know of its session, and the claim that its log wants, in one look. Says nothing about rights.
    pub(crate) async fn probe(
        &self,
        caller: &Principal,
        target: &ChannelTarget,
        append: Option<&Append>,
    ) -> Result<(Option<Probe>, HeldClaim)> {
        let ChannelTarget { session, name, direction } = target;
        let channels = &self.ports.channels;
        let claim = append.and_then(|append| {
            let guess = self.names.guess(&caller.environment, session);
            channels.claim(guess.as_ref(), name.as_ref(), *direction, append, self.now())
        });
        let is_claimed = claim.is_some();
        let mut found = self.ports.sessions.probe(&caller.environment, session, claim).await?;
        let claimed = found.as_mut().and_then(|found| found.claimed.take());
        if let Some(found) = found.as_ref().filter(|_| is_claimed) {
            self.names.learn(session, &found.session);
        }
        Ok((found, HeldClaim::new(channels.clone(), claimed)))
    }

    /// As `append`, once the caller is known to have the right: what a stream of appends does for each. Notes in `found` the
    /// run that it made sure of.
    pub(crate) async fn append_to(
        &self,
        caller: &Principal,
        found: &mut Probe,
        request: AppendRequest,
        mut held: HeldClaim,
    ) -> Result<Appended> {
        let (session, held) = (&found.session, &mut held);
        let channel = request.channel.key(session);
        let append = self.prepare(caller, &channel, request.append, held)?;
        let is_output = channel.is_reserved() && channel.direction == Direction::Out;
        let appended = match caller.writer(&session.id) {
            Writer::Run(claim) if is_output => self.append_as_run(caller, &channel, claim, append.clone(), held).await,
            Writer::Key if is_output && caller.writes_directly() => {
                self.append_unowned(session, &channel, append.clone(), Close::Passes, held).await
            }
            Writer::Run(claim) => {
                self.check_alive(caller, claim).await?;
                self.append_brokered(session, &channel, append.clone(), held).await
            }
            Writer::Key | Writer::Public => self.append_brokered(session, &channel, append.clone(), held).await,
        }?;
        self.after_append(caller, found, &channel, &append, appended, request.boot).await;
        Ok(appended)
    }

    /// Hands an append to the log, with the claim that was made for it. From here on the claim is the log's, which gives it up
    /// where it refuses; a further try asks for its own.
    async fn write(&self, channel: &ChannelKey, append: Append, held: &mut HeldClaim) -> Result<Appended> {
        self.ports.channels.append(channel, Append { claimed: held.take(), ..append }).await
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
    fn prepare(
        &self,
        caller: &Principal,
        channel: &ChannelKey,
        mut append: Append,
        held: &mut HeldClaim,
    ) -> Result<Append> {
        let is_command = |record: &NewRecord| matches!(record.command(), Ok(Some(_)));
        if append.records.iter().any(|r| matches!(r.command(), Ok(Some(Command::Fence(_))))) {
            return Err(Violation::new("records", "holds a fence command; fences are set by the server").into());
        }
        if append.part_id.as_ref().is_some_and(PartId::is_servers) {
            return Err(
                Violation::new("part_id", "may not begin with close: or server:, which are the server's own").into()
            );
        }
        let has_condition = append.match_seq_num.is_some() || append.fencing_token.is_some();
        if caller.writer(&channel.session) == Writer::Public && (has_condition || append.records.iter().any(is_command))
        {
            return Err(Error::ConditionNeedsSecretKey);
        }
        if caller.writer(&channel.session) != Writer::Key && channel.is_reserved() && channel.direction == Direction::In
        {
            for record in &mut append.records {
                if let Some(body) = without_webhook_mark(&record.body) {
                    record.body = body;
                    // It was for another record.
                    held.give_up();
                }
            }
        }
        Ok(append)
    }

    /// The path of everybody but a run on its own `.out`: refused once the session is closed or expired, and if a close
    /// comes between, the closed fence in the log refuses it.
    async fn append_brokered(
        &self,
        session: &Session,
        channel: &ChannelKey,
        append: Append,
        held: &mut HeldClaim,
    ) -> Result<Appended> {
        if let Err(refusal) = session.check_open(self.now()) {
            return self.repeat_or(refusal, channel, append, held).await;
        }
        if let Some(name) = &channel.name
            && !self.ports.sessions.register_channel(&session.id, name).await?
        {
            let closed_reason = self.closed_reason(session).await;
            return self.repeat_or(Error::SessionClosed { closed_reason }, channel, append, held).await;
        }
        self.append_unowned(session, channel, append, Close::Refuses, held).await
    }

    /// Under whatever fencing token is in force, unless the caller names one.
    async fn append_unowned(
        &self,
        session: &Session,
        channel: &ChannelKey,
        append: Append,
        close: Close,
        held: &mut HeldClaim,
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
                return self.repeat_or(Error::SessionClosed { closed_reason }, channel, append, held).await;
            }
            let fencing_token = Some(own_token.clone().unwrap_or(seen));
            match self.write(channel, Append { fencing_token, ..append.clone() }, held).await {
                Err(Error::Fenced { .. }) if own_token.is_none() => {}
                outcome => return outcome,
            }
        }
        Err(Error::LimitExceeded { what: "the channel's owner keeps changing, which", retry_after_ms: 100 })
    }

    /// As `Session::check_open`, on the row as it is now.
    async fn check_still_open(&self, session: &Session) -> Result<()> {
        let asked = SessionRef::Id(session.id.clone());
        let row = self.ports.sessions.get(&session.tenant.environment, &asked).await?;
        row.ok_or(Error::SessionNotFound)?.check_open(self.now())
    }

    /// A part id that was stored before the refusal has its outcome still. The token is one that is never in force, so that a
    /// record that was trimmed away meanwhile is not written again.
    async fn repeat_or(
        &self,
        refusal: Error,
        channel: &ChannelKey,
        append: Append,
        held: &mut HeldClaim,
    ) -> Result<Appended> {
        let Some(part_id) = &append.part_id else { return Err(refusal) };
        // A part id that was free until now was never stored. Its claim must not be found by the look for one that was.
        if held.is_fresh() {
            return Err(refusal);
        }
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
        let asked = SessionRef::Id(session.id.clone());
        let row = self.ports.sessions.get(&session.tenant.environment, &asked).await;
        row.ok().flatten().and_then(|row| row.closed_reason)
    }
}
