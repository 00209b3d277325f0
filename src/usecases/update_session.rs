//! Change what an owner may change of a session.

use crate::Core;
use continuo_domain::Result;
use continuo_domain::error::Violations;
use continuo_domain::principal::{Action, Principal};
use continuo_domain::session::{Session, SessionPatch, SessionRef, check_tags};

impl Core {
    /// Tags, metadata, external id; closed or not. Everything else of the session follows its id and stays.
    pub async fn update_session(&self, caller: &Principal, asked: &SessionRef, patch: SessionPatch) -> Result<Session> {
        let mut found = Violations::new();
        check_tags("tags", patch.tags.as_deref().unwrap_or_default(), &mut found);
        found.finish()?;
        let session = self.session_for(caller, Action::Admin, asked).await?;
        let renamed = patch.external_id.clone().flatten();
        let session = self.ports.sessions.update(&session.id, patch, self.now()).await?;
        if let Some(name) = renamed {
            self.signals.session_arrived(&session.tenant.environment, name.as_str());
        }
        Ok(session)
    }

    /// One session.
    pub async fn get_session(&self, caller: &Principal, asked: &SessionRef) -> Result<Session> {
        self.session_for(caller, Action::Read, asked).await
    }

    /// The audit of a session, for whoever holds the key.
    pub async fn session_runs(
        &self,
        caller: &Principal,
        asked: &SessionRef,
    ) -> Result<Vec<(continuo_domain::session::SessionRun, continuo_domain::run::Run)>> {
        let session = self.session_for_key(caller, Action::Read, asked).await?;
        self.ports.sessions.session_runs(&session.id).await
    }
}
