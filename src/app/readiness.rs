//! Looks now and then whether the node can serve calls, and tells whoever asks.

use super::parts::Parts;
use crate::server::Readiness;
use anyhow::Result;
use continuo_grpc::Health;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// From the end of one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An engine that takes longer to answer cannot be reached.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keeps `readiness` and the health of the services up to date, until stopping; then neither is ready any more.
pub(super) async fn watch(
    parts: Arc<Parts>,
    readiness: Readiness,
    health: Health,
    stopping: CancellationToken,
) -> Result<()> {
    let mut last = None;
    while stopping.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(trouble) = stopping.run_until_cancelled(parts.trouble(PATIENCE)).await else { break };
        if trouble == last {
            continue;
        }
        match trouble {
            Some(reason) => warn!(reason, "not ready"),
            None => info!("ready again"),
        }
        readiness.set(trouble);
        health.set_serving(trouble.is_none()).await;
        last = trouble;
    }
    health.set_serving(false).await;
    Ok(())
}
