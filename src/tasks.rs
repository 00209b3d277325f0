//! Every background task has a name, an owner and an end.

use anyhow::Result;
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// Tracks tasks and stops them together.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// No tasks yet; `stopping` is what ends them.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stopping }
    }

    /// The token that ends them.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// For parts that spawn tasks of their own, one per connection or stream.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// A task the node cannot do without: its end, by whatever cause, stops the node.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            // Also on panic.
            let _stop_node_on_exit = stopping.drop_guard();
            match task.await {
                Ok(()) => info!(task = name, "task ended"),
                Err(error) => error!(task = name, error = format!("{error:#}"), "task failed"),
            }
        });
    }

    /// Asks everything to stop and waits, at most `grace`. Says who is still running after it.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            warn!(tasks = self.tracker.len(), "tasks did not end within the grace; leaving without them");
        }
    }
}
