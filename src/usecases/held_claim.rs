//! The claim that was made for an append, until the log has it.

use continuo_domain::claim::Claimed;
use continuo_ports::ChannelStore;
use std::sync::Arc;

/// Given up on drop: an append may be refused, or its caller go away, at any step before the log.
pub(crate) struct HeldClaim {
    channels: Arc<dyn ChannelStore>,
    claimed: Option<Claimed>,
}

impl HeldClaim {
    pub(crate) fn new(channels: Arc<dyn ChannelStore>, claimed: Option<Claimed>) -> Self {
        Self { channels, claimed }
    }

    /// Of an append that lets its log make the claim.
    pub(crate) fn none(channels: &Arc<dyn ChannelStore>) -> Self {
        Self::new(channels.clone(), None)
    }

    /// The part id was free.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.claimed, Some(Claimed::Fresh(_)))
    }

    /// For the append that goes into the log now.
    pub(crate) fn take(&mut self) -> Option<Box<Claimed>> {
        self.claimed.take().map(Box::new)
    }

    /// No append will follow that it was made for. What somebody else claimed is not ours to give up.
    pub(crate) fn give_up(&mut self) {
        if let Some(claimed @ Claimed::Fresh(_)) = self.claimed.take() {
            self.channels.abandon(claimed);
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        self.give_up();
    }
}
