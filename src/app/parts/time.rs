//! Whose time it is: this machine's, or the database's where replicas have to agree.

use crate::config::Config;
use anyhow::{Context, Result};
use continuo_database::Database;
use continuo_in_process::{Answer, FollowedClock, SystemClock};
use continuo_ports::Clock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Questions at once, of which the fastest answer counts: it is the most exact one.
const QUESTIONS: u32 = 3;

pub(super) enum Time {
    /// One process: its machine's.
    System(Arc<SystemClock>),
    /// Any number of them: the database's.
    Database(Arc<FollowedClock>),
}

impl Time {
    pub(super) async fn start(config: &Config, database: &Database) -> Result<Self> {
        if config.database.url.is_none() {
            return Ok(Self::System(Arc::new(SystemClock::new())));
        }
        let answer = ask(database).await.map_err(super::explain).context("cannot ask the database for the time")?;
        Ok(Self::Database(Arc::new(FollowedClock::new(answer))))
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::System(clock) => clock.clone(),
            Self::Database(clock) => clock.clone(),
        }
    }

    /// What keeps the clock right, if that takes anything. While the database is away the clock runs on by itself.
    pub(super) fn following(
        &self,
        database: &Database,
        stopping: &CancellationToken,
    ) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
        let Self::Database(clock) = self else { return None };
        let (clock, database, stopping) = (clock.clone(), database.clone(), stopping.clone());
        Some(async move {
            while stopping.run_until_cancelled(tokio::time::sleep(ASK_EVERY)).await.is_some() {
                match ask(&database).await {
                    Ok(answer) => clock.correct(answer),
                    Err(error) => debug!(error = %error, "the database was not asked for the time"),
                }
            }
            Ok(())
        })
    }
}

async fn ask(database: &Database) -> continuo_domain::Result<Answer> {
    let mut best: Option<Answer> = None;
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        let theirs = database.time().await?;
        let answer = Answer { theirs, asked, took: asked.elapsed() };
        best = best.filter(|best| best.took <= answer.took).or(Some(answer));
    }
    best.ok_or_else(|| continuo_domain::Error::internal("nobody was asked"))
}
