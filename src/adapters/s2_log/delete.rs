//! Deleting a session's streams.

use crate::log::Inner;
use crate::refusal::{of_request, unavailable};
use continuo_domain::{Error, Result, SessionId};
use futures_util::StreamExt;
use s2_sdk::types::{DeleteStreamInput, ListAllStreamsInput};

impl Inner {
    /// By name, so that streams are found which this process never used. S2 acknowledges once nobody can read or write them
    /// any more; their records go in its own time, and until then a name that is used again is waited for.
    pub(crate) async fn delete(&self, session: &SessionId) -> Result<()> {
        let Some(name) = self.basin_of(session).await? else {
            // Deleted before, by whichever process.
            self.forget(session);
            return self.claims.forget(session).await;
        };
        let basin = self.common.s2.basin(name);
        let prefix = format!("{session}/").parse().map_err(Error::internal)?;
        let mut streams = basin.list_all_streams(ListAllStreamsInput::new().with_prefix(prefix));
        while let Some(stream) = streams.next().await {
            let Some(stream) = of_request(stream)? else { break };
            let gone = DeleteStreamInput::new(stream.name).with_ignore_not_found(true);
            basin.delete_stream(gone).await.or_else(|error| match crate::refusal::is_missing(&error) {
                true => Ok(()),
                false => Err(unavailable(error)),
            })?;
        }
        self.claims.forget(session).await?;
        self.forget(session);
        Ok(())
    }
}
