//! The composition root: only what is under here knows both ports and adapters.

mod data_dir;
mod migrate;
mod node;
mod parts;
mod readiness;
mod replication;
mod walkthrough;

pub use migrate::{ListIndex, Migrated, Schema, Schemas, migrate_up, schemas};
pub use node::{Node, StopSignals};
pub use parts::{MoveProgress, MoveStep, Moved, move_up};
pub use replication::{
    ParkedSession, ReplicationStatus, Report, Scope, Slot, Step, drop_replication, prepare_replication, reconcile,
    replication_options, replication_status,
};

use crate::config::Config;
use crate::{demo_agent, server, tasks::Tasks, telemetry};
use anyhow::{Context, Result};
use std::io::Write;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Runs a node until it is asked to stop.
pub async fn serve(config: Config) -> Result<()> {
    telemetry::start(&config.log)?;
    let mut signals = StopSignals::listen()?;
    let node = Node::start(config).await?;
    say(&format!("listening on {}\n", node.url()))?;
    node.stopped(&mut signals).await;
    node.stop().await
}

/// Runs a node with the demo agent beside it, and says what to try.
pub async fn dev(config: Config) -> Result<()> {
    telemetry::start(&config.log)?;
    let mut signals = StopSignals::listen()?;
    let (demo, tls) = (config.demo.clone(), config.tls.clone());
    let node = Node::start(config).await?;
    let (url, key) = (node.url(), node.dev_key().await?);
    say(&format!("listening on {url}\n{}", walkthrough::text(url, &key, tls.cert.as_deref())))?;
    let leaving = CancellationToken::new();
    let agent = demo.enabled.then(|| {
        let options = demo_agent::DemoOptions::from(&demo);
        tokio::spawn(demo_agent::run(node.in_process(), key, options, leaving.clone()))
    });
    node.stopped(&mut signals).await;
    // The agent is a client: it says goodbye before the server goes.
    leaving.cancel();
    if let Some(agent) = agent {
        agent.await.context("demo agent")??;
    }
    node.stop().await
}

/// Runs the HTTP gateway alone, on the services of another process.
pub async fn gateway(config: Config, upstream: String, ca_pem: Option<String>) -> Result<()> {
    telemetry::start(&config.log)?;
    let mut signals = StopSignals::listen()?;
    let message_bytes_max = config.message_bytes_max();
    let upstream = continuo_gateway::upstream::Upstream::new(upstream, ca_pem.as_deref(), message_bytes_max)?;
    let port = server::Port::bind(&config).await?;
    say(&format!("listening on {}\n", port.url()))?;
    let tasks = Tasks::new(CancellationToken::new());
    let rest = continuo_gateway::router(upstream.clone(), upstream, node::gateway_options(&config, tasks.stopping()));
    let router = server::one_port(rest, axum::Router::new(), server::Readiness::new(tasks.stopping().clone()));
    tasks.spawn_critical("http", server::serve(port, router, tasks.clone()));
    signals.received(tasks.stopping()).await;
    tasks.stop(config.shutdown_grace()).await;
    Ok(())
}

/// Standard output is for what a person or a script reads; a closed one is no reason to end.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        info!("nobody reads standard output");
    }
    Ok(())
}
