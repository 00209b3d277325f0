//! Waits, hints and leases in Redis. All of it may be lost: an empty, slow or missing Redis costs latency and nothing else.
//!
//! No call takes longer than [`CALL_TIMEOUT`]; after one that failed, calls fail at once until a new connection stands, which
//! is made in the background.
#![warn(missing_docs)]

mod connection;
mod hints;
mod leases;
mod registry;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../../../tests/it/contract/hints.rs"]
mod hints_contract;
#[cfg(test)]
#[path = "../../../tests/it/contract/leases.rs"]
mod leases_contract;
#[cfg(test)]
#[path = "../../../tests/support/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "../../../tests/it/contract/waitpoint_registry.rs"]
mod waitpoint_registry_contract;

pub use connection::CALL_TIMEOUT;

use connection::Connection;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_ports::{Hints, Leases, WaitpointRegistry};
use std::fmt;
use std::sync::Arc;

/// Where Redis is and what of it is ours.
#[derive(Clone)]
pub struct Options {
    /// `redis://…`, or `rediss://…` for TLS with the system's roots. May hold a user, a password and a database number.
    pub url: String,
    /// In front of every key and of the channel. The replicas of one deployment share it; deployments that share a Redis do
    /// not.
    pub key_prefix: String,
}

/// The adapters of one replica, over one connection and another one for what it hears. Redis 6.2 or later.
pub struct Redis {
    connection: Arc<Connection>,
    key_prefix: String,
    /// Tells replicas apart: who sent a hint, who has a lease.
    replica: String,
}

impl Redis {
    /// Returns at once and connects in the background, within a Tokio runtime. Fails where the URL is none, not where Redis
    /// is away.
    pub fn connect(options: Options) -> Result<Self> {
        // The client takes the process's own, and there may be none yet; one that is there stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = redis::Client::open(options.url).map_err(|e| Error::Internal(Cause::new(e)))?;
        let random = getrandom::u64().map_err(|_| Error::internal("the operating system has no randomness"))?;
        let connection = Connection::open(client);
        Ok(Self { connection, key_prefix: options.key_prefix, replica: format!("{random:016x}") })
    }

    /// Who waits on which channel, known to every replica.
    pub fn registry(&self) -> Arc<dyn WaitpointRegistry> {
        Arc::new(registry::Registry::new(self.connection.clone(), &self.key_prefix))
    }

    /// Word to the other replicas.
    pub fn hints(&self) -> Arc<dyn Hints> {
        Arc::new(hints::RedisHints::new(self.connection.clone(), &self.key_prefix, &self.replica))
    }

    /// Who does what one replica is enough for.
    pub fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(leases::RedisLeases::new(self.connection.clone(), &self.key_prefix, &self.replica))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis(..)")
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Options").field("key_prefix", &self.key_prefix).finish_non_exhaustive()
    }
}
