//! Attach: write one side of a pair of channels and read the other. A client writes `.in` and reads `.out`; a run the
//! mirror image.

use crate::{ChannelRead, ChannelTarget, Core, Producer, ReadChannel};
use continuo_domain::channel::{ChannelName, Direction, ReadFrom, SeqNum};
use continuo_domain::principal::Principal;
use continuo_domain::run::{Holder, RunCommand};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result};
use continuo_ports::session_store::BootEvent;

/// What a caller attaches to.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Whose channels.
    pub session: SessionRef,
    /// `None` is the reserved pair.
    pub name: Option<ChannelName>,
    /// Where to begin on the other side.
    pub from: ReadFrom,
    /// A tail offset counts records that are not commands.
    pub skip_commands: bool,
    /// Time between heartbeats; 0 is the default.
    pub heartbeat_ms: u32,
}

/// Both sides, open.
pub struct Attached {
    /// The caller's side.
    pub producer: Producer,
    /// The other side.
    pub read: ChannelRead,
}

impl Core {
    /// Opens both sides. The session must exist.
    pub async fn attach(&self, caller: &Principal, request: Attach) -> Result<Attached> {
        let (own, other) = match caller.run() {
            Some(_) => (Direction::Out, Direction::In),
            None => (Direction::In, Direction::Out),
        };
        let Attach { session, name, from, skip_commands, heartbeat_ms } = request;
        let row = self.find_session(caller, &session).await?;
        if caller.run().is_some_and(|claim| claim.session.as_ref() != row.as_ref().map(|row| &row.id)) {
            // Also one that stands in for a key: what it reads here would count as read in its own session.
            return Err(Error::PermissionDenied);
        }
        let writes = ChannelTarget { session: session.clone(), name: name.clone(), direction: own };
        let producer = self.open_producer(caller, writes).await?;
        let channel = ChannelTarget { session, name, direction: other };
        let reads = ReadChannel { channel, from, skip_commands, idle_timeout_ms: 0, heartbeat_ms, peek_settled: false };
        let read = self.read_channel(caller, reads).await?;
        Ok(Attached { producer, read })
    }

    /// A run says that it has read its session's reserved `.in` below this number. From anybody else it means nothing.
    pub async fn note_read(&self, caller: &Principal, seq_num: SeqNum) -> Result<()> {
        let Some(claim) = caller.run() else { return Ok(()) };
        let Some(session) = &claim.session else { return Ok(()) };
        let seq_num = self.below_tail(session, Direction::In, seq_num).await?;
        let (now, holder) = (self.now(), Holder::Lease(claim.lease));
        self.ports.runs.apply(&caller.environment, &claim.run, RunCommand::Read { holder, seq_num }, now).await?;
        self.ports.sessions.note_boot(session, BootEvent::Read(seq_num), now).await?;
        Ok(())
    }
}
