//! Delete a session with everything it has.

use crate::Core;
use continuo_domain::channel::{ChannelKey, Direction, SeqNum};
use continuo_domain::principal::{Action, Principal};
use continuo_domain::run::RunCommand;
use continuo_domain::session::SessionRef;
use continuo_domain::waitpoint::Completion;
use continuo_domain::{Result, SessionId};

impl Core {
    /// Closes first, so that nothing is written to it while it goes; then its run, its blobs, its channels, its row. What a crash
    /// leaves half done is a session that can be deleted again.
    pub async fn delete_session(&self, caller: &Principal, asked: &SessionRef) -> Result<()> {
        let session = self.session_for_key(caller, Action::Admin, asked).await?;
        let now = self.now();
        let closed = self.ports.sessions.close(&session.id, Some("deleted".into()), now).await?.session;
        self.close_fences(&closed).await?;
        if let Some(run) = self.live_run(&closed).await? {
            let command = RunCommand::Cancel { reason: "Its session was deleted".into() };
            let applied = self.ports.runs.apply(&run.spec.environment, &run.spec.id, command, now).await?;
            self.after_run_change(&applied).await;
        }
        self.end_waits(&session.id).await?;
        let environment = &session.tenant.environment;
        self.ports.blobs.delete_session(environment, &session.id).await?;
        self.ports.channels.delete(&session.id).await?;
        self.ports.sessions.delete(&session.id).await?;
        // A sweep of half done closes may have fenced a channel anew meanwhile, an upload may have ended; without a row no other comes.
        self.ports.channels.delete(&session.id).await?;
        self.ports.blobs.delete_session(environment, &session.id).await
    }

    /// A run of another session, or of none, that is suspended on a channel of this one must not sleep for ever.
    async fn end_waits(&self, session: &SessionId) -> Result<()> {
        for direction in [Direction::In, Direction::Out] {
            let channel = ChannelKey::reserved(session.clone(), direction);
            for waitpoint in self.ports.runs.open_waits(&channel, SeqNum::MAX).await? {
                self.complete(&waitpoint.id, Completion::session_deleted()).await?;
            }
        }
        Ok(())
    }
}
