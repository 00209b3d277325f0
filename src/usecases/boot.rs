//! What follows when a run changes or ends. No accepted input goes unread: when a session's run is over and messages lie past
//! what was read, a continuation boots, once per tail position, with backoff while boots crash.

use crate::Core;
use crate::body::{asks_to_end, boots};
use continuo_domain::channel::{ChannelKey, Direction, ReadFrom, SeqNum};
use continuo_domain::run::{CLAIM_ROUNDS_MAX, Run, RunReason, RunStatus};
use continuo_domain::session::{BOOT_FAILURES_MAX, Session, SessionRef, SessionStatus};
use continuo_domain::{EnvironmentId, Error, Result, SessionId};
use continuo_ports::run_store::Applied;
use continuo_ports::session_store::{BootEvent, Claim};
use tracing::{error, info, warn};

impl Core {
    /// Tells everybody whom a change of a run concerns. What fails here is logged and made good by the sweeper.
    pub(crate) async fn after_run_change(&self, applied: &Applied) {
        for one in std::iter::once(applied).chain(&applied.others) {
            self.after_one_change(one).await;
        }
    }

    async fn after_one_change(&self, applied: &Applied) {
        let Applied { run, change, others: _ } = applied;
        if change.is_noop {
            return;
        }
        self.signals.timers_changed();
        if change.ended_lease.is_some() || run.stop_by.is_some() {
            self.signals.run_changed(&run.spec.id);
        }
        if run.available_at.is_some() || change.ended_lease.is_some() {
            self.signals.work_changed(&run.spec.environment);
        }
        if run.is_alive() || change.was.is_terminal() {
            return;
        }
        info!(run.id = %run.spec.id, run.status = run.status.public(), "run ended");
        if let Some(session) = &run.spec.session
            && let Err(error) = self.after_session_run(session, run).await
        {
            warn!(session.id = %session, error = %error, cause = ?error.cause(), "the end of a run is not settled yet");
            self.owe_boot(&run.spec.environment, session).await;
        }
    }

    async fn after_session_run(&self, session: &SessionId, run: &Run) -> Result<()> {
        let asked = SessionRef::Id(session.clone());
        if self.ports.sessions.get(&run.spec.environment, &asked).await?.is_none() {
            // A fence would make a channel of a deleted session anew, and nothing would take it away again.
            return Ok(());
        }
        // From here on nothing it still sends is taken.
        self.raise_fence(session, run.session_version, run.snapshot).await?;
        let crashed = matches!(
            run.status,
            RunStatus::Crashed | RunStatus::CompletedWithErrors | RunStatus::SystemFailure | RunStatus::TimedOut
        );
        if crashed && run.read_seq_num == 0 {
            let error = run.error.as_ref().map_or_else(|| run.status.public().to_owned(), |e| e.message.clone());
            let event = BootEvent::Failed { run: run.spec.id.clone(), error: error.clone() };
            let row = self.ports.sessions.note_boot(session, event, self.now()).await?;
            if row.boot.failures == BOOT_FAILURES_MAX && row.current_run.as_ref() == Some(&run.spec.id) {
                error!(session.id = %session, reason = error, "boots keep crashing; the session waits for new input");
            }
        }
        self.boot_for_unread(&run.spec.environment, session).await
    }

    /// A look at what is unread that failed: this replica tries it again, and the row tells whoever is there when this one is not.
    pub(crate) async fn owe_boot(&self, environment: &EnvironmentId, session: &SessionId) {
        self.signals.owe_boot(environment, session);
        if let Err(error) = self.ports.sessions.note_boot(session, BootEvent::Owed, self.now()).await {
            warn!(session.id = %session, error = %error, cause = ?error.cause(), "only this replica knows of an owed boot");
        }
    }

    /// Boots a continuation if the session's run is over and a message of `.in` is unread. Whoever loses the claim looks
    /// again: the winner's run may be over by then, and have read everything.
    pub(crate) async fn boot_for_unread(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()> {
        let asked = SessionRef::Id(session.clone());
        for _ in 0..CLAIM_ROUNDS_MAX {
            let Some(session) = self.ports.sessions.get(environment, &asked).await? else { return Ok(()) };
            let Some(tail) = self.tail_to_boot_for(&session).await? else { return Ok(()) };
            match self.claim(&session, RunReason::Continuation, None).await? {
                Claim::Won { session, .. } => {
                    let event = BootEvent::BootedFor(tail);
                    return self.ports.sessions.note_boot(&session.id, event, self.now()).await.map(drop);
                }
                Claim::Lost(_) => {}
            }
        }
        Err(Error::RunNotClaimed)
    }

    /// The tail of `.in`, if a continuation is to boot for it now.
    async fn tail_to_boot_for(&self, session: &Session) -> Result<Option<SeqNum>> {
        let now = self.now();
        if session.status(now) != SessionStatus::Active || self.live_run(session).await?.is_some() {
            return Ok(None);
        }
        let Some(tail) = self.unread_tail(session).await? else { return Ok(None) };
        if session.boot.failures >= BOOT_FAILURES_MAX && session.boot.booted_tail_seq_num >= tail {
            return Ok(None);
        }
        if session.boot.booted_tail_seq_num == tail && session.boot.failures == 0 {
            return Ok(None);
        }
        if session.boot.wait_ms(now).is_some() {
            self.signals.timers_changed();
            return Ok(None);
        }
        Ok(Some(tail))
    }

    /// The tail of `.in`, if there is a message below it that no run has read.
    async fn unread_tail(&self, session: &Session) -> Result<Option<SeqNum>> {
        let input = ChannelKey::reserved(session.id.clone(), Direction::In);
        let tail = self.ports.channels.tail(&input).await?.position.seq_num;
        let mut next = session.boot.read_seq_num;
        while next < tail {
            let (records, _) = self.ports.channels.read(&input, ReadFrom::seq_num(next)).await?;
            let Some(last) = records.last().map(|r| r.seq_num) else { break };
            if records.iter().any(|r| !r.is_command() && boots(&r.body) && !asks_to_end(&r.body)) {
                return Ok(Some(tail));
            }
            next = last + 1;
        }
        Ok(None)
    }

    /// The number, or the channel's tail if it lies beyond: what a caller says it has read may be wrong.
    pub(crate) async fn below_tail(
        &self,
        session: &SessionId,
        direction: Direction,
        seq_num: SeqNum,
    ) -> Result<SeqNum> {
        let channel = ChannelKey::reserved(session.clone(), direction);
        Ok(seq_num.min(self.ports.channels.tail(&channel).await?.position.seq_num))
    }

    /// Looks at the row as it is now and makes sure of a run.
    pub(crate) async fn reload_and_ensure(&self, session: &Session, reason: RunReason) -> Result<()> {
        let asked = SessionRef::Id(session.id.clone());
        let row = self.ports.sessions.get(&session.tenant.environment, &asked).await?.ok_or(Error::SessionNotFound)?;
        self.ensure_run(row, reason).await.map(drop)
    }
}
