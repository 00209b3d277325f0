//! What follows an append and need not be waited for: waiters that the hint missed are woken, and a run is made sure of where
//! the one that lived when the append began has ended. Each is looked up in what is true, and not in what was hinted.
//!
//! Per session there is one entry, however many appends it stands for. What a crash leaves undone is a debt of the channel log
//! (`ChannelStore::owed`) where other processes go on, and found by the look at everything at the next start where none do.

mod queue;

use crate::Core;
use continuo_domain::channel::{Appended, ChannelKey, Debt};
use continuo_domain::waitpoint::{WaitedSession, Waitpoint};
use continuo_domain::{Error, Result, SessionId, Timestamp};
use queue::Due;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

pub(crate) use queue::{FollowUp, FollowUps};

/// Sessions that are looked at together.
const BATCH_SESSIONS: usize = 100;
/// A look at the database pays for all appends of so long.
const PACE: Duration = Duration::from_millis(50);
/// Debts younger than this are still on their way at whoever made them.
const DEBT_AGE_MS: i64 = 2_000;
/// Debts of others that are looked at in one sweep.
const OWED_MAX: u32 = 100;

impl Core {
    /// Says what an append to this channel leaves to do, as soon as the record is durable.
    pub(crate) fn follow_up(&self, channel: &ChannelKey, debt: Option<Debt>) -> FollowUp {
        FollowUp::new(self.follow_ups.clone(), self.ports.channels.clone(), channel, debt)
    }

    /// Of an append that is news to nobody: a command.
    pub(crate) fn nothing_follows(&self, appended: &Appended) {
        if let Some(debt) = appended.debt {
            self.ports.channels.followed_up(debt);
        }
    }

    /// Follows up what appends leave to do. Runs until stopping.
    pub async fn run_follow_ups(self) {
        while !self.stopping.is_cancelled() {
            let began = Instant::now();
            let batch = self.follow_ups.take(BATCH_SESSIONS, Some(began));
            let is_more = batch.len() == BATCH_SESSIONS;
            self.follow_up_or_retry(batch).await;
            if is_more {
                continue;
            }
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.follow_ups.next(began + PACE) => {}
            }
        }
    }

    /// Follows up everything that is left to do, once. Also for a node that stops: after its last caller, before its stores.
    /// Whatever fails is tried again later, if there is a later.
    pub async fn follow_up_now(&self) -> Result<()> {
        let mut all = self.follow_ups.take(usize::MAX, None);
        let mut outcome = Ok(());
        while !all.is_empty() {
            let batch = all.split_off(all.len().saturating_sub(BATCH_SESSIONS));
            if let Some(error) = self.follow_up_or_retry(batch).await {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Follows up what other processes, or this one, left undone for too long at `now`. Counts the appends.
    pub async fn sweep_debts(&self, now: Timestamp) -> Result<u64> {
        if self.follow_ups.was_too_much() {
            self.sweep_everything().await.inspect_err(|_| self.follow_ups.is_too_much())?;
        }
        let owed = self.ports.channels.owed(Timestamp(now.0 - DEBT_AGE_MS), OWED_MAX).await?;
        let count = owed.len() as u64;
        let mut batch: HashMap<SessionId, Due> = HashMap::new();
        for append in owed {
            let due = Due::of_debt(&append.channel, append.debt);
            batch.entry(append.channel.session).or_default().merge(due);
        }
        // What fails stays a debt, and is found by the next sweep.
        match self.follow_up_all(batch.into_iter().collect()).await {
            (_, None) => Ok(count),
            (_, Some(error)) => Err(error),
        }
    }

    async fn sweep_everything(&self) -> Result<()> {
        self.sweep_waits().await?;
        self.sweep_all_sessions().await.map(drop)
    }

    async fn follow_up_or_retry(&self, batch: Vec<(SessionId, Due)>) -> Option<Error> {
        let (failed, error) = self.follow_up_all(batch).await;
        for (session, due) in failed {
            self.follow_ups.retry(session, due, Instant::now());
        }
        error
    }

    /// What could not be done, and why one of it could not. The debts of the rest are paid.
    async fn follow_up_all(&self, batch: Vec<(SessionId, Due)>) -> (Vec<(SessionId, Due)>, Option<Error>) {
        let booting: Vec<_> = batch.iter().filter(|(_, due)| due.wants_run).map(|(id, _)| id.clone()).collect();
        let channels: Vec<_> = batch.iter().flat_map(|(id, due)| due.channels(id)).collect();
        let (boots, wakes) = tokio::join!(self.boot_where_no_run_lives(&booting), self.wake_by_truth(&channels));
        let mut failed = Vec::new();
        for (session, mut due) in batch {
            due.wants_run &= boots.concerns(&session);
            if !wakes.concerns(&session) {
                due.nobody_waits();
            }
            if due.is_done() {
                due.debts.into_iter().for_each(|debt| self.ports.channels.followed_up(debt));
            } else {
                failed.push((session, due));
            }
        }
        (failed, boots.error.or(wakes.error))
    }

    /// A run that ended since has left what it did not read to a continuation, unless it ended before the record was there.
    async fn boot_where_no_run_lives(&self, sessions: &[SessionId]) -> Failed {
        let mut failed = Failed::default();
        if sessions.is_empty() {
            return failed;
        }
        let dead = match self.ports.sessions.without_live_run(sessions).await {
            Ok(dead) => dead,
            Err(error) => return Failed::all(sessions.iter().cloned(), error),
        };
        for session in dead {
            if let Err(error) = self.boot_for_unread(&session.tenant.environment, &session.id).await {
                warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "no run for new input yet");
                failed.add(session.id, error);
            }
        }
        failed
    }

    /// Compares the open waits on these channels with the channels, whatever the registry knows of them.
    async fn wake_by_truth(&self, channels: &[ChannelKey]) -> Failed {
        let mut failed = Failed::default();
        if channels.is_empty() {
            return failed;
        }
        let waits = match self.ports.runs.open_waits_on(channels).await {
            Ok(waits) => waits,
            Err(error) => return Failed::all(channels.iter().map(|channel| channel.session.clone()), error),
        };
        for mut waitpoint in waits {
            if let Err(error) = self.register_and_check(&mut waitpoint).await {
                warn!(waitpoint.id = %waitpoint.id, error = %error, cause = ?error.cause(), "a wake is late");
                failed.sessions.extend(waited_session(&waitpoint));
                failed.error = Some(error);
            }
        }
        failed
    }
}

fn waited_session(waitpoint: &Waitpoint) -> Option<SessionId> {
    match &waitpoint.channel.as_ref()?.session {
        WaitedSession::Id(id) => Some(id.clone()),
        WaitedSession::Name(_) => None,
    }
}

/// The sessions of a batch for which something failed, and the last of the reasons.
#[derive(Default)]
struct Failed {
    sessions: HashSet<SessionId>,
    error: Option<Error>,
}

impl Failed {
    fn all(sessions: impl Iterator<Item = SessionId>, error: Error) -> Self {
        warn!(error = %error, cause = ?error.cause(), "what follows appends is late");
        Self { sessions: sessions.collect(), error: Some(error) }
    }

    fn add(&mut self, session: SessionId, error: Error) {
        self.sessions.insert(session);
        self.error = Some(error);
    }

    fn concerns(&self, session: &SessionId) -> bool {
        self.sessions.contains(session)
    }
}
