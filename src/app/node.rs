//! A node: every part, built from its piece of the configuration and joined.

use super::parts::Parts;
use super::readiness;
use crate::config::Config;
use crate::server::{self, InProcess, Port, Readiness};
use crate::tasks::Tasks;
use anyhow::Result;
use continuo_grpc::{Admin, Limits, Services};
use continuo_usecases::{Blobs, Core};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A running node.
pub struct Node {
    url: String,
    in_process: InProcess,
    core: Core,
    parts: Arc<Parts>,
    tasks: Tasks,
    config: Config,
}

impl Node {
    /// Opens every part and starts it. It answers on its port when this returns. What cannot work is refused with a
    /// [`ConfigError`](crate::config::ConfigError), what cannot be reached with another error.
    pub async fn start(config: Config) -> Result<Self> {
        config.check()?;
        let port = Port::bind(&config).await?;
        let url = port.url().to_owned();
        let parts = Arc::new(Parts::open(&config).await?);
        parts.put_dev_environments(&config).await?;

        let tasks = Tasks::new(CancellationToken::new());
        let core = parts.core(&config, tasks.stopping().clone())?;
        let blobs = Blobs::new(core.clone(), parts.credentials.clone());
        let services = Services::new(core.clone(), blobs, tasks.tracker().clone());
        let admin = Admin::new(parts.administration()?, Some(&parts.admin_key(&config)?));
        let limits = Limits { message_bytes_max: config.message_bytes_max() };
        let grpc = continuo_grpc::router(services.clone(), admin.clone(), limits).await?;
        let metrics = server::metrics(parts.metrics(), admin.clone());
        let rest = continuo_gateway::router(services, admin, gateway_options(&config, tasks.stopping()))
            .merge(continuo_gateway::console());
        let readiness = Readiness::new(tasks.stopping().clone());
        let router = server::one_port(rest.merge(metrics), grpc.router, readiness.clone());

        let in_process = InProcess::new(router.clone(), tasks.clone());
        tasks.spawn_critical("http", server::serve(port, router, tasks.clone()));
        tasks.spawn_critical("hints", forever(core.clone().run_hints()));
        tasks.spawn_critical("clock", forever(core.clone().run_clock()));
        tasks.spawn_critical("sweeper", forever(core.clone().run_sweeper()));
        tasks.spawn_critical("follow-ups", forever(core.clone().run_follow_ups()));
        tasks.spawn_critical("open streams", forever(core.clone().run_open_streams()));
        parts.spawn(&tasks);
        let stopping = tasks.stopping().clone();
        tasks.spawn_critical("readiness", readiness::watch(parts.clone(), readiness, grpc.health, stopping));
        info!(url, "ready");
        Ok(Self { url, in_process, core, parts, tasks, config })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For clients in the same process.
    pub fn in_process(&self) -> InProcess {
        self.in_process.clone()
    }

    /// The root key of the dev environment.
    pub async fn dev_key(&self) -> Result<String> {
        self.parts.dev_key().await
    }

    /// Ends when something stops the node: a signal, or a part that failed.
    pub async fn stopped(&self, signals: &mut StopSignals) {
        signals.received(self.tasks.stopping()).await;
    }

    /// Stops every part. Streams get their last word; what was acknowledged is on disk already.
    pub async fn stop(self) -> Result<()> {
        let grace = self.config.shutdown_grace();
        self.tasks.stop(grace).await;
        // The last callers have their answers by now. What is not done in time is found by the next start, or by other nodes.
        if let Ok(Err(error)) = tokio::time::timeout(grace, self.core.follow_up_now()).await {
            warn!(error = %error, "some of what follows the last appends is left undone");
        }
        self.parts.close().await?;
        info!("stopped");
        Ok(())
    }
}

/// The signals to stop. Heard from the moment this is made, so it is made before anybody is told that the process is up: one
/// that comes earlier than the wait for it ends the process in order all the same.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to listen.
    pub fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ends with a signal, or when the node is stopping already.
    pub(super) async fn received(&mut self, stopping: &CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            _ = self.terminate.recv() => info!("asked to stop"),
            _ = self.interrupt.recv() => info!("asked to stop"),
        }
    }
}

pub(super) fn gateway_options(config: &Config, stopping: &CancellationToken) -> continuo_gateway::Options {
    continuo_gateway::Options {
        public_base_url: config.public_url.clone(),
        is_tls: config.tls.is_on(),
        create_allow_jwt: config.create.allow_jwt,
        direct_writes: continuo_gateway::DirectWrites {
            flush_interval_ms: config.stream.flush_interval_ms,
            max_retries: config.stream.max_retries,
        },
        stopping: stopping.clone(),
    }
}

async fn forever(background: impl Future<Output = ()>) -> Result<()> {
    background.await;
    Ok(())
}
