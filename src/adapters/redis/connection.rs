//! One connection for all calls, given up at the first sign of trouble and made anew in the background.

use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

/// Longest time a call takes, whatever state Redis is in.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest time one try to connect takes.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after the first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held for so long was a good one: the next pause is a short one again.
const STEADY: Duration = Duration::from_secs(5);

/// The connection, or what is being done about it.
pub(crate) struct Connection {
    client: Client,
    state: watch::Sender<State>,
}

enum State {
    /// The first try is under way. Calls wait for it, in their time.
    First,
    /// A further try is under way. Calls do not wait: the last ones failed.
    Connecting,
    /// No try before `retry_at`; the next call after it begins one.
    Away {
        retry_at: Instant,
        failures: u32,
    },
    Up(Up),
}

#[derive(Clone)]
struct Up {
    connection: MultiplexedConnection,
    since: Instant,
    /// Failures before it.
    failures: u32,
}

impl Connection {
    pub(crate) fn open(client: Client) -> Arc<Self> {
        let this = Arc::new(Self { client, state: watch::Sender::new(State::First) });
        tokio::spawn(this.clone().connect(0));
        this
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does something with the connection, in no more than `CALL_TIMEOUT`. After an error it is open whether it was done,
    /// which nobody here needs to know.
    pub(crate) async fn call<T, F>(self: &Arc<Self>, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let until = Instant::now() + CALL_TIMEOUT;
        let up = timeout_at(until, self.up()).await.map_err(|_| unavailable("Redis does not answer"))??;
        match timeout_at(until, work(up.connection.clone())).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.give_up(&up, &error.to_string());
                }
                Err(unavailable(error))
            }
            // Also what is only slow: others must not pay the same time again, one after the other.
            Err(_) => {
                self.give_up(&up, "no answer in time");
                Err(unavailable("Redis does not answer"))
            }
        }
    }

    async fn up(self: &Arc<Self>) -> Result<Up> {
        self.connect_if_due();
        let mut states = self.state.subscribe();
        let state = states.wait_for(|state| !matches!(state, State::First)).await;
        match state.as_deref() {
            Ok(State::Up(up)) => Ok(up.clone()),
            _ => Err(unavailable("Redis is away")),
        }
    }

    fn connect_if_due(self: &Arc<Self>) {
        let mut before = 0;
        let is_due = self.state.send_if_modified(|state| match state {
            State::Away { retry_at, failures } if *retry_at <= Instant::now() => {
                before = *failures;
                *state = State::Connecting;
                true
            }
            _ => false,
        });
        if is_due {
            tokio::spawn(self.clone().connect(before));
        }
    }

    /// One try, after so many failures.
    async fn connect(self: Arc<Self>, failures: u32) {
        let next = match timeout(CONNECT_TIMEOUT, self.try_connect()).await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(connection) => {
                info!("connected to Redis");
                State::Up(Up { connection, since: Instant::now(), failures })
            }
            Err(error) => {
                if failures == 0 {
                    warn!(error = %error, "Redis is away; hints take longer");
                }
                State::Away { retry_at: Instant::now() + pause(failures), failures: failures.saturating_add(1) }
            }
        };
        self.state.send_replace(next);
    }

    /// A connection that has answered as fast as calls want it.
    async fn try_connect(&self) -> RedisResult<MultiplexedConnection> {
        // Times are limited here, once.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let ping = redis::cmd("PING");
        timeout(CALL_TIMEOUT, ping.query_async::<()>(&mut connection)).await.unwrap_or_else(|_| Err(timed_out()))?;
        Ok(connection)
    }

    fn give_up(&self, failed: &Up, why: &str) {
        self.state.send_if_modified(|state| match state {
            // Another call may have given it up before, and it may even be replaced by now.
            State::Up(up) if up.since == failed.since => {
                let failures = if up.since.elapsed() < STEADY { up.failures } else { 0 };
                if failures == 0 {
                    warn!(why, "Redis is away; hints take longer");
                }
                *state =
                    State::Away { retry_at: Instant::now() + pause(failures), failures: failures.saturating_add(1) };
                true
            }
            _ => false,
        });
    }
}

/// Between half of it and all of it, so that replicas that lost Redis together do not come back together.
pub(crate) fn pause(failures: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Unavailable(Cause::new(cause))
}
