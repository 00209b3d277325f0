//! Wait for a session to come into being: a subscriber may know its name first.

use crate::Core;
use continuo_domain::Result;
use continuo_domain::principal::Principal;
use continuo_domain::session::{Session, SessionRef};
use std::time::Duration;

/// How long a lost hint can delay a subscriber.
const CLOCK: Duration = Duration::from_secs(1);

impl Core {
    /// The row, as soon as it exists. By the hint of its creation, and by the clock.
    pub(crate) async fn session_arrives(&self, caller: &Principal, asked: &SessionRef) -> Result<Session> {
        loop {
            let arrival = self.signals.session_arrival(&caller.environment, asked.as_str());
            let hint = arrival.notified();
            tokio::pin!(hint);
            // Listening begins before the look, so that a creation between the two is not missed.
            hint.as_mut().enable();
            if let Some(session) = self.find_session(caller, asked).await? {
                return Ok(session);
            }
            tokio::select! {
                () = hint => {}
                () = tokio::time::sleep(CLOCK) => {}
            }
        }
    }
}
