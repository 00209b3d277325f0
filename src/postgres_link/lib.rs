//! Connections to Postgres for what the database's own adapter is not for: notifications, and the log. A URL means here what
//! it means there.
//!
//! Below the adapters, and no adapter itself: it serves no port, and several of them stand on it.
#![warn(missing_docs)]

mod encryption;
mod relay;
mod url;

pub use relay::Way;

use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use encryption::Encryption;
use std::fmt;
use std::time::Duration;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

/// How long a connection to one address may take, where the URL says nothing about it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without a word the system asks whether the other end is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Where Postgres is, and how to encrypt the way there.
pub struct Link {
    config: Config,
    encryption: Encryption,
}

impl Link {
    /// Reads `postgres://…`, with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`. Parameters of no concern here are passed
    /// over. Talks to nobody.
    pub fn parse(url: &str) -> Result<Self> {
        let (config, encryption) = url::parse(url)?;
        Ok(Self { config, encryption })
    }

    /// Address, account, database.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// TLS, as the URL asks for it. Fails where a certificate cannot be read; the cause names the file.
    pub fn tls(&self) -> Result<MakeRustlsConnect> {
        self.encryption.connector()
    }

    /// A connection of its own, that the server knows as `application_name`. It ends with the client.
    pub async fn connect(&self, application_name: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.application_name(application_name);
        config.keepalives_idle(KEEPALIVE_IDLE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        let connected = config.connect(self.tls()?).await;
        let (client, connection) = connected.map_err(|error| Error::Unavailable(Cause::new(error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the client learns of it by the call that fails.
                debug!(error = &error as &dyn std::error::Error, "a connection to Postgres broke");
            }
        });
        Ok(client)
    }

    /// Where a client connects to that cannot encrypt: what it says there arrives at the server as the URL asks for.
    pub async fn way(&self) -> Result<Way> {
        Way::open(&self.config, self.tls()?).await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds a password.
        f.write_str("Link(..)")
    }
}
