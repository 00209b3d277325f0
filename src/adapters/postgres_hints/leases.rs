//! Leases as advisory locks of the session, which end with it. Which of them are held is remembered here, so that renewing
//! one asks nobody.

use crate::session::Session;
use async_trait::async_trait;
use continuo_domain::Result;
use continuo_ports::Leases;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use tracing::debug;

/// The locks of one connection. Whoever has it alone may lock and unlock: the server counts how often a lock was taken.
#[derive(Default)]
pub(crate) struct Held {
    connection: u64,
    until: BTreeMap<&'static str, Instant>,
}

impl Held {
    /// What was held over another connection went with it.
    fn of(&mut self, connection: u64) -> &mut BTreeMap<&'static str, Instant> {
        if self.connection != connection {
            (self.connection, self.until) = (connection, BTreeMap::new());
        }
        &mut self.until
    }

    /// Unlocks what was not renewed in time: the connection is alive, but whoever wanted the lease may not be.
    pub(crate) async fn give_back_late(
        &mut self,
        client: &Client,
        connection: u64,
        channel: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let now = Instant::now();
        let held = self.of(connection);
        let late: Vec<_> = held.iter().filter(|(_, until)| **until <= now).map(|(name, _)| *name).collect();
        for name in late {
            let sql = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";
            client.query_typed(sql, &[(&lock_name(channel, name), Type::TEXT)]).await?;
            held.remove(name);
        }
        Ok(())
    }
}

fn lock_name(channel: &str, name: &str) -> String {
    format!("{channel} {name}")
}

pub(crate) struct AdvisoryLocks {
    session: Arc<Session>,
}

impl AdvisoryLocks {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[async_trait]
impl Leases for AdvisoryLocks {
    async fn hold(&self, name: &'static str, ttl: Duration) -> Result<bool> {
        let up = self.session.up().await?;
        let mut held = self.session.held().lock().await;
        let held = held.of(up.number);
        if !held.contains_key(name) {
            let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
            let lock = lock_name(self.session.channel(), name);
            let row = self.session.call(&up, up.client.query_typed_one(sql, &[(&lock, Type::TEXT)])).await?;
            if !row.get::<_, bool>(0) {
                return Ok(false);
            }
        }
        held.insert(name, Instant::now() + ttl);
        Ok(true)
    }

    async fn release_all(&self) {
        let Ok(up) = self.session.up().await else { return };
        let mut held = self.session.held().lock().await;
        held.of(up.number).clear();
        let released = self.session.call(&up, up.client.batch_execute("SELECT pg_advisory_unlock_all()")).await;
        if let Err(error) = released {
            debug!(cause = ?error.cause(), "leases end with their connection");
        }
    }
}
