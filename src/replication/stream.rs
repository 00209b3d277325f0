//! The log, as the slot sends it.

use crate::pgoutput::{Message, decode};
use crate::{Lsn, Options};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_postgres_link::{Link, Way};
use pgwire_replication::client::ReplicationEvent;
use pgwire_replication::{Lsn as WireLsn, PgWireError, ReplicationClient, ReplicationConfig, TlsConfig};
use std::time::Duration;
use tokio::time::timeout;

/// How long the server may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// At most so often is it told how far the index is. Whoever waits for a position waits for this.
const STATUS_INTERVAL: Duration = Duration::from_millis(20);
/// So many messages are held between the socket and the worker. Each has a session before and after, with everything.
const EVENTS_MAX: usize = 64;
/// How long the end of the stream may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// `object_in_use`: somebody else reads the slot.
const IN_USE: &str = "55006";

/// What the log says next.
#[derive(Debug)]
pub(crate) enum Event {
    Begin {
        final_lsn: Lsn,
        committed_at: i64,
        transaction_id: u32,
    },
    Contents(Message),
    Commit {
        end_lsn: Lsn,
    },
    /// There is nothing of ours before this position that was not sent.
    Alive {
        lsn: Lsn,
    },
}

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// Another worker has the slot.
    InUse,
    Failed(Error),
}

/// A slot, read by nobody else for as long as this lives.
pub(crate) struct Stream {
    client: ReplicationClient,
    /// What it comes through.
    _way: Way,
}

impl Stream {
    pub(crate) async fn open(options: &Options, link: &Link, from: Lsn) -> Result<Self, NotOpened> {
        let way = link.way().await.map_err(NotOpened::Failed)?;
        let config = config(options, link, &way, from);
        let open = async {
            let mut client = ReplicationClient::connect(config).await?;
            client.wait_started().await.map(|()| client)
        };
        match timeout(START_TIMEOUT, open).await {
            Ok(Ok(client)) => Ok(Self { client, _way: way }),
            Ok(Err(PgWireError::Server(text))) if text.contains(IN_USE) => Err(NotOpened::InUse),
            Ok(Err(error)) => Err(NotOpened::Failed(failed(error))),
            Err(_) => Err(NotOpened::Failed(failed("the server did not begin to send its log"))),
        }
    }

    /// What comes next. Nothing is lost when the wait is given up. While nobody asks, the server is still answered, and its
    /// log waits in the pipe.
    pub(crate) async fn next(&mut self) -> Result<Event> {
        loop {
            let event = self.client.recv().await.map_err(failed)?;
            return Ok(match event.ok_or_else(|| failed("the server ended its log"))? {
                ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => Event::Begin {
                    final_lsn: final_lsn.as_u64(),
                    committed_at: commit_time_micros,
                    transaction_id: xid,
                },
                ReplicationEvent::Commit { end_lsn, .. } => Event::Commit { end_lsn: end_lsn.as_u64() },
                ReplicationEvent::XLogData { data, .. } => Event::Contents(decode(data).map_err(Error::internal)?),
                ReplicationEvent::KeepAlive { wal_end, .. } => Event::Alive { lsn: wal_end.as_u64() },
                // Of applications, or of a limit that was not set.
                ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. } => continue,
            });
        }
    }

    /// Everything before `lsn` is stored: the server may forget it.
    pub(crate) fn acknowledge(&self, lsn: Lsn) {
        self.client.update_applied_lsn(WireLsn::from_u64(lsn));
    }

    /// Ends it.
    pub(crate) async fn close(mut self) {
        match timeout(CLOSE_TIMEOUT, self.client.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the log ended with an error"),
            Err(_) => self.client.abort(),
        }
    }
}

fn config(options: &Options, link: &Link, way: &Way, from: Lsn) -> ReplicationConfig {
    let account = link.config();
    let user = account.get_user().unwrap_or_default();
    let password = String::from_utf8_lossy(account.get_password().unwrap_or_default()).into_owned();
    let database = account.get_dbname().unwrap_or(user);
    let (slot, publication) = (options.slot_name.as_str(), options.publication_name.as_str());
    ReplicationConfig::new(way.host(), user, password, database, slot, publication)
        .with_port(way.port())
        // The way encrypts.
        .with_tls(TlsConfig::disabled())
        .with_start_lsn(WireLsn::from_u64(from))
        .with_status_interval(STATUS_INTERVAL)
        .with_buffer_size(EVENTS_MAX)
        .with_application_name(options.application_name.as_str())
        .with_options("-c datestyle=ISO -c timezone=UTC")
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable(Cause::new(error))
}
