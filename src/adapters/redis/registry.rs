//! Who waits on which channel. A key is a sorted set of waits by their end, in milliseconds of the epoch, and lives until the
//! last of them: no key is without an end. Each call is one step of Redis.

use crate::connection::Connection;
use async_trait::async_trait;
use continuo_domain::waitpoint::WaitedSession;
use continuo_domain::{Result, Timestamp, WaitpointId};
use continuo_ports::WaitpointRegistry;
use continuo_ports::waitpoint_registry::WaitKey;
use redis::Script;
use std::sync::{Arc, LazyLock};

/// Adds a wait, never shortens one, and sets the key's end to its last one's. What is past its time goes on this occasion.
static REGISTER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1] .. '000')
        local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
        if last then redis.call('PEXPIREAT', KEYS[1], last) end",
    )
});

/// Takes the key away and tells whom it held whose time is not over.
static DRAIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local waits = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')
        redis.call('DEL', KEYS[1])
        return waits",
    )
});

pub(crate) struct Registry {
    connection: Arc<Connection>,
    prefix: String,
}

impl Registry {
    pub(crate) fn new(connection: Arc<Connection>, key_prefix: &str) -> Self {
        Self { connection, prefix: format!("{key_prefix}:waits") }
    }

    /// The one part that may hold anything comes last, so that no two of them read alike.
    fn key(&self, key: &WaitKey) -> String {
        let (kind, session) = match &key.session {
            WaitedSession::Id(id) => ("id", id.as_str()),
            WaitedSession::Name(name) => ("name", name.as_str()),
        };
        format!("{}:{}:{}:{kind}:{session}", self.prefix, key.environment, key.direction.as_str())
    }
}

#[async_trait]
impl WaitpointRegistry for Registry {
    async fn register(&self, key: &WaitKey, waitpoint: &WaitpointId, until: Timestamp) -> Result<()> {
        let mut call = REGISTER.key(self.key(key));
        call.arg(waitpoint.as_str()).arg(until.0);
        self.connection.call(|mut redis| async move { call.invoke_async(&mut redis).await }).await
    }

    async fn remove(&self, key: &WaitKey, waitpoint: &WaitpointId) -> Result<()> {
        let mut remove = redis::cmd("ZREM");
        remove.arg(self.key(key)).arg(waitpoint.as_str());
        self.connection.call(|mut redis| async move { remove.query_async(&mut redis).await }).await
    }

    async fn drain(&self, key: &WaitKey, now: Timestamp) -> Result<Vec<WaitpointId>> {
        let mut call = DRAIN.key(self.key(key));
        call.arg(now.0);
        let drained: Vec<String> =
            self.connection.call(|mut redis| async move { call.invoke_async(&mut redis).await }).await?;
        Ok(drained.iter().filter_map(|id| WaitpointId::parse(id).ok()).collect())
    }
}
