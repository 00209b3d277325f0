//! Who does the work that one replica is enough for, as a hint: fast, and allowed to be wrong.

use async_trait::async_trait;
use continuo_domain::Result;
use std::time::Duration;

/// Leases by name. They spare work and decide nothing: everything that is done under one is also right when two do it.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes the lease, or renews it if this replica has it. True for at most one replica at a time while the store of
    /// leases works; where it does not, an error, and the caller goes on as if it had the lease. A replica that stops
    /// renewing has lost it after `ttl`, or after what the adapter names in its place.
    async fn hold(&self, name: &'static str, ttl: Duration) -> Result<bool>;

    /// Gives back every lease of this replica, so that another one need not wait for their end.
    async fn release_all(&self);
}
