//! Tokens for others.

use crate::Core;
use crate::access::names_of;
use continuo_domain::principal::{Action, Credential, Principal, SCOPES_MAX, Scope};
use continuo_domain::session::{Json, SessionRef};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, Violation};
use continuo_ports::tokens::NewPublicToken;

/// Life of a session token: 1 hour.
pub const SESSION_TOKEN_MS: u64 = 3_600_000;
/// Life of a token to complete a waitpoint: 24 hours.
pub const WAITPOINT_TOKEN_MS: u64 = 86_400_000;
/// Life of a public token that does not say: 15 minutes.
pub const PUBLIC_TOKEN_MS_DEFAULT: u64 = 900_000;
/// Longest life of a public token: 30 days.
pub const PUBLIC_TOKEN_MS_MAX: u64 = 30 * 86_400_000;

/// Longest `realtime` claim: a token travels in a header.
const REALTIME_BYTES_MAX: usize = 4_096;

/// A token that is asked for.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Its end, if given.
    pub expires_at: Option<Timestamp>,
    /// Consumed by its first trigger.
    pub one_time_use: bool,
    /// Carried as the claim `realtime`.
    pub realtime: Option<Json>,
    /// The one session it is bound to.
    pub session: Option<SessionRef>,
}

impl NewToken {
    /// The same for an environment, if there can be such a token. Which row the session is, is the caller's to find out.
    pub(crate) fn of(self, environment: EnvironmentId, now: Timestamp, life_ms: u64) -> Result<NewPublicToken> {
        let Self { scopes, expires_at, one_time_use, realtime, session: _ } = self;
        if !(1..=SCOPES_MAX).contains(&scopes.len()) {
            return Err(Violation::new("scopes", "must hold 1 to 256 scopes").into());
        }
        let expires_at = expires_at.unwrap_or(now.plus_ms(life_ms));
        if expires_at <= now || expires_at > now.plus_ms(PUBLIC_TOKEN_MS_MAX) {
            return Err(Violation::new("expires_at", "must lie in the next 30 days").into());
        }
        if realtime.as_ref().is_some_and(|json| json.as_str().len() > REALTIME_BYTES_MAX) {
            return Err(Violation::new("realtime_json", "is longer than 4096 bytes").into());
        }
        Ok(NewPublicToken { environment, scopes, session: None, expires_at, one_time_use, realtime })
    }
}

impl Core {
    /// A public token with at most what the asking key has.
    pub async fn create_public_token(&self, caller: &Principal, new: NewToken) -> Result<String> {
        if !caller.has_secret_key() {
            return Err(Error::PermissionDenied);
        }
        let session = new.session.clone();
        let mut token = new.of(caller.environment.clone(), self.now(), PUBLIC_TOKEN_MS_DEFAULT)?;
        let denied = caller.denied_of(&token.scopes);
        if !denied.is_empty() {
            return Err(Error::ScopesExceedKey(denied));
        }
        if let Some(asked) = session {
            token.session = Some(self.session_to_bind(caller, &asked, &token.scopes).await?);
        }
        self.ports.tokens.mint_public(token).await
    }

    /// The row a token is bound to. A bound token's scopes count for that row whatever name they spell, so they must spell
    /// none but its own: a key that may grant one session must not reach another.
    async fn session_to_bind(&self, caller: &Principal, asked: &SessionRef, scopes: &[Scope]) -> Result<SessionId> {
        let row = self.find_session(caller, asked).await?;
        let names = names_of(asked, row.as_ref());
        if ![Action::Read, Action::Write, Action::Admin].iter().any(|action| caller.may_session(*action, &names)) {
            return Err(Error::PermissionDenied);
        }
        let row = row.ok_or(Error::SessionNotFound)?;
        let external_id = row.external_id.as_ref().map(|id| id.as_str());
        let is_its = |name: &str| name == row.id.as_str() || Some(name) == external_id;
        if scopes.iter().filter_map(Scope::session).any(|name| !is_its(name)) {
            return Err(Violation::new("scopes", "holds a scope of another session than `session`").into());
        }
        Ok(row.id)
    }

    /// A token of the server's own making for one purpose.
    pub(crate) async fn mint_for(&self, caller: &Principal, scopes: &[String], life_ms: u64) -> Result<String> {
        let scopes = scopes.iter().map(|s| Scope::parse(s)).collect::<Result<_, _>>()?;
        let expires_at = self.now().plus_ms(life_ms);
        let environment = caller.environment.clone();
        let token =
            NewPublicToken { environment, scopes, session: None, expires_at, one_time_use: false, realtime: None };
        self.ports.tokens.mint_public(token).await
    }

    /// Whose name a client must sign its tokens in.
    pub fn token_subject(&self, caller: &Principal) -> Result<EnvironmentId> {
        if caller.has_secret_key() { Ok(caller.environment.clone()) } else { Err(Error::PermissionDenied) }
    }

    /// Refuses every public token issued before now, of the environment or of one session, and ends what they opened.
    pub async fn revoke_tokens(&self, caller: &Principal, session: Option<&SessionRef>) -> Result<Timestamp> {
        if caller.credential != Credential::RootKey {
            return Err(Error::PermissionDenied);
        }
        let session = match session {
            None => None,
            Some(asked) => Some(self.session_for(caller, Action::Admin, asked).await?.id),
        };
        let now = self.now();
        self.ports.environments.revoke_tokens(&caller.environment, session.as_ref(), now).await?;
        self.ports.tokens.forget();
        self.streams.look_now();
        Ok(now)
    }
}
