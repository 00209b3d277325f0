//! The one connection: kept, listened on, and asked for life so often that its server may end it when it is silent. A replica
//! that is frozen, or cut off, loses it and with it its leases.

use crate::leases::Held;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_ports::Hint;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, info, warn};

/// Longest time a call takes.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time one try to connect takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server hears from us.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After so long without a word the server ends the session (Postgres 14 and later; before, when TCP gives up).
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Hints a receiver may be behind. One that is further behind is told to look at everything.
const BEHIND_MAX: usize = 4_096;
/// The pause after the first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A connection that held for so long was a good one: the next pause is a short one again.
const STEADY: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the adapters share. The connection is kept until the last of them is gone.
pub(crate) struct Session {
    shared: Arc<Shared>,
    _keeper: AbortOnDrop,
}

struct Shared {
    config: Config,
    tls: MakeRustlsConnect,
    channel: String,
    replica: String,
    state: watch::Sender<State>,
    heard: broadcast::Sender<Option<Hint>>,
    held: Mutex<Held>,
    /// The last connection that a call failed on.
    given_up: watch::Sender<u64>,
}

enum State {
    /// The first try is under way. Calls wait for it, in their time.
    First,
    Away,
    Up(Up),
}

/// A connection that stands.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) client: Arc<Client>,
    /// Tells one connection from the next.
    pub(crate) number: u64,
}

impl Session {
    pub(crate) fn open(config: Config, tls: MakeRustlsConnect, channel: String, replica: String) -> Arc<Self> {
        let shared = Arc::new(Shared {
            config,
            tls,
            channel,
            replica,
            state: watch::Sender::new(State::First),
            heard: broadcast::Sender::new(BEHIND_MAX),
            held: Mutex::default(),
            given_up: watch::Sender::new(0),
        });
        let _keeper = AbortOnDrop(tokio::spawn(keep(shared.clone())));
        Arc::new(Self { shared, _keeper })
    }

    pub(crate) fn channel(&self) -> &str {
        &self.shared.channel
    }

    pub(crate) fn replica(&self) -> &str {
        &self.shared.replica
    }

    /// The leases, as this process knows them.
    pub(crate) fn held(&self) -> &Mutex<Held> {
        &self.shared.held
    }

    /// What is heard from here on, and whether it can be heard already.
    pub(crate) fn listen(&self) -> (broadcast::Receiver<Option<Hint>>, bool) {
        // Held over both: the word that the connection stands comes either in the stream or in the answer.
        let state = self.shared.state.borrow();
        (self.shared.heard.subscribe(), matches!(*state, State::Up(_)))
    }

    /// The connection, if it stands.
    pub(crate) async fn up(&self) -> Result<Up> {
        let mut states = self.shared.state.subscribe();
        let is_known = states.wait_for(|state| !matches!(state, State::First));
        match timeout(CALL_TIMEOUT, is_known).await.as_ref().map(Result::as_deref) {
            Ok(Ok(State::Up(up))) => Ok(up.clone()),
            _ => Err(unavailable("the connection for hints is away")),
        }
    }

    /// Waits for a query, in no more than `CALL_TIMEOUT`. After one that failed nobody knows what the server did, so the
    /// connection goes and everything that hangs on it.
    pub(crate) async fn call<T>(
        &self,
        up: &Up,
        query: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let failed: BoxError = match timeout(CALL_TIMEOUT, query).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.into(),
            Err(late) => late.into(),
        };
        self.shared.given_up.send_modify(|last| *last = up.number.max(*last));
        Err(unavailable(failed))
    }
}

/// Connects again and again.
async fn keep(shared: Arc<Shared>) {
    let (mut failures, mut number) = (0_u32, 0);
    loop {
        let began = Instant::now();
        number += 1;
        let Err(error) = shared.live(number).await;
        shared.state.send_replace(State::Away);
        failures = if began.elapsed() < STEADY { failures.saturating_add(1) } else { 1 };
        if failures == 1 {
            warn!(error, "the connection for hints is away; they take longer");
        } else {
            debug!(error, "the connection for hints is still away");
        }
        sleep(pause(failures)).await;
    }
}

impl Shared {
    /// The life of one connection. Says why it ended.
    async fn live(&self, number: u64) -> Result<std::convert::Infallible, BoxError> {
        let (client, connection) = timeout(CONNECT_TIMEOUT, self.config.connect(self.tls.clone())).await??;
        let client = Arc::new(client);
        let mut pump = AbortOnDrop(tokio::spawn(pump(connection, self.replica.clone(), self.heard.clone())));
        timeout(CONNECT_TIMEOUT, self.prepare(&client)).await??;
        info!("the connection for hints stands");
        self.state.send_modify(|state| {
            *state = State::Up(Up { client: client.clone(), number });
            // No receiver is an ordinary state.
            let _ = self.heard.send(None);
        });
        let mut given_up = self.given_up.subscribe();
        loop {
            tokio::select! {
                ended = &mut pump.0 => return Err(ended?.into()),
                _ = given_up.wait_for(|last| *last >= number) => return Err("a call failed".into()),
                () = sleep(HEARTBEAT) => {}
            }
            timeout(CALL_TIMEOUT, client.simple_query("")).await??;
            timeout(CALL_TIMEOUT, self.held.lock().await.give_back_late(&client, number, &self.channel)).await??;
        }
    }

    async fn prepare(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let silence_ms = SILENCE_MAX.as_millis();
        let channel = self.channel.replace('"', "\"\"");
        // Asked for only where the server knows it.
        let sql = format!(
            "SELECT set_config(name, '{silence_ms}', false) FROM pg_settings WHERE name = 'idle_session_timeout'; \
             LISTEN \"{channel}\""
        );
        client.batch_execute(&sql).await
    }
}

/// Drives the connection and hands out what it hears, until it ends.
async fn pump<S>(
    mut connection: Connection<Socket, S>,
    replica: String,
    heard: broadcast::Sender<Option<Hint>>,
) -> String
where
    S: TlsStream + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                // One's own comes back; what a newer release may say is passed over.
                let from_other = notification.payload().split_once(' ').filter(|(sender, _)| *sender != replica);
                if let Some(hint) = from_other.and_then(|(_, text)| Hint::of_text(text)) {
                    let _ = heard.send(Some(hint));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "it was closed".into(),
        }
    }
}

/// Between half of it and all of it, so that replicas that lost their connections together do not come back together.
fn pause(failures: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.clamp(1, 10).saturating_sub(1)).min(PAUSE_MAX);
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

struct AbortOnDrop<T = ()>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unavailable(cause: impl Into<BoxError>) -> Error {
    Error::Unavailable(Cause::new(cause))
}
