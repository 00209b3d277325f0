//! Tenants and their keys.

use async_trait::async_trait;
use continuo_domain::id::ApiKeyId;
use continuo_domain::principal::Scope;
use continuo_domain::session::Tenant;
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp};

/// An environment and what its tokens are checked with.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where it belongs.
    pub tenant: Tenant,
    /// Short name, for example `dev`.
    pub slug: String,
    /// The root key, encrypted by the master key; recoverable, because clients sign tokens with it.
    pub root_key_sealed: Vec<u8>,
    /// SHA-256 of the root key: what a bearer is looked up by.
    pub root_key_hash: Vec<u8>,
    /// Root keys before a rotation, sealed and hashed, each until the end of its grace and for a day after it, so that replicas are
    /// told of its end.
    pub rotated: Vec<RotatedKey>,
    /// Public tokens of this environment issued before this moment are refused.
    pub tokens_not_before: Option<Timestamp>,
}

/// A root key that was replaced.
#[derive(Clone, Debug)]
pub struct RotatedKey {
    /// Sealed, as above.
    pub sealed: Vec<u8>,
    /// Hash, as above.
    pub hash: Vec<u8>,
    /// The end of the grace.
    pub valid_until: Timestamp,
}

/// An additional key: hashed only, with scopes.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// What a person calls it.
    pub name: String,
    /// SHA-256 of the key.
    pub hash: Vec<u8>,
    /// What it may do; `admin` is everything.
    pub scopes: Vec<Scope>,
    /// Creation.
    pub created_at: Timestamp,
    /// Set when it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What a bearer key turned out to be.
#[derive(Clone, Debug)]
pub enum KeyOwner {
    /// The environment's root key, or one in its grace.
    Root(Environment),
    /// An additional key.
    Additional(ApiKey),
}

/// Credentials that ceased to count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which.
    pub what: Revoked,
    /// When, by the clock of whoever revoked them.
    pub at: Timestamp,
}

/// What ceased to count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// Public tokens issued before: all, or those bound to one session.
    Tokens(Option<SessionId>),
    /// An additional key.
    Key(ApiKeyId),
    /// A root key at the end of its grace, with the tokens it signed.
    RootKey,
}

/// Environments and keys. Few rows, read often: callers cache by hash for at most a second.
#[async_trait]
pub trait Environments: Send + Sync + 'static {
    /// Adds an environment with its organization and project rows, or updates the sealed root key of an existing one.
    async fn put(&self, environment: Environment, now: Timestamp) -> Result<()>;

    /// All environments, oldest first.
    async fn all(&self) -> Result<Vec<Environment>>;

    /// One environment.
    async fn get(&self, environment: &EnvironmentId) -> Result<Option<Environment>>;

    /// Who a key with this hash belongs to, if it counts at `now`.
    async fn find_key(&self, hash: &[u8], now: Timestamp) -> Result<Option<KeyOwner>>;

    /// Adds an additional key.
    async fn add_key(&self, key: ApiKey) -> Result<()>;

    /// The additional keys of an environment, oldest first.
    async fn keys(&self, environment: &EnvironmentId) -> Result<Vec<ApiKey>>;

    /// Revokes an additional key. False if there is none.
    async fn revoke_key(&self, environment: &EnvironmentId, key: &ApiKeyId, now: Timestamp) -> Result<bool>;

    /// Refuses public tokens issued before `not_before`: of the whole environment, or those bound to one session.
    async fn revoke_tokens(
        &self,
        environment: &EnvironmentId,
        session: Option<&SessionId>,
        not_before: Timestamp,
    ) -> Result<()>;

    /// The not-before of the tokens bound to a session, if one was set.
    async fn session_tokens_not_before(&self, session: &SessionId) -> Result<Option<Timestamp>>;

    /// What was revoked at or after `since`, and the root keys whose grace ended between `since` and `now`; in no order. What
    /// was revoked twice is told as of the newest time. Asked every second: it costs as much as there is to tell, however
    /// many rows there are.
    async fn revocations(&self, since: Timestamp, now: Timestamp) -> Result<Vec<Revocation>>;
}
