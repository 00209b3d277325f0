//! Named channels keep their records only so long, where somebody said how long. What is too old is trimmed by a command in the
//! channel itself, so that every reader sees the same first record.

use crate::Core;
use continuo_domain::channel::{Append, ChannelKey, Direction, NewRecord, ReadFrom, ReadStart, SeqNum};
use continuo_domain::{Error, Result};
use tracing::warn;

const PAGE: u32 = 100;
/// How often a trim that races with appends looks at the tail again before it is left to the next sweep.
const ROUNDS_MAX: u32 = 16;

impl Core {
    /// Trims what is older than its channel keeps. Counts the channels.
    pub async fn sweep_ages(&self) -> Result<u64> {
        let default = self.settings.channel_max_age_seconds;
        let (mut after, mut trimmed) = (None, 0);
        loop {
            let page = self.ports.sessions.named_channels(default.is_none(), after.as_ref(), PAGE).await?;
            let Some(last) = page.last().cloned() else { return Ok(trimmed) };
            for channel in page {
                let Some(seconds) = channel.max_age_seconds.or(default) else { continue };
                for direction in [Direction::In, Direction::Out] {
                    let (session, name) = (channel.session.clone(), Some(channel.name.clone()));
                    trimmed += u64::from(self.trim_older(&ChannelKey { session, name, direction }, seconds).await);
                }
            }
            after = Some(last);
        }
    }

    /// One channel that fails must not keep the others.
    async fn trim_older(&self, channel: &ChannelKey, max_age_seconds: u64) -> bool {
        match self.try_trim_older(channel, max_age_seconds).await {
            Ok(is_trimmed) => is_trimmed,
            Err(error) => {
                warn!(channel = %channel, error = %error, cause = ?error.cause(), "old records wait for the next sweep");
                false
            }
        }
    }

    async fn try_trim_older(&self, channel: &ChannelKey, max_age_seconds: u64) -> Result<bool> {
        let oldest = self.now().minus_ms(max_age_seconds.saturating_mul(1_000));
        let from = ReadFrom { start: ReadStart::Timestamp(oldest), clamp: true };
        let (kept, mut tail) = self.ports.channels.read(channel, from).await?;
        let before = kept.first().map_or(tail.position.seq_num, |record| record.seq_num);
        if !self.has_data_below(channel, before).await? {
            return Ok(false);
        }
        for _ in 0..ROUNDS_MAX {
            // At the tail that was seen: a channel that went with its session must not come back.
            let match_seq_num = Some(tail.position.seq_num);
            let trim = Append { match_seq_num, ..Append::one(NewRecord::trim(before)) };
            match self.ports.channels.append(channel, trim).await {
                Ok(appended) => {
                    self.nothing_follows(&appended);
                    return Ok(true);
                }
                Err(Error::SeqNumMismatch { .. }) => tail = self.ports.channels.tail(channel).await?,
                Err(other) => return Err(other),
            }
            if tail.position.seq_num < before {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// A trim leaves its own record behind. Trimming that would go on for ever.
    async fn has_data_below(&self, channel: &ChannelKey, before: SeqNum) -> Result<bool> {
        let (records, _) = self.ports.channels.read(channel, ReadFrom::seq_num(0)).await?;
        Ok(records.iter().take_while(|record| record.seq_num < before).any(|record| !record.is_command()))
    }
}
