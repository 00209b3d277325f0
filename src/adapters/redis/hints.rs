//! Word from replica to replica over one channel. A message is the sender, a space and the hint's text.

use crate::connection::{CONNECT_TIMEOUT, Connection, pause};
use async_trait::async_trait;
use continuo_ports::{Hint, Hints};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// After so long without a message the connection is asked whether it is still one.
const SILENCE_MAX: Duration = Duration::from_secs(3);

pub(crate) struct RedisHints {
    connection: Arc<Connection>,
    channel: String,
    replica: String,
}

impl RedisHints {
    pub(crate) fn new(connection: Arc<Connection>, key_prefix: &str, replica: &str) -> Self {
        Self { connection, channel: format!("{key_prefix}:hints"), replica: replica.to_owned() }
    }
}

#[async_trait]
impl Hints for RedisHints {
    async fn send(&self, hints: Vec<Hint>) {
        let mut batch = redis::Pipeline::with_capacity(hints.len());
        for hint in &hints {
            batch.cmd("PUBLISH").arg(&self.channel).arg(format!("{} {}", self.replica, hint.to_text())).ignore();
        }
        if let Err(error) = self.connection.call(|mut redis| async move { batch.exec_async(&mut redis).await }).await {
            debug!(count = hints.len(), cause = ?error.cause(), "hints are dropped");
        }
    }

    fn receive(&self) -> BoxStream<'static, Option<Hint>> {
        let listener = Listener {
            connection: self.connection.clone(),
            channel: self.channel.clone(),
            replica: self.replica.clone(),
            subscription: None,
            failures: 0,
        };
        stream::unfold(listener, |mut listener| async move { Some((listener.next().await, listener)) }).boxed()
    }
}

/// A connection of its own, because one that listens can do nothing else.
struct Listener {
    connection: Arc<Connection>,
    channel: String,
    replica: String,
    subscription: Option<(PubSubSink, PubSubStream)>,
    failures: u32,
}

impl Listener {
    async fn next(&mut self) -> Option<Hint> {
        loop {
            let Some((sink, messages)) = &mut self.subscription else {
                if self.subscribe().await {
                    return None;
                }
                continue;
            };
            match timeout(SILENCE_MAX, messages.next()).await {
                Ok(Some(message)) => {
                    if let Some(hint) = self.read(&message) {
                        return Some(hint);
                    }
                }
                Ok(None) => self.lost("closed").await,
                Err(_) => {
                    if !is_alive(sink).await {
                        self.lost("silent").await;
                    }
                }
            }
        }
    }

    async fn subscribe(&mut self) -> bool {
        match timeout(CONNECT_TIMEOUT, self.try_subscribe()).await {
            Ok(Ok(subscription)) => {
                info!("listening to other replicas");
                (self.subscription, self.failures) = (Some(subscription), 0);
                return true;
            }
            Ok(Err(error)) => debug!(error = %error, "cannot listen to other replicas"),
            Err(_) => debug!("cannot listen to other replicas in time"),
        }
        sleep(pause(self.failures)).await;
        self.failures = self.failures.saturating_add(1);
        false
    }

    async fn try_subscribe(&self) -> RedisResult<(PubSubSink, PubSubStream)> {
        let (mut sink, messages) = self.connection.client().get_async_pubsub().await?.split();
        sink.subscribe(&self.channel).await?;
        Ok((sink, messages))
    }

    async fn lost(&mut self, why: &'static str) {
        info!(why, "other replicas are not heard for now");
        self.subscription = None;
        // A server that accepts and closes again is not asked without a pause.
        sleep(pause(0)).await;
    }

    /// `None` for one's own, and for what a newer release may say.
    fn read(&self, message: &Msg) -> Option<Hint> {
        let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
        let (sender, hint) = text.split_once(' ')?;
        if sender == self.replica { None } else { Hint::of_text(hint) }
    }
}

async fn is_alive(sink: &mut PubSubSink) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, sink.ping::<redis::Value>()).await, Ok(Ok(_)))
}
