//! Check that a channel may be written.

use crate::{ChannelTarget, Core};
use continuo_domain::channel::ChannelKey;
use continuo_domain::principal::Principal;
use continuo_domain::{Error, Result};

impl Core {
    /// The channel a writer may write. Refused once the session is closed; the row must exist.
    pub async fn initialize_channel(&self, caller: &Principal, target: &ChannelTarget) -> Result<ChannelKey> {
        let row = self.find_session(caller, &target.session).await?;
        Self::check_write(caller, target, row.as_ref())?;
        let session = row.ok_or(Error::SessionNotFound)?;
        let is_open = match &target.name {
            None => session.closed_at.is_none(),
            Some(name) => self.ports.sessions.register_channel(&session.id, name).await?,
        };
        if is_open {
            Ok(target.key(&session))
        } else {
            Err(Error::SessionClosed { closed_reason: self.closed_reason(&session).await })
        }
    }
}
