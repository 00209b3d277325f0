//! Nobody to share with.

use async_trait::async_trait;
use continuo_domain::Result;
use continuo_ports::Leases;
use std::time::Duration;

/// The leases of a replica that is alone: it has all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryLease;

#[async_trait]
impl Leases for EveryLease {
    async fn hold(&self, _name: &'static str, _ttl: Duration) -> Result<bool> {
        Ok(true)
    }

    async fn release_all(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_whatever_it_asks_for_also_after_giving_it_back() {
        assert!(EveryLease.hold("a", Duration::ZERO).await.unwrap());
        EveryLease.release_all().await;
        assert!(EveryLease.hold("a", Duration::ZERO).await.unwrap());
    }
}
