//! Beside the stream: an index that is not complete is made so.

use crate::backoff::Backoff;
use crate::database::Database;
use crate::metrics::Metrics;
use crate::{Options, Scope, Step, reconcile};
use continuo_domain::Result;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked whether the index is complete.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a comparison says what it is at.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Compares database and index whenever the index is known to be incomplete: at first, after a slot was lost, in a new epoch,
/// after the table was emptied. Ends where the database cannot be asked.
pub(crate) async fn mend(options: &Options, database: &Database, metrics: &Arc<Metrics>) -> Result<Infallible> {
    let mut backoff = Backoff::default();
    loop {
        if database.position().await?.is_complete {
            backoff = Backoff::default();
            sleep(LOOK_EVERY).await;
            continue;
        }
        tracing::info!("the index is not complete; it is compared with the database");
        match reconcile(options, Scope::Mend, metrics, &said_now_and_then()).await {
            Ok(report) => tracing::info!(?report, "the index is complete"),
            Err(error) => {
                let pause = backoff.next();
                let cause = error.cause().map(|cause| cause.for_log());
                tracing::warn!(%error, cause, ?pause, "the comparison of database and index begins anew");
                sleep(pause).await;
            }
        }
    }
}

fn said_now_and_then() -> impl Fn(Step) + Send + Sync {
    let said_at = Mutex::new(Instant::now());
    move |step| {
        let mut said_at = said_at.lock();
        if said_at.elapsed() >= SAY_EVERY {
            *said_at = Instant::now();
            tracing::info!(?step, "the index is being compared with the database");
        }
    }
}
