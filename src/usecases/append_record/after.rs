//! What an append brings about: whoever waits for it is woken, and a run made sure of.

use crate::body::boots;
use crate::follow_up::FollowUp;
use crate::{Boot, Core};
use continuo_domain::channel::{Append, Appended, CONTROL_HEADER, ChannelKey, Direction, NewRecord, TURN_COMPLETE};
use continuo_domain::principal::{Principal, Writer};
use continuo_domain::run::{Holder, RunCommand, RunReason};
use continuo_domain::session::Session;
use continuo_domain::{Error, Result};
use continuo_ports::session_store::{BootEvent, Probe};
use tracing::{debug, warn};

impl Core {
    /// What must have happened when the caller gets its answer; the rest is left to the follow-up, which also takes what does
    /// not come to its end here: the caller may go away at any moment, and the record is durable.
    pub(super) async fn after_append(
        &self,
        caller: &Principal,
        found: &mut Probe,
        channel: &ChannelKey,
        append: &Append,
        appended: Appended,
        boot: Boot,
    ) {
        let is_message = |r: &NewRecord| matches!(r.command(), Ok(None)) && boots(&r.body);
        let is_input = channel.is_reserved() && channel.direction == Direction::In;
        let mut follow_up = self.follow_up(channel, appended.debt);
        let mut data = append.records.iter().zip(appended.start.seq_num..);
        let Some((record, seq_num)) = data.find(|(r, _)| matches!(r.command(), Ok(None))) else {
            follow_up.nobody_waits();
            return;
        };
        follow_up.wants_run(is_input && boot == Boot::Default && append.records.iter().any(is_message));
        if !channel.is_reserved() {
            return;
        }
        self.drain(&found.session, channel.direction, seq_num, record).await;
        if !is_input {
            return self.note_turns(caller, &found.session, append).await;
        }
        if follow_up.is_run_wanted() && !found.is_run_alive {
            self.boot_by_append(found, &mut follow_up).await;
        }
    }

    /// No run lived when the append began, so one is started before its caller hears of it. A failure is made good by the
    /// follow-up, when the session's run ends, with the next append, or by the sweeper.
    async fn boot_by_append(&self, found: &mut Probe, follow_up: &mut FollowUp) {
        let session = &found.session;
        match self.reload_and_ensure(session, RunReason::Continuation).await {
            Ok(()) => {
                found.is_run_alive = true;
                follow_up.wants_run(false);
            }
            Err(error @ (Error::SessionClosed { .. } | Error::SessionExpired | Error::BootBackoff { .. })) => {
                debug!(session.id = %session.id, error = %error, "input stays unread for now");
                follow_up.wants_run(false);
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
            if header(CONTROL_HEADER) != Some(TURN_COMPLETE) {
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
