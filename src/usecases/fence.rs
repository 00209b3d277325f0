//! Fences: who owns a channel, written into the channel itself, so that the log decides and not a flag that races.

use crate::Core;
use continuo_domain::channel::{Append, ChannelKey, Direction, Fence, FencingToken, NewRecord};
use continuo_domain::session::Session;
use continuo_domain::{Error, Result, SessionId};

impl Core {
    /// Raises the fence of the reserved `.out` to the owner (version, lease). Returns the fence in force: this one, or a
    /// higher one that stood already.
    pub(crate) async fn raise_fence(&self, session: &SessionId, version: u64, lease: u64) -> Result<Fence> {
        let out = ChannelKey::reserved(session.clone(), Direction::Out);
        if lease > 0 {
            // A claim stands in the log in any case, also if the claimer did not get to it: settled reads look for it.
            self.move_fence(&out, |fence| fence.raised_to(version, 0)).await?;
        }
        self.move_fence(&out, |fence| fence.raised_to(version, lease)).await
    }

    /// The fence of a session's first claim. Nothing stands on its `.out` but what a key may have written, so there is no look at
    /// what is in force.
    pub(crate) async fn raise_first_fence(&self, session: &SessionId) -> Result<Fence> {
        let out = ChannelKey::reserved(session.clone(), Direction::Out);
        self.move_fence_from(&out, FencingToken::default(), |fence| fence.raised_to(1, 0)).await
    }

    /// Puts the closed mark on every channel of the session. Idempotent. From then on no brokered append is accepted.
    pub(crate) async fn close_fences(&self, session: &Session) -> Result<()> {
        let mut channels = vec![ChannelKey::reserved(session.id.clone(), Direction::In)];
        for name in self.ports.sessions.channels(&session.id).await? {
            for direction in [Direction::In, Direction::Out] {
                channels.push(ChannelKey { session: session.id.clone(), name: Some(name.clone()), direction });
            }
        }
        channels.push(ChannelKey::reserved(session.id.clone(), Direction::Out));
        let closed = |fence: Fence| (!fence.closed).then_some(Fence { closed: true, ..fence });
        for channel in &channels {
            self.move_fence(channel, closed).await?;
        }
        Ok(())
    }

    /// Compare-and-set on the fencing token: each step names the token it saw, so a slower raise never undoes a faster one.
    async fn move_fence(&self, channel: &ChannelKey, next: impl Fn(Fence) -> Option<Fence>) -> Result<Fence> {
        let seen = self.ports.channels.tail(channel).await?.fencing_token;
        self.move_fence_from(channel, seen, next).await
    }

    async fn move_fence_from(
        &self,
        channel: &ChannelKey,
        mut seen: FencingToken,
        next: impl Fn(Fence) -> Option<Fence>,
    ) -> Result<Fence> {
        loop {
            let fence = Fence::of_token(&seen);
            let Some(raised) = next(fence) else { return Ok(fence) };
            let command = NewRecord::fence(&raised.to_token());
            let append = Append { fencing_token: Some(seen), ..Append::one(command) };
            match self.ports.channels.append(channel, append).await {
                Ok(appended) => {
                    self.nothing_follows(&appended);
                    return Ok(raised);
                }
                Err(Error::Fenced { .. }) => seen = self.ports.channels.tail(channel).await?.fencing_token,
                Err(other) => return Err(other),
            }
        }
    }
}
