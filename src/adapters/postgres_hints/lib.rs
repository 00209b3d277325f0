//! Hints and leases over one Postgres connection, for deployments without Redis.
//!
//! The connection listens, notifies and holds advisory locks, so it must be one session of the server's: not through a pooler
//! that hands out transactions.
#![warn(missing_docs)]

mod hints;
mod leases;
mod session;

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

use continuo_domain::{Error, Result};
use continuo_ports::{Hints, Leases};
use continuo_postgres_link::Link;
use session::Session;
use std::fmt;
use std::sync::Arc;

/// Longest name Postgres has for anything.
const CHANNEL_BYTES_MAX: usize = 63;

/// Which Postgres, and under which name.
#[derive(Clone)]
pub struct Options {
    /// `postgres://…` as the database itself is named, with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.
    pub url: String,
    /// The name the replicas of one deployment share, and deployments in one database do not. At most 63 bytes.
    pub channel: String,
}

/// The adapters of one replica, over one connection.
pub struct PostgresHints {
    session: Arc<Session>,
}

impl PostgresHints {
    /// Returns at once and connects in the background, within a Tokio runtime, until the last of its adapters is dropped.
    /// Fails where the URL or a certificate it names cannot be read, not where Postgres is away.
    pub fn connect(options: Options) -> Result<Self> {
        if options.channel.is_empty() || options.channel.len() > CHANNEL_BYTES_MAX {
            return Err(Error::internal("the channel of hints needs a name of at most 63 bytes"));
        }
        let random = getrandom::u64().map_err(|_| Error::internal("the operating system has no randomness"))?;
        let link = Link::parse(&options.url)?;
        let session = Session::open(link.config().clone(), link.tls()?, options.channel, format!("{random:016x}"));
        Ok(Self { session })
    }

    /// Word to the other replicas.
    pub fn hints(&self) -> Arc<dyn Hints> {
        Arc::new(hints::PostgresNotify::new(self.session.clone()))
    }

    /// Who does what one replica is enough for. A lease ends with its time to live, and with the connection: the server ends
    /// that after 3 s of silence.
    pub fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(leases::AdvisoryLocks::new(self.session.clone()))
    }
}

impl fmt::Debug for PostgresHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresHints(..)")
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Options").field("channel", &self.channel).finish_non_exhaustive()
    }
}
