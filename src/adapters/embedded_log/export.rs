//! What whoever moves the log elsewhere asks for, beside the port's own reads.

use crate::log::EmbeddedLog;
use crate::shared::blocking;
use continuo_domain::Result;
use continuo_domain::channel::{ChannelKey, PartId, SeqNum};

impl EmbeddedLog {
    /// Every channel somebody wrote to, sorted by name. As of the call.
    pub async fn channels(&self) -> Result<Vec<ChannelKey>> {
        let shared = self.shared().clone();
        let names = blocking(move || {
            shared.index_everything()?;
            shared.index.stream_names()
        });
        names.await?.iter().map(|name| ChannelKey::parse(name)).collect()
    }

    /// The part ids of a channel's records that were not trimmed, by the numbers they stand at. As of `channels`.
    pub async fn part_ids(&self, channel: &ChannelKey) -> Result<Vec<(PartId, SeqNum)>> {
        let (shared, name) = (self.shared().clone(), channel.to_string());
        blocking(move || {
            let Some((id, entry)) = shared.index.stream_by_name(&name)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            for part_id in shared.index.part_ids(id)? {
                let seq_num = shared.index.part(id, &part_id)?;
                if let Some(seq_num) = seq_num.filter(|&seq_num| seq_num >= entry.meta.earliest) {
                    found.push((PartId::parse(&part_id)?, seq_num));
                }
            }
            found.sort_by_key(|(_, seq_num)| *seq_num);
            Ok(found)
        })
        .await
    }
}
