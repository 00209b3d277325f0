//! Which channels of a session were written.

use crate::log::Inner;
use crate::refusal::of_request;
use crate::stream::Stream;
use continuo_domain::channel::ChannelKey;
use continuo_domain::{Error, Result, SessionId};
use continuo_ports::{WrittenChannel, WrittenPage};
use futures_util::{StreamExt, TryStreamExt, stream};
use s2_sdk::types::{BasinName, ListAllStreamsInput};
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many streams are asked at once for what they hold.
const LOOK_UPS_AT_ONCE: usize = 16;

impl Inner {
    pub(crate) async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>> {
        if self.common.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let basin = self.basin_of(session).await?.ok_or(Error::SessionNotFound)?;
        let mut channels = self.channels_of(session, &basin).await?;
        channels.retain(|channel| page.has(channel));
        let look_ups = stream::iter(channels).map(|channel| self.look_up(channel, &basin)).buffered(LOOK_UPS_AT_ONCE);
        look_ups.try_filter_map(async |written| Ok(written)).take(page.limit).try_collect().await
    }

    /// All names, of whatever page: S2 sorts `a-b/in` before `a/in`, which is not the order of the names. It sends a thousand
    /// at a time, where each of a page costs two requests.
    async fn channels_of(&self, session: &SessionId, basin: &BasinName) -> Result<BTreeSet<ChannelKey>> {
        let prefix = format!("{session}/").parse().map_err(Error::internal)?;
        let input = ListAllStreamsInput::new().with_prefix(prefix);
        let mut streams = self.common.s2.basin(basin.clone()).list_all_streams(input);
        let mut channels = BTreeSet::new();
        while let Some(stream) = streams.next().await {
            // A basin is made with the first stream in it.
            let Some(stream) = of_request(stream)? else { break };
            channels.extend(ChannelKey::parse(&stream.name));
        }
        Ok(channels)
    }

    /// Two requests, of which one brings the first record, body and all: S2 tells in no other way where a stream begins.
    /// `None` if nobody wrote to it: a stream is made before its first record, and stays if that is refused.
    async fn look_up(&self, channel: ChannelKey, basin: &BasinName) -> Result<Option<WrittenChannel>> {
        let stream = match self.remembered(&channel) {
            Some(stream) => stream,
            // Not worth remembering, of all that are asked in passing.
            None => Arc::new(Stream::new(channel.clone(), basin.clone(), self.common.clone())?),
        };
        let (tail, earliest) = tokio::try_join!(stream.check_tail(), stream.earliest())?;
        let (Some(tail), Some(earliest)) = (tail, earliest) else { return Ok(None) };
        let written = WrittenChannel { channel, tail, earliest_seq_num: earliest.min(tail.seq_num) };
        Ok((tail.seq_num > 0).then_some(written))
    }
}
