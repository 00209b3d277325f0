//! The `Tokens` port: which kind of bearer it is decides how it is checked.

use crate::jwt::{self, Claims, NewClaims, Seconds, Unverified};
use crate::known_keys::{KnownKeys, OpenEnvironment};
use crate::run_token::{self, RunTokens};
use crate::sdk_run_token::{self, SdkRunTokens};
use crate::stream_token::{self, StreamToken, StreamTokens};
use crate::url_token::UrlTokens;
use crate::waitpoint_token::{self, WaitpointTokens};
use crate::{MasterKey, keys};
use async_trait::async_trait;
use continuo_domain::blob::BlobGrant;
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{Credential, OneTimeToken, Principal, RunClaim, Scope, StreamClaim, StreamWriter};
use continuo_domain::session::Tenant;
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, Violation, WaitpointId};
use continuo_ports::environments::{Environment, KeyOwner, RotatedKey};
use continuo_ports::tokens::NewPublicToken;
use continuo_ports::{Clock, Environments, Tokens, UrlSigner};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Notify;

/// Checks and mints every kind of token. Authenticating a bearer seen within the last second touches no database.
pub struct Credentials {
    clock: Arc<dyn Clock>,
    known_keys: KnownKeys,
    run_tokens: RunTokens,
    sdk_run_tokens: SdkRunTokens,
    stream_tokens: StreamTokens,
    url_tokens: UrlTokens,
    waitpoint_tokens: WaitpointTokens,
    changed: Notify,
}

/// How long a root key is kept after its grace: whoever has streams open that began with it is told that it has ended.
const ENDED_KEY_KEPT_MS: u64 = 86_400_000;

impl Credentials {
    /// Over the environments of a database and the server's master key.
    pub fn new(environments: Arc<dyn Environments>, clock: Arc<dyn Clock>, master_key: MasterKey) -> Self {
        Self {
            clock,
            run_tokens: RunTokens::new(&master_key),
            sdk_run_tokens: SdkRunTokens::new(&master_key),
            stream_tokens: StreamTokens::new(&master_key),
            url_tokens: UrlTokens::new(&master_key),
            waitpoint_tokens: WaitpointTokens::new(&master_key),
            known_keys: KnownKeys::new(environments, master_key),
            changed: Notify::new(),
        }
    }

    /// Forgets what is remembered of the database, so that a change made in this process counts at once. To be called after
    /// the change is committed. Other processes see it within a second.
    pub fn invalidate(&self) {
        self.known_keys.invalidate();
        self.changed.notify_one();
    }

    /// The root key of an environment in the clear, for whoever may see it.
    pub async fn root_key(&self, environment: &EnvironmentId) -> Result<String> {
        Ok(self.existing(environment, self.clock.now()).await?.root_key.clone())
    }

    /// A new environment with its root key sealed and hashed, ready to be put.
    pub fn new_environment(&self, tenant: Tenant, slug: &str, root_key: &str) -> Result<Environment> {
        check_root_key(root_key)?;
        Ok(Environment {
            root_key_sealed: self.known_keys.seal(root_key, &tenant.environment)?,
            root_key_hash: keys::hash(root_key).to_vec(),
            slug: slug.to_owned(),
            tenant,
            rotated: Vec::new(),
            tokens_not_before: None,
        })
    }

    /// The same environment with a new root key; the old one counts until `valid_until`. To be put.
    pub fn rotate_root_key(&self, old: Environment, root_key: &str, valid_until: Timestamp) -> Result<Environment> {
        let renewed = self.new_environment(old.tenant, &old.slug, root_key)?;
        let now = self.clock.now();
        let is_kept = |key: &RotatedKey| now < key.valid_until.plus_ms(ENDED_KEY_KEPT_MS);
        let mut rotated: Vec<_> = old.rotated.into_iter().filter(is_kept).collect();
        rotated.push(RotatedKey { sealed: old.root_key_sealed, hash: old.root_key_hash, valid_until });
        Ok(Environment { rotated, tokens_not_before: old.tokens_not_before, ..renewed })
    }

    async fn run(&self, bearer: &str, now: Timestamp) -> Result<Principal> {
        let (environment, claim) = self.run_tokens.verify(bearer, now)?;
        Ok(Principal { environment, credential: Credential::RunToken(claim), scopes: Vec::new(), expires_at: None })
    }

    fn sdk_run(&self, bearer: &str, now: Timestamp) -> Result<Principal> {
        let (environment, claim, expires_at) = self.sdk_run_tokens.verify(bearer, now)?;
        let scopes = vec![Scope::parse(sdk_run_token::SCOPE)?];
        Ok(Principal { environment, credential: Credential::RunToken(claim), scopes, expires_at: Some(expires_at) })
    }

    async fn stream(&self, bearer: &str, now: Timestamp) -> Result<Principal> {
        let token = self.stream_tokens.verify(bearer, now)?;
        if token.claim.writer == StreamWriter::Public {
            let invalid = || refused(CredentialProblem::InvalidStreamToken);
            let environment = self.known_keys.environment(&token.environment, now).await?.ok_or_else(invalid)?;
            let not_before = self.not_before(&environment, Some(&token.claim.channel.session), now).await?;
            if not_before.is_some_and(|not_before| token.issued_at < not_before) {
                return Err(invalid());
            }
        }
        let (credential, expires_at) = (Credential::StreamToken(token.claim), Some(token.expires_at));
        Ok(Principal { environment: token.environment, credential, scopes: Vec::new(), expires_at })
    }

    async fn key(&self, bearer: &str, now: Timestamp) -> Result<Principal> {
        let owner = self.known_keys.owner(bearer, now).await?;
        let owner = owner.ok_or_else(|| refused(CredentialProblem::UnknownKey))?;
        Ok(match owner.as_ref() {
            KeyOwner::Root(row) => Principal {
                environment: row.tenant.environment.clone(),
                credential: Credential::RootKey,
                scopes: Vec::new(),
                expires_at: None,
            },
            KeyOwner::Additional(key) => Principal {
                environment: key.environment.clone(),
                credential: Credential::AdditionalKey,
                scopes: key.scopes.clone(),
                expires_at: None,
            },
        })
    }

    async fn public_token(&self, bearer: &str, claimed: Unverified, now: Timestamp) -> Result<Principal> {
        let unknown = || refused(CredentialProblem::UnknownSubject);
        let id = claimed.sub.and_then(|sub| EnvironmentId::parse(&sub).ok()).ok_or_else(unknown)?;
        let environment = self.known_keys.environment(&id, now).await?.ok_or_else(unknown)?;
        let claims = verify_with_any(bearer, &environment, now)?;
        let session = bound_session(&claims)?;
        // After the signature: nobody makes us look for a session without holding a key.
        self.check_not_revoked(&claims, &environment, session.as_ref(), now).await?;
        let one_time = claims
            .otu
            .unwrap_or(false)
            .then(|| OneTimeToken { id: jwt::identity(bearer), expires_at: claims.exp.timestamp() });
        let (credential, expires_at) = (Credential::PublicToken { session, one_time }, Some(claims.exp.timestamp()));
        Ok(Principal { environment: id, credential, scopes: scopes(claims), expires_at })
    }

    async fn check_not_revoked(
        &self,
        claims: &Claims,
        environment: &OpenEnvironment,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<()> {
        // A token that does not say when it was issued counts only where nothing was revoked.
        let issued_at = claims.iat.map(Seconds::timestamp);
        let counts = |not_before: Option<Timestamp>| not_before.is_none() || not_before <= issued_at;
        // What the environment refuses asks for no session: its revocation may meet very many streams at once.
        if counts(environment.row.tokens_not_before) && counts(self.not_before(environment, session, now).await?) {
            return Ok(());
        }
        Err(jwt::invalid())
    }

    /// The later of the two moments a bound token must not be older than.
    async fn not_before(
        &self,
        environment: &OpenEnvironment,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let of_session = match session {
            Some(session) => self.known_keys.session_not_before(session, now).await?,
            None => None,
        };
        Ok(of_session.max(environment.row.tokens_not_before))
    }

    async fn existing(&self, environment: &EnvironmentId, now: Timestamp) -> Result<Arc<OpenEnvironment>> {
        let found = self.known_keys.environment(environment, now).await?;
        found.ok_or_else(|| Error::internal(format!("{environment} does not exist")))
    }
}

#[async_trait]
impl Tokens for Credentials {
    async fn authenticate(&self, bearer: &str) -> Result<Principal> {
        let (bearer, now) = (bearer.trim(), self.clock.now());
        if bearer.is_empty() {
            return Err(refused(CredentialProblem::Missing));
        }
        if bearer.starts_with(run_token::PREFIX) {
            return self.run(bearer, now).await;
        }
        if bearer.starts_with(stream_token::PREFIX) {
            return self.stream(bearer, now).await;
        }
        if bearer.starts_with(waitpoint_token::PREFIX) {
            let (environment, waitpoint) = self.waitpoint_tokens.verify(bearer)?;
            let credential = Credential::WaitpointToken(waitpoint);
            return Ok(Principal { environment, credential, scopes: Vec::new(), expires_at: None });
        }
        if sdk_run_token::is_one(bearer) {
            return self.sdk_run(bearer, now);
        }
        match jwt::peek(bearer) {
            Some(claimed) => self.public_token(bearer, claimed, now).await,
            None => self.key(bearer, now).await,
        }
    }

    fn forget(&self) {
        self.known_keys.invalidate();
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn mint_public(&self, token: NewPublicToken) -> Result<String> {
        let now = self.clock.now();
        let environment = self.existing(&token.environment, now).await?;
        let not_before = self.not_before(&environment, token.session.as_ref(), now).await?;
        let claims = NewClaims {
            sub: token.environment.as_str(),
            scopes: token.scopes.iter().map(Scope::as_str).collect(),
            iat: issued_at(now, not_before),
            exp: Seconds::whole(token.expires_at),
            otu: token.one_time_use,
            jti: if token.one_time_use { Some(keys::new_token_id()?) } else { None },
            realtime: token
                .realtime
                .as_ref()
                .map(|json| RawValue::from_string(json.as_str().to_owned()))
                .transpose()
                .map_err(Error::internal)?,
            ses: token.session.as_ref().map(SessionId::as_str),
        };
        jwt::sign(&claims, &environment.signing_key())
    }

    async fn mint_run(&self, environment: &EnvironmentId, claim: &RunClaim, expires_at: Timestamp) -> Result<String> {
        Ok(self.run_tokens.sign(environment, claim, expires_at))
    }

    async fn mint_sdk_run(
        &self,
        environment: &EnvironmentId,
        claim: &RunClaim,
        expires_at: Timestamp,
    ) -> Result<String> {
        self.sdk_run_tokens.sign(environment, claim, expires_at)
    }

    fn mint_waitpoint(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> String {
        self.waitpoint_tokens.sign(environment, waitpoint)
    }

    async fn mint_stream(
        &self,
        environment: &EnvironmentId,
        claim: &StreamClaim,
        expires_at: Timestamp,
    ) -> Result<String> {
        let token = StreamToken {
            environment: environment.clone(),
            claim: claim.clone(),
            issued_at: self.clock.now(),
            expires_at,
        };
        Ok(self.stream_tokens.sign(&token))
    }
}

impl UrlSigner for Credentials {
    fn sign(&self, grant: &BlobGrant) -> String {
        self.url_tokens.sign(grant)
    }

    fn verify(&self, token: &str) -> Result<BlobGrant> {
        self.url_tokens.verify(token, self.clock.now())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

fn verify_with_any(bearer: &str, environment: &OpenEnvironment, now: Timestamp) -> Result<Claims> {
    environment.verifying_keys(now).find_map(|key| jwt::verify(bearer, key, now).ok()).ok_or_else(jwt::invalid)
}

/// A binding that does not read must not turn into no binding.
fn bound_session(claims: &Claims) -> Result<Option<SessionId>> {
    claims.ses.as_deref().map(SessionId::parse).transpose().map_err(|_| jwt::invalid())
}

/// Scopes that cannot be ones grant nothing.
fn scopes(claims: Claims) -> Vec<Scope> {
    claims.scopes.unwrap_or_default().iter().filter_map(|text| Scope::parse(text).ok()).collect()
}

/// Whole seconds, as every reader expects; to the millisecond only in the second of a revocation, where the whole second
/// would date the token before it.
fn issued_at(now: Timestamp, not_before: Option<Timestamp>) -> Seconds {
    let whole = Seconds::whole(now);
    if not_before <= Some(whole.timestamp()) { whole } else { Seconds::exact(now) }
}

fn check_root_key(root_key: &str) -> Result<()> {
    if keys::is_key(root_key) {
        return Ok(());
    }
    let problem = "must be tr_dev_, tr_stg_, tr_prod_ or tr_preview_ and letters and digits, 128 characters at most";
    Err(Violation::new("root_key", problem).into())
}

fn refused(problem: CredentialProblem) -> Error {
    Error::Unauthenticated(problem)
}

#[cfg(test)]
mod tests;
