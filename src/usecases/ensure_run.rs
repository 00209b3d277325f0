//! Make sure a session has a live run: probe, and where none lives, claim the session for a new one.

use crate::Core;
use continuo_domain::run::{CLAIM_ROUNDS_MAX, NewRun, Run, RunReason};
use continuo_domain::session::Session;
use continuo_domain::{Error, Result, RunId};
use continuo_ports::session_store::{Claim, ClaimRun};
use tracing::{info, warn};

impl Core {
    /// The session and its live run, after at most three rounds. A winner found alive is as good as winning; one that is
    /// over by then starts the next round.
    pub(crate) async fn ensure_run(&self, session: Session, reason: RunReason) -> Result<(Session, Run)> {
        self.ensure_another_run(session, None, reason).await
    }

    /// As `ensure_run`, for a caller who knows of a run that it is over.
    pub(crate) async fn ensure_another_run(
        &self,
        mut session: Session,
        over: Option<&RunId>,
        reason: RunReason,
    ) -> Result<(Session, Run)> {
        for _ in 0..CLAIM_ROUNDS_MAX {
            let is_over = over.is_some() && session.current_run.as_ref() == over;
            if !is_over && let Some(run) = self.live_run(&session).await? {
                return Ok((session, run));
            }
            match self.claim(&session, reason, None).await? {
                Claim::Won { session, run } => return Ok((*session, *run)),
                Claim::Lost(fresh) => session = *fresh,
            }
        }
        match self.live_run(&session).await? {
            Some(run) => Ok((session, run)),
            None => Err(Error::RunNotClaimed),
        }
    }

    /// The session's current run, if it is alive.
    pub(crate) async fn live_run(&self, session: &Session) -> Result<Option<Run>> {
        let Some(current) = &session.current_run else { return Ok(None) };
        let run = self.ports.runs.get(&session.tenant.environment, current).await?;
        Ok(run.filter(Run::is_alive))
    }

    /// One try to install a new run. After a win the fence of `.out` stands for the new owner before anybody else acts on it.
    pub(crate) async fn claim(&self, session: &Session, reason: RunReason, from: Option<&RunId>) -> Result<Claim> {
        let now = self.now();
        session.check_open(now)?;
        if let Some(retry_after_ms) = session.boot.wait_ms(now) {
            return Err(Error::BootBackoff { retry_after_ms });
        }
        let id = RunId::from_body(&self.ports.ids.next());
        let claim = ClaimRun {
            session: session.id.clone(),
            expected_version: session.current_run_version,
            expected_run: from.cloned(),
            run: NewRun::of_session(id, session, session.current_run.as_ref())?,
            reason,
            trigger_config: from.is_some().then(|| session.trigger_config.clone()),
        };
        let claim = self.ports.sessions.claim_run(claim, now).await?;
        if let Claim::Won { session, run } = &claim {
            self.after_claim(session, run, reason).await;
        }
        Ok(claim)
    }

    /// Marks the claim's place in `.out` and offers the run to workers. The place matters: a turn that ends after the claim
    /// settles the session, one that ended before it does not. So this is waited for, also where nobody can have to be fenced
    /// out yet; it costs the log, and not the database.
    pub(crate) async fn after_claim(&self, session: &Session, run: &Run, reason: RunReason) {
        info!(session.id = %session.id, run.id = %run.spec.id, reason = reason.as_str(), "run claimed the session");
        let raised = match session.current_run_version {
            1 => self.raise_first_fence(&session.id).await,
            version => self.raise_fence(&session.id, version, 0).await,
        };
        // The lease raises the fence again before the run is handed out, so a failure here loses no safety.
        if let Err(error) = raised {
            warn!(session.id = %session.id, error = %error, cause = ?error.cause(), "the claim's fence is late");
        }
        self.signals.work_changed(&session.tenant.environment);
    }
}
