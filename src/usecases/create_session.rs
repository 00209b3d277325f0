//! Create a session, or find it, and make sure a run of it is alive.

use crate::access::names_of;
use crate::{Core, tokens::SESSION_TOKEN_MS};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{Action, Credential, Principal, Resource, Scope};
use continuo_domain::run::{NewRun, Run, RunReason};
use continuo_domain::session::{ExternalId, Json, NewSession, Session, SessionRef, Tenant, TriggerConfig};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::session_store::{Created, Upserted};
use continuo_ports::tokens::NewPublicToken;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct CreateSession {
    /// The caller's name; none makes a new session each time.
    pub external_id: Option<ExternalId>,
    /// Free-form.
    pub session_type: String,
    /// The task.
    pub task_identifier: String,
    /// What its runs are started with.
    pub trigger_config: TriggerConfig,
    /// Labels.
    pub tags: Vec<String>,
    /// The caller's JSON object.
    pub metadata: Option<Json>,
    /// End of its active life.
    pub expires_at: Option<Timestamp>,
    /// Made by a test.
    pub is_test: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct CreatedSession {
    /// The row.
    pub session: Session,
    /// The live run.
    pub run: Run,
    /// Read and write on this session, for an hour.
    pub public_access_token: String,
    /// The row was there already.
    pub is_cached: bool,
}

impl Core {
    /// Idempotent by external id. On a hit only the trigger config is replaced, and only after the row was found open.
    pub async fn create_session(&self, caller: &Principal, request: CreateSession) -> Result<CreatedSession> {
        self.check_may_create(caller, &request).await?;
        if self.settings.tasks_strict
            && !self.ports.workers.knows_task(&caller.environment, &request.task_identifier).await?
        {
            return Err(Error::TaskNotFound);
        }
        let config = request.trigger_config.clone();
        let new = self.new_session(caller, request).await?;
        new.check()?;
        let Created { session, first_run } = self.create_or_find(new).await?;
        let is_cached = first_run.is_none();
        let (session, run) = match first_run {
            Some(run) => (session, run),
            None => self.take_up(caller, session, config).await.map_err(not_reusable)?,
        };
        let public_access_token = self.mint_session_token(&session).await?;
        Ok(CreatedSession { session, run, public_access_token, is_cached })
    }

    async fn create_or_find(&self, new: NewSession) -> Result<Created> {
        let now = self.now();
        let draft = Session::new(new.clone(), now);
        if draft.check_open(now).is_err() {
            return self.create_expired(new, now).await;
        }
        let first_run = NewRun::of_session(self.new_run_id(), &draft, None)?;
        let created = self.ports.sessions.create(new, first_run, now).await?;
        if let Some(run) = &created.first_run {
            self.session_arrived(&created.session);
            self.after_claim(&created.session, run, RunReason::Initial).await;
        }
        Ok(created)
    }

    /// A session whose time is over before it begins is a row, and no run ever has it.
    async fn create_expired(&self, new: NewSession, now: Timestamp) -> Result<Created> {
        let Upserted { session, is_new } = self.ports.sessions.upsert(new, now).await?;
        if is_new {
            self.session_arrived(&session);
            return Err(Error::SessionAlreadyExpired);
        }
        Ok(Created { session, first_run: None })
    }

    fn session_arrived(&self, session: &Session) {
        if let Some(name) = &session.external_id {
            self.signals.session_arrived(&session.tenant.environment, name.as_str());
        }
    }

    /// A session that was there: with the caller's config, and a live run.
    async fn take_up(&self, caller: &Principal, found: Session, config: TriggerConfig) -> Result<(Session, Run)> {
        let (session, live) = tokio::join!(self.refresh(caller, found.clone(), config), self.live_run(&found));
        let session = session?;
        let over = match live? {
            Some(run) if session.current_run.as_ref() == Some(&run.spec.id) => return Ok((session, run)),
            Some(_) => None,
            None => found.current_run.as_ref(),
        };
        self.ensure_another_run(session, over, RunReason::Continuation).await
    }

    async fn check_may_create(&self, caller: &Principal, request: &CreateSession) -> Result<()> {
        match caller.credential {
            Credential::RootKey => return Ok(()),
            Credential::PublicToken { .. } if !self.settings.create_allow_jwt => {
                return Err(Error::Unauthenticated(CredentialProblem::UnknownKey));
            }
            Credential::RunToken(_) if caller.has_secret_key() => {}
            Credential::RunToken(_) | Credential::StreamToken(_) | Credential::WaitpointToken(_) => {
                return Err(Error::PermissionDenied);
            }
            Credential::PublicToken { .. } | Credential::AdditionalKey => {}
        }
        let may_write = match &request.external_id {
            None => caller.may(Action::Write, &[Resource::all("sessions")]),
            Some(name) => {
                let asked = SessionRef::External(name.clone());
                let row = self.find_session(caller, &asked).await?;
                caller.may_session(Action::Write, &names_of(&asked, row.as_ref()))
            }
        };
        let may_trigger = caller.may(Action::Trigger, &[Resource::task(&request.task_identifier)]);
        if may_trigger && may_write { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    async fn new_session(&self, caller: &Principal, request: CreateSession) -> Result<NewSession> {
        let tenant = self.tenant(&caller.environment).await?;
        Ok(NewSession {
            id: SessionId::from_body(&self.ports.ids.next()),
            external_id: request.external_id,
            session_type: request.session_type,
            task_identifier: request.task_identifier,
            basin: self.ports.channels.basin(&tenant.organization),
            tenant,
            trigger_config: request.trigger_config,
            tags: request.tags,
            metadata: request.metadata,
            is_test: request.is_test,
            expires_at: request.expires_at,
        })
    }

    async fn tenant(&self, environment: &EnvironmentId) -> Result<Tenant> {
        let now = self.now();
        if let Some(tenant) = self.tenants.get(environment, now) {
            return Ok(tenant);
        }
        let found = self.ports.environments.get(environment).await?;
        let tenant = found.ok_or(Error::Unauthenticated(CredentialProblem::UnknownSubject))?.tenant;
        self.tenants.learn(tenant.clone(), now);
        Ok(tenant)
    }

    /// The stored row decides: a caller cannot take over a session by naming it with another task.
    async fn refresh(&self, caller: &Principal, session: Session, config: TriggerConfig) -> Result<Session> {
        let asked = SessionRef::Id(session.id.clone());
        let may_trigger = caller.may(Action::Trigger, &[Resource::task(&session.task_identifier)]);
        if !may_trigger || !caller.may_session(Action::Write, &names_of(&asked, Some(&session))) {
            return Err(Error::PermissionDenied);
        }
        let now = self.now();
        check_reusable(&session, now)?;
        if session.trigger_config == config {
            return Ok(session);
        }
        let session = self.ports.sessions.refresh_trigger_config(&session.id, config, now).await?;
        check_reusable(&session, now)?;
        Ok(session)
    }

    async fn mint_session_token(&self, session: &Session) -> Result<String> {
        let key = session.addressing_key();
        let scope = |action: &str| Scope::parse(&format!("{action}:sessions:{key}")).map_err(Error::from);
        let token = NewPublicToken {
            environment: session.tenant.environment.clone(),
            scopes: vec![scope("read")?, scope("write")?],
            session: Some(session.id.clone()),
            expires_at: self.now().plus_ms(SESSION_TOKEN_MS),
            one_time_use: false,
            realtime: None,
        };
        self.ports.tokens.mint_public(token).await
    }
}

/// What a create is told about a session that ended under it.
fn not_reusable(error: Error) -> Error {
    match error {
        Error::SessionClosed { .. } => Error::SessionAlreadyClosed,
        Error::SessionExpired => Error::SessionAlreadyExpired,
        other => other,
    }
}

fn check_reusable(session: &Session, now: Timestamp) -> Result<()> {
    session.check_open(now).map_err(not_reusable)
}
