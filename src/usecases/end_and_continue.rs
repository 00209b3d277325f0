//! Hand a session over from its run to a new one.

use crate::Core;
use continuo_domain::principal::{Action, Principal};
use continuo_domain::run::{Run, RunCommand, RunReason};
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{Error, Result, RunId};
use continuo_ports::session_store::Claim;
use tracing::warn;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct EndAndContinue {
    /// Which session.
    pub session: SessionRef,
    /// The run that hands over.
    pub calling_run: RunId,
    /// Why.
    pub reason: RunReason,
    /// With reason upgrade: the deployment to pin to; none clears the pin.
    pub external_deployment_id: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Continued {
    /// The session's run after the call.
    pub run: RunId,
    /// This call installed it.
    pub swapped: bool,
}

impl Core {
    /// Installs a new run if the calling run is still the current one. The calling run is asked to end: it must be able to
    /// write its last control record, so an executing one has a grace; one that does not execute is canceled at once.
    pub async fn end_and_continue(&self, caller: &Principal, request: EndAndContinue) -> Result<Continued> {
        let mut session = self.session_for(caller, Action::Write, &request.session).await?;
        session.check_open(self.now())?;
        let calling =
            self.ports.runs.get(&caller.environment, &request.calling_run).await?.ok_or(Error::RunNotFound)?;
        if session.current_run.as_ref() != Some(&request.calling_run) {
            return winner(&session);
        }
        // An upgrade moves the pin to the deployment it names, or drops it, if the swap is won. A pinned version stays.
        if request.reason == RunReason::Upgrade {
            session.trigger_config.external_deployment_id = request.external_deployment_id;
        }
        match self.claim(&session, request.reason, Some(&request.calling_run)).await? {
            Claim::Won { run, .. } => {
                self.retire(&calling).await;
                Ok(Continued { run: run.spec.id, swapped: true })
            }
            Claim::Lost(fresh) if fresh.closed_at.is_some() => {
                Err(Error::SessionClosed { closed_reason: fresh.closed_reason })
            }
            Claim::Lost(fresh) => winner(&fresh),
        }
    }

    /// The swap stands whatever comes of this: the fence keeps the old run from writing as the owner.
    async fn retire(&self, calling: &Run) {
        let now = self.now();
        let command = RunCommand::HandOver { by: now.plus_ms(self.settings.stop_grace_ms) };
        match self.ports.runs.apply(&calling.spec.environment, &calling.spec.id, command, now).await {
            Ok(applied) => self.after_run_change(&applied).await,
            Err(error) => {
                let run = &calling.spec.id;
                warn!(run.id = %run, error = %error, cause = ?error.cause(), "a run that handed over was not asked to stop");
            }
        }
    }
}

fn winner(session: &Session) -> Result<Continued> {
    match &session.current_run {
        Some(run) => Ok(Continued { run: run.clone(), swapped: false }),
        None => Err(Error::RunNotClaimed),
    }
}
