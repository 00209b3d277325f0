//! Bearer tokens: checked and minted.

use async_trait::async_trait;
use continuo_domain::principal::{Principal, RunClaim, Scope, StreamClaim};
use continuo_domain::session::Json;
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp, WaitpointId};

/// A public token to be minted.
#[derive(Clone, Debug)]
pub struct NewPublicToken {
    /// Whose environment signs it.
    pub environment: EnvironmentId,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The one session it is bound to.
    pub session: Option<SessionId>,
    /// Its end.
    pub expires_at: Timestamp,
    /// It is consumed by its first trigger.
    pub one_time_use: bool,
    /// The claim `realtime`: a JSON object.
    pub realtime: Option<Json>,
}

/// Who a bearer is; tokens for others.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// Whose token this is: a key, a public token, a run token or a stream token. `Unauthenticated` says which check it failed.
    async fn authenticate(&self, bearer: &str) -> Result<Principal>;

    /// Forgets what is remembered of the database, because something was revoked there: who is asked about next is looked up.
    fn forget(&self);

    /// Ends when credentials were changed in this process since it last ended; once however many were.
    async fn changed(&self);

    /// Mints a public token signed with the environment's root key.
    async fn mint_public(&self, token: NewPublicToken) -> Result<String>;

    /// Mints a run's own token: opaque, `tr_run_…`, good until `expires_at`.
    async fn mint_run(&self, environment: &EnvironmentId, claim: &RunClaim, expires_at: Timestamp) -> Result<String>;

    /// Mints a run's token in the form that SDKs take from their environment. It says that it is a run's and carries the scope
    /// `admin`: beyond its own session it stands in for a key.
    async fn mint_sdk_run(
        &self,
        environment: &EnvironmentId,
        claim: &RunClaim,
        expires_at: Timestamp,
    ) -> Result<String>;

    /// The token in a waitpoint's URL: opaque, `tr_wait_…`, always the same.
    fn mint_waitpoint(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> String;

    /// Mints the credential of one channel: opaque, `tr_stream_…`, good until `expires_at`. One stamped for the holder of a
    /// public token is revoked together with public tokens.
    async fn mint_stream(
        &self,
        environment: &EnvironmentId,
        claim: &StreamClaim,
        expires_at: Timestamp,
    ) -> Result<String>;
}
