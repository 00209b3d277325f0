//! Session rows, their audit and their claim.
//!
//! Every read here sees every write that was acknowledged before it began, through any replica: reads after writes go to
//! the primary. Every acknowledged write survives power loss.

use async_trait::async_trait;
use continuo_domain::channel::{ChannelName, SeqNum};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::run::{NewRun, Run, RunReason};
use continuo_domain::session::{NewSession, Session, SessionPatch, SessionRef, SessionRun, TriggerConfig};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp};

/// A create's row and whether it is the one that made it.
#[derive(Clone, Debug)]
pub struct Upserted {
    /// The row: the new one, or the one that had the external id.
    pub session: Session,
    /// This call made it. Of any number of concurrent first creates exactly one says so.
    pub is_new: bool,
}

/// What an append needs to know of its session.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The row.
    pub session: Session,
    /// Its current run is alive.
    pub is_run_alive: bool,
    /// What became of the claim, if one was to be made.
    pub claimed: Option<Claimed>,
}

/// A create's row and its run.
#[derive(Clone, Debug)]
pub struct Created {
    /// The row: the new one, or the one that had the external id, as it was.
    pub session: Session,
    /// The first run, queued, if this call made the session. Of any number of concurrent first creates exactly one has it.
    pub first_run: Option<Run>,
}

/// A claim of a session for a new run.
#[derive(Clone, Debug)]
pub struct ClaimRun {
    /// Whose.
    pub session: SessionId,
    /// `current_run_version` the claimer saw.
    pub expected_version: u64,
    /// The run that must still be current, for a hand-over.
    pub expected_run: Option<RunId>,
    /// The run to install.
    pub run: NewRun,
    /// Why, for the audit.
    pub reason: RunReason,
    /// Replaces the session's trigger config together with the claim, or not at all.
    pub trigger_config: Option<TriggerConfig>,
}

/// Losing is an ordinary outcome, so it is a value and not an error.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The run is installed and queued; `session` is the row after it.
    Won {
        /// The row.
        session: Box<Session>,
        /// The run.
        run: Box<Run>,
    },
    /// Somebody else was first, or the session closed; nothing was written. The row as it is now.
    Lost(Box<Session>),
}

/// A close's outcome.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The row, with the winner's time and reason.
    pub session: Session,
    /// This call closed it.
    pub is_first: bool,
}

/// What happened at the boot or the end of a session's run.
#[derive(Clone, Debug)]
pub enum BootEvent {
    /// A run read the session's `.in` up to here (exclusive). Only ever forward; also ends a series of failures.
    Read(SeqNum),
    /// A continuation was booted because of unread input below this tail.
    BootedFor(SeqNum),
    /// A boot may be due and could not be looked into. The session is due (`sessions_without_live_run`) until `Settled`,
    /// whoever is there by then.
    Owed,
    /// The look was had: nothing is owed. Leaves a backoff alone.
    Settled,
    /// A run crashed before it had read anything new. Nothing if the session has another run by now: one that no longer owns
    /// it says nothing of how it boots.
    Failed {
        /// Which.
        run: RunId,
        /// What an operator sees.
        error: String,
    },
}

/// A named pair of channels and how long its records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedChannel {
    /// Whose.
    pub session: SessionId,
    /// Its name.
    pub name: ChannelName,
    /// If a writer said so.
    pub max_age_seconds: Option<u64>,
}

/// Sessions and everything that must change together with them.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Makes the row, or finds the one with the same (environment, external id), in one atomic step. Waits that were
    /// registered under the external id are bound to the row in the same transaction. A found row is left as it is.
    async fn upsert(&self, session: NewSession, now: Timestamp) -> Result<Upserted>;

    /// As `upsert`, and a new session has its first run (version 1, reason `INITIAL`) and the audit of it in the same step:
    /// there is no moment at which others see the one without the other. One round trip where the name is free or taken; two
    /// where another create of it is under way.
    async fn create(&self, session: NewSession, first_run: NewRun, now: Timestamp) -> Result<Created>;

    /// The row and whether its run is alive, in one round trip; with a claim, that is made in the same step, if there is a
    /// row. A claim that was `Known` may cost another.
    async fn probe(
        &self,
        environment: &EnvironmentId,
        session: &SessionRef,
        claim: Option<NewClaim>,
    ) -> Result<Option<Probe>>;

    /// Of these sessions, those that are not closed and whose current run is over or was never there.
    async fn without_live_run(&self, sessions: &[SessionId]) -> Result<Vec<Session>>;

    /// The row, if the environment has it.
    async fn get(&self, environment: &EnvironmentId, session: &SessionRef) -> Result<Option<Session>>;

    /// Replaces the trigger config of an open session (neither closed nor expired at `now`); otherwise changes nothing.
    /// Returns the row after it.
    async fn refresh_trigger_config(
        &self,
        session: &SessionId,
        config: TriggerConfig,
        now: Timestamp,
    ) -> Result<Session>;

    /// Changes what the patch names. `ExternalIdTaken` if another row has the new name. A name given up is free at once.
    async fn update(&self, session: &SessionId, patch: SessionPatch, now: Timestamp) -> Result<Session>;

    /// Sets `closed_at` and the reason if they are not set. Of concurrent closes one is first; all return its row.
    async fn close(&self, session: &SessionId, reason: Option<String>, now: Timestamp) -> Result<Closed>;

    /// The fences of the close stand and its wake record is written.
    async fn finish_close(&self, session: &SessionId) -> Result<()>;

    /// Closed sessions whose close is not finished, oldest first, at most `limit`.
    async fn unfinished_closes(&self, limit: u32) -> Result<Vec<Session>>;

    /// Deletes the row, its audit, its channel names and its waits. False if there was none.
    async fn delete(&self, session: &SessionId) -> Result<bool>;

    /// The claim, in one transaction: if the session is not closed, its version is the expected one and (where asked) its
    /// current run is the expected one, then version + 1, the run row, the audit row. Nobody is offered the run before
    /// the transaction has committed, so a loser never executes and leaves no trace.
    async fn claim_run(&self, claim: ClaimRun, now: Timestamp) -> Result<Claim>;

    /// The audit of a session, oldest first, each with its run as it is now.
    async fn session_runs(&self, session: &SessionId) -> Result<Vec<(SessionRun, Run)>>;

    /// Notes a boot event on the row and returns the row after it.
    async fn note_boot(&self, session: &SessionId, event: BootEvent, now: Timestamp) -> Result<Session>;

    /// Open sessions whose current run is over, with a change since `since` or a boot that is due: where unread input may
    /// lie. Ordered by id, after `after`, at most `limit`.
    async fn sessions_without_live_run(
        &self,
        since: Timestamp,
        now: Timestamp,
        after: Option<&SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>>;

    /// Registers a named channel. False, and nothing written, if the session is closed: after a close no channel appears.
    async fn register_channel(&self, session: &SessionId, name: &ChannelName) -> Result<bool>;

    /// The named channels of a session, sorted.
    async fn channels(&self, session: &SessionId) -> Result<Vec<ChannelName>>;

    /// Sets how long a registered channel's records are kept; of several the last one counts. Nothing for one that is not
    /// registered.
    async fn set_max_age(&self, session: &SessionId, name: &ChannelName, max_age_seconds: u64) -> Result<()>;

    /// The named channels of all sessions, or only those with a maximum age of their own; ordered by (session, name), after
    /// `after`, at most `limit`.
    async fn named_channels(
        &self,
        only_aging: bool,
        after: Option<&NamedChannel>,
        limit: u32,
    ) -> Result<Vec<NamedChannel>>;
}
