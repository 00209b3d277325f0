//! Leases as keys with a holder and an end.

use crate::connection::Connection;
use async_trait::async_trait;
use continuo_domain::Result;
use continuo_ports::Leases;
use parking_lot::Mutex;
use redis::Script;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tracing::debug;

/// Takes a lease that is free, renews one's own.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local holder = redis.call('GET', KEYS[1])
        if holder and holder ~= ARGV[1] then return 0 end
        redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        return 1",
    )
});

static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(r"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"));

pub(crate) struct RedisLeases {
    connection: Arc<Connection>,
    prefix: String,
    replica: String,
    /// What may be held: nothing else needs to be given back.
    taken: Mutex<BTreeSet<&'static str>>,
}

impl RedisLeases {
    pub(crate) fn new(connection: Arc<Connection>, key_prefix: &str, replica: &str) -> Self {
        let prefix = format!("{key_prefix}:lease");
        Self { connection, prefix, replica: replica.to_owned(), taken: Mutex::default() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}

#[async_trait]
impl Leases for RedisLeases {
    async fn hold(&self, name: &'static str, ttl: Duration) -> Result<bool> {
        // Before the call: one whose answer is lost may have taken it.
        self.taken.lock().insert(name);
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut call = HOLD.key(self.key(name));
        call.arg(&self.replica).arg(ttl_ms);
        self.connection.call(|mut redis| async move { call.invoke_async(&mut redis).await }).await
    }

    async fn release_all(&self) {
        let taken = std::mem::take(&mut *self.taken.lock());
        for name in taken {
            let mut call = RELEASE.key(self.key(name));
            call.arg(&self.replica);
            let released: Result<()> =
                self.connection.call(|mut redis| async move { call.invoke_async(&mut redis).await }).await;
            if let Err(error) = released {
                debug!(name, cause = ?error.cause(), "a lease ends by its time");
            }
        }
    }
}
