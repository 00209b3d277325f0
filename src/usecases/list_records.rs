//! Everything a channel holds, without waiting.

use crate::{ChannelTarget, Core};
use continuo_domain::channel::{ReadFrom, Record, SeqNum};
use continuo_domain::principal::Principal;
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result};
use futures_util::stream::{self, BoxStream, StreamExt};

impl Core {
    /// The records from `from` to the tail at the time of the call, a batch at a time, commands left out. A name that has no
    /// session yet has no records.
    pub async fn list_records(
        &self,
        caller: &Principal,
        target: &ChannelTarget,
        from: SeqNum,
    ) -> Result<BoxStream<'static, Result<Vec<Record>>>> {
        let row = self.find_session(caller, &target.session).await?;
        Self::check_read(caller, target, row.as_ref())?;
        let session = match (row, &target.session) {
            (Some(session), _) => session,
            (None, SessionRef::External(_)) => return Ok(stream::empty().boxed()),
            (None, SessionRef::Id(_)) => return Err(Error::SessionNotFound),
        };
        let channel = target.key(&session);
        let end = self.ports.channels.tail(&channel).await?.position.seq_num;
        let core = self.clone();
        let batches = stream::try_unfold(from, move |next| {
            let (core, channel) = (core.clone(), channel.clone());
            async move {
                if next >= end {
                    return Ok(None);
                }
                let (mut records, _) = core.ports.channels.read(&channel, ReadFrom::seq_num(next)).await?;
                records.retain(|r| r.seq_num < end);
                let Some(last) = records.last().map(|r| r.seq_num) else { return Ok(None) };
                records.retain(|r| !r.is_command());
                Ok(Some((records, last + 1)))
            }
        });
        Ok(batches.boxed())
    }
}
