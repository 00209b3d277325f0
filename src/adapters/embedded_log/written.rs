//! Which channels of a session were written.

use crate::frame::StreamId;
use crate::shared::{Shared, blocking};
use crate::stream::{Meta, Stream};
use continuo_domain::channel::ChannelKey;
use continuo_domain::{Error, Result, SessionId};
use continuo_ports::{WrittenChannel, WrittenPage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where what a stream holds is to be looked up.
enum Known {
    /// In memory, which may be ahead of the index, or alone.
    Hot(Arc<Stream>),
    Indexed(StreamId),
}

impl Shared {
    pub(crate) async fn written(
        self: &Arc<Self>,
        session: &SessionId,
        page: WrittenPage<'_>,
    ) -> Result<Vec<WrittenChannel>> {
        if self.is_stopped() {
            return Err(Error::Stopping);
        }
        let (shared, prefix) = (self.clone(), format!("{session}/"));
        let mut known = blocking(move || shared.channels_with_prefix(&prefix)).await?;
        known.retain(|channel, _| page.has(channel));
        let (shared, limit) = (self.clone(), page.limit);
        // No more of the index is read than the page needs.
        let looked_up = move || {
            let all = known.into_iter().map(|(channel, known)| shared.look_up(channel, &known));
            all.filter_map(Result::transpose).take(limit).collect()
        };
        blocking(looked_up).await
    }

    /// Memory first, then the index: a stream may move from the first to the second meanwhile, never back.
    fn channels_with_prefix(&self, prefix: &str) -> Result<BTreeMap<ChannelKey, Known>> {
        let hot = self.registry.with_prefix(prefix);
        let mut indexed = self.index.names_with_prefix(prefix)?;
        self.registry.retain_present(&mut indexed, |(_, id)| *id);
        let indexed = indexed.into_iter().map(|(name, id)| Ok((ChannelKey::parse(&name)?, Known::Indexed(id))));
        let hot = hot.into_iter().map(|stream| Ok((ChannelKey::parse(&stream.name)?, Known::Hot(stream))));
        // Of a stream that is in both, memory counts.
        indexed.chain(hot).collect()
    }

    /// `None` if nobody wrote to it, or it was deleted meanwhile.
    fn look_up(&self, channel: ChannelKey, known: &Known) -> Result<Option<WrittenChannel>> {
        let meta = match known {
            Known::Hot(stream) => {
                let state = stream.state.lock();
                (!state.deleted).then(|| state.meta.clone())
            }
            Known::Indexed(id) => self.index.stream(*id)?.map(|entry| entry.meta),
        };
        let written = |meta: Meta| WrittenChannel { channel, tail: meta.position(), earliest_seq_num: meta.earliest };
        Ok(meta.filter(|meta| meta.next_seq > 0).map(written))
    }
}
