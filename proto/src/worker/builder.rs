//! How a worker is put together.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::event_loop::{EventLoop, Settings};
use super::lease::bearer;
use super::link::Link;
use super::retry::random;
use super::task::Task;
use crate::with_tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end is gone is noticed within the sum of both.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The entrance: see [`Worker::builder`].
pub struct Worker(());

impl Worker {
    /// A worker for the server at `endpoint` (`http://host:port`, or https), with the secret key of an environment.
    pub fn builder(endpoint: impl Into<String>, secret_key: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder {
            endpoint: endpoint.into(),
            secret_key: secret_key.into(),
            ca_pem: None,
            connect: Arc::new(|endpoint| endpoint.connect_lazy()),
            worker_id: format!("worker-{:016x}", random()),
            version: String::new(),
            capacity: 10,
            drain_grace: Duration::from_secs(30),
            tasks: HashMap::new(),
        }
    }
}

/// Settings of a worker.
pub struct WorkerBuilder {
    endpoint: String,
    secret_key: String,
    ca_pem: Option<String>,
    connect: Arc<dyn Fn(Endpoint) -> Channel + Send + Sync>,
    worker_id: String,
    version: String,
    capacity: u32,
    drain_grace: Duration,
    tasks: HashMap<String, Arc<dyn Task>>,
}

impl WorkerBuilder {
    /// Authorities, in PEM, that may have signed the server's certificate, beside those of the system.
    pub fn ca_certificate(mut self, pem: impl Into<String>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Another way to the server than TCP.
    pub fn connect_with(mut self, connect: impl Fn(Endpoint) -> Channel + Send + Sync + 'static) -> Self {
        self.connect = Arc::new(connect);
        self
    }

    /// Its own name, unique among workers; random if not given.
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.worker_id = worker_id.into();
        self
    }

    /// Version of the code. Runs that are pinned to a version go to workers that have it.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How many runs it takes at once, 1 to 10000; 10 if not given.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// How long runs may go on after the shutdown began; 30 s if not given.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Registers the code of a task. A second one of the same name replaces the first.
    pub fn task(mut self, name: impl Into<String>, task: impl Task) -> Self {
        self.tasks.insert(name.into(), Arc::new(task));
        self
    }

    /// Works until `shutdown` is cancelled: then it takes no more runs, lets those it has end within the grace, and returns.
    /// While the server is away it tries again, for ever. Fails if a setting is wrong or the server refuses the worker.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let invalid = |text: &str| Err(WorkerError::InvalidSetting(text.to_owned()));
        if self.tasks.is_empty() {
            return invalid("a worker needs at least one task");
        }
        if !(1..=10_000).contains(&self.capacity) {
            return invalid("the capacity must be 1 to 10000");
        }
        let Some(bearer) = bearer(&self.secret_key) else {
            return invalid("the secret key holds characters that no header may");
        };
        let endpoint = endpoint(&self.endpoint, self.ca_pem.as_deref())?;
        let channel = (self.connect)(endpoint.clone());
        let settings = Settings {
            worker_id: self.worker_id,
            version: self.version,
            capacity: self.capacity,
            drain_grace: self.drain_grace,
            tasks: self.tasks,
            // Two connections: heartbeats are never stuck behind a run's data.
            data: (self.connect)(endpoint),
        };
        EventLoop::new(settings, Link::new(channel, bearer), shutdown).run().await
    }
}

fn endpoint(url: &str, ca_pem: Option<&str>) -> Result<Endpoint, WorkerError> {
    let invalid = |_| WorkerError::InvalidSetting(format!("{url} is not an address such as http://host:port"));
    let nobody = |_| WorkerError::InvalidSetting("there is no authority to trust in the system or as given".to_owned());
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(invalid)?;
    Ok(with_tls(endpoint, ca_pem)
        .map_err(nobody)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Why a worker gave up.
#[derive(Debug)]
pub enum WorkerError {
    /// It cannot start with this setting.
    InvalidSetting(String),
    /// The server will not have it: a wrong key, a wrong name, not a server of this kind.
    Refused(Status),
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSetting(text) => f.write_str(text),
            Self::Refused(status) => write!(f, "the server refused the worker: {}", status.message()),
        }
    }
}

impl std::error::Error for WorkerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InvalidSetting(_) => None,
            Self::Refused(status) => Some(status),
        }
    }
}
