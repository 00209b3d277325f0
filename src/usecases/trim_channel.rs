//! Trim a channel, look at its end.

use crate::access::is_secret_for;
use crate::{AppendRequest, Boot, ChannelTarget, Core};
use continuo_domain::channel::{Append, NewRecord, Position, SeqNum, Tail};
use continuo_domain::principal::Principal;
use continuo_domain::{Error, Result};

impl Core {
    /// Appends the trim command, under the same fences as any record.
    pub async fn trim(&self, caller: &Principal, channel: ChannelTarget, before: SeqNum) -> Result<Position> {
        let append = Append::one(NewRecord::trim(before));
        let (found, held) = self.probe(caller, &channel, Some(&append)).await?;
        let row = found.as_ref().map(|found| &found.session);
        Self::check_write(caller, &channel, row)?;
        if !is_secret_for(caller, row) {
            return Err(Error::PermissionDenied);
        }
        let mut found = found.ok_or(Error::SessionNotFound)?;
        let request = AppendRequest { channel, append, boot: Boot::Never };
        Ok(self.append_to(caller, &mut found, request, held).await?.start)
    }

    /// The end of a channel.
    pub async fn check_tail(&self, caller: &Principal, channel: &ChannelTarget) -> Result<Tail> {
        let row = self.find_session(caller, &channel.session).await?;
        Self::check_read(caller, channel, row.as_ref())?;
        let session = row.ok_or(Error::SessionNotFound)?;
        self.ports.channels.tail(&channel.key(&session)).await
    }
}
