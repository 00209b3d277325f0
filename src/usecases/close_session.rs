//! Close a session for good. A close is a position in the log: after `closed_at` is set, a fence on every channel decides
//! which appends came before it.

use crate::Core;
use crate::append_record::envelope;
use continuo_domain::channel::{Append, ChannelKey, Direction, Fence, NewRecord, PartId};
use continuo_domain::principal::{Action, Principal};
use continuo_domain::session::{CLOSE_REASON_CHARS_MAX, Session, SessionRef};
use continuo_domain::text::bounded;
use continuo_domain::{Error, Result, RunId};
use continuo_ports::session_store::Closed;
use tracing::info;

impl Core {
    /// The first close wins; every call returns its row, and only after the fences stand.
    pub async fn close_session(
        &self,
        caller: &Principal,
        asked: &SessionRef,
        reason: Option<String>,
        calling_run: Option<&RunId>,
    ) -> Result<Session> {
        if let Some(reason) = reason.as_deref().filter(|r| !r.is_empty()) {
            bounded("reason", reason, CLOSE_REASON_CHARS_MAX)?;
        }
        let session = self.session_for(caller, Action::Admin, asked).await?;
        let Closed { session, is_first } = self.ports.sessions.close(&session.id, reason, self.now()).await?;
        if is_first {
            info!(session.id = %session.id, "session closed");
        }
        if !session.close_finished {
            self.finish_close(&session, calling_run).await?;
        }
        Ok(session)
    }

    /// The part of a close that follows `closed_at`. Every step is idempotent, so a sweeper can take over half-way.
    pub(crate) async fn finish_close(&self, session: &Session, calling_run: Option<&RunId>) -> Result<()> {
        self.close_fences(session).await?;
        if self.live_run(session).await?.is_some_and(|run| Some(&run.spec.id) != calling_run) {
            self.wake_by_close(session).await?;
        }
        self.ports.sessions.finish_close(&session.id).await
    }

    /// The last record of `.in`, written past the closed fence. Its part id makes it one record however often it is tried.
    async fn wake_by_close(&self, session: &Session) -> Result<()> {
        let input = ChannelKey::reserved(session.id.clone(), Direction::In);
        let mut payload = serde_json::json!({ "chatId": session.addressing_key(), "trigger": "close" });
        if let Some(reason) = &session.closed_reason {
            payload["closedReason"] = reason.as_str().into();
        }
        let message = serde_json::json!({ "kind": "message", "payload": payload }).to_string();
        let part_id = format!("close:{}", session.id);
        let tail = self.ports.channels.tail(&input).await?;
        debug_assert!(Fence::of_token(&tail.fencing_token).closed);
        let record = NewRecord::data(envelope(&message, &part_id));
        let append = Append {
            fencing_token: Some(tail.fencing_token),
            part_id: Some(PartId::parse(&part_id)?),
            ..Append::one(record.clone())
        };
        match self.ports.channels.append(&input, append).await {
            Ok(appended) => {
                // Dropped, and so put down, after the drain.
                let _follow_up = self.follow_up(&input, appended.debt);
                self.drain(session, Direction::In, appended.start.seq_num, &record).await;
            }
            // It is there, in words from before a rename.
            Err(Error::PartIdReused { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
