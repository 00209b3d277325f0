//! Check that a channel may be written, and hand out the credential for it.

use crate::{ChannelTarget, Core};
use continuo_domain::channel::{ChannelKey, Direction};
use continuo_domain::principal::{Principal, StreamClaim, StreamWriter, Writer};
use continuo_domain::{Error, Result, Timestamp, Violation};

/// Life of a stream token: 7 days. Clients keep it as long as their run lives and ask anew only after a write failed.
pub const STREAM_TOKEN_MS: u64 = 7 * 86_400_000;
/// Life of a stream token in the hands of the holder of a public token: 5 minutes.
pub const PUBLIC_STREAM_TOKEN_MS: u64 = 300_000;

/// Longest time a channel may be told to keep its records: 100 years.
pub const CHANNEL_MAX_AGE_SECONDS_MAX: u64 = 3_153_600_000;

/// Where and with what to write.
#[derive(Clone, Debug)]
pub struct InitializedChannel {
    /// The channel.
    pub channel: ChannelKey,
    /// Good for this channel alone.
    pub access_token: String,
    /// Its end.
    pub expires_at: Timestamp,
}

impl Core {
    /// The channel a writer may write. Refused once the session is closed, but for its run's output; the row must exist.
    pub async fn initialize_channel(
        &self,
        caller: &Principal,
        target: &ChannelTarget,
        max_age_seconds: Option<u64>,
    ) -> Result<InitializedChannel> {
        if caller.writes_directly() {
            // A credential that could renew itself would never end.
            return Err(Error::PermissionDenied);
        }
        let row = self.find_session(caller, &target.session).await?;
        Self::check_write(caller, target, row.as_ref())?;
        let session = row.ok_or(Error::SessionNotFound)?;
        let is_run = matches!(caller.writer(&session.id), Writer::Run(_));
        let is_open = match &target.name {
            // Its own run must be able to say its last words.
            None if target.direction == Direction::Out && is_run => true,
            None => session.closed_at.is_none(),
            Some(name) => self.ports.sessions.register_channel(&session.id, name).await?,
        };
        if !is_open {
            return Err(Error::SessionClosed { closed_reason: self.closed_reason(&session).await });
        }
        if let (Some(name), Some(seconds)) = (&target.name, max_age_seconds) {
            if !(1..=CHANNEL_MAX_AGE_SECONDS_MAX).contains(&seconds) {
                return Err(Violation::new("max_age_seconds", "must be 1 to 3153600000").into());
            }
            self.ports.sessions.set_max_age(&session.id, name, seconds).await?;
        }
        let (writer, life_ms) = match caller.writer(&session.id) {
            Writer::Key => (StreamWriter::Key, STREAM_TOKEN_MS),
            Writer::Run(claim) => (StreamWriter::Run(claim.clone()), STREAM_TOKEN_MS),
            Writer::Public => (StreamWriter::Public, PUBLIC_STREAM_TOKEN_MS),
        };
        let expires_at = self.now().plus_ms(life_ms);
        let claim = StreamClaim { channel: target.key(&session), writer };
        let access_token = self.ports.tokens.mint_stream(&caller.environment, &claim, expires_at).await?;
        Ok(InitializedChannel { channel: claim.channel, access_token, expires_at })
    }
}
