//! The server's own administration: tenants and their keys. Whoever calls here has shown the admin key.

use crate::NewToken;
use continuo_domain::error::Violations;
use continuo_domain::id::{ApiKeyId, OrganizationId, ProjectId};
use continuo_domain::principal::{SCOPES_MAX, Scope};
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_domain::text::bounded;
use continuo_domain::{EnvironmentId, Result, Violation};
use continuo_ports::environments::{ApiKey, Environment};
use continuo_ports::{Clock, Environments, Ids, KeyRing, Tokens};
use std::sync::Arc;
use tracing::info;

/// How long a root key counts after it was replaced: 24 hours.
pub const ROTATED_KEY_MS: u64 = 86_400_000;
/// Life of an environment's token that does not say: 1 hour. A tool gets one for a conversation and never a second.
pub const ENVIRONMENT_TOKEN_MS_DEFAULT: u64 = 3_600_000;
/// Longest name of an environment or a key, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct Administration {
    environments: Arc<dyn Environments>,
    key_ring: Arc<dyn KeyRing>,
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// An environment to be made.
#[derive(Clone, Debug)]
pub struct NewEnvironment {
    /// The project it joins; none makes a new organization and project.
    pub project: Option<ProjectId>,
    /// Its type.
    pub environment_type: EnvironmentType,
    /// 1 to 64 characters.
    pub slug: String,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Where it counts.
    pub environment: EnvironmentId,
    /// 1 to 64 characters.
    pub name: String,
    /// 1 to 256.
    pub scopes: Vec<Scope>,
}

impl Administration {
    /// On the ports it needs.
    pub fn new(
        environments: Arc<dyn Environments>,
        key_ring: Arc<dyn KeyRing>,
        tokens: Arc<dyn Tokens>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Self { environments, key_ring, tokens, clock, ids }
    }

    /// All environments, oldest first.
    pub async fn list_environments(&self) -> Result<Vec<Environment>> {
        self.environments.all().await
    }

    /// Makes an environment. Returns it with its root key.
    pub async fn create_environment(&self, new: NewEnvironment) -> Result<(Environment, String)> {
        bounded("slug", &new.slug, NAME_CHARS_MAX)?;
        let (organization, project) = match &new.project {
            None => (OrganizationId::from_body(&self.ids.next()), ProjectId::from_body(&self.ids.next())),
            Some(project) => (self.organization_of(project, &new.slug).await?, project.clone()),
        };
        let environment = EnvironmentId::from_body(&self.ids.next());
        let tenant = Tenant { organization, project, environment, environment_type: new.environment_type };
        let root_key = self.key_ring.new_root_key(new.environment_type)?;
        let environment = self.key_ring.new_environment(tenant, &new.slug, &root_key)?;
        self.put(environment.clone()).await?;
        info!(environment.id = %environment.tenant.environment, "environment created");
        Ok((environment, root_key))
    }

    /// Replaces the root key; the old one counts for 24 hours more.
    pub async fn rotate_root_key(&self, environment: &EnvironmentId) -> Result<String> {
        let old = self.environment(environment).await?;
        let root_key = self.key_ring.new_root_key(old.tenant.environment_type)?;
        let valid_until = self.clock.now().plus_ms(ROTATED_KEY_MS);
        self.put(self.key_ring.rotate_root_key(old, &root_key, valid_until)?).await?;
        info!(environment.id = %environment, "root key rotated");
        Ok(root_key)
    }

    /// Makes an additional key. Returns its row and the key, which is known this once.
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<(ApiKey, String)> {
        let mut found = Violations::new();
        found.take(bounded("name", &new.name, NAME_CHARS_MAX))?;
        if !(1..=SCOPES_MAX).contains(&new.scopes.len()) {
            found.add("scopes", "must hold 1 to 256 scopes");
        }
        found.finish()?;
        let environment = self.environment(&new.environment).await?;
        let secret = self.key_ring.new_additional_key(environment.tenant.environment_type)?;
        let key = ApiKey {
            id: ApiKeyId::from_body(&self.ids.next()),
            environment: new.environment,
            name: new.name,
            hash: self.key_ring.hash(&secret),
            scopes: new.scopes,
            created_at: self.clock.now(),
            revoked_at: None,
        };
        self.environments.add_key(key.clone()).await?;
        self.key_ring.invalidate();
        info!(environment.id = %key.environment, api_key.id = %key.id, "key created");
        Ok((key, secret))
    }

    /// The additional keys of an environment, oldest first.
    pub async fn list_api_keys(&self, environment: &EnvironmentId) -> Result<Vec<ApiKey>> {
        self.environment(environment).await?;
        self.environments.keys(environment).await
    }

    /// Revokes an additional key.
    pub async fn revoke_api_key(&self, environment: &EnvironmentId, key: &ApiKeyId) -> Result<()> {
        if !self.environments.revoke_key(environment, key, self.clock.now()).await? {
            return Err(Violation::new("api_key_id", "names no key of this environment").into());
        }
        self.key_ring.invalidate();
        info!(environment.id = %environment, api_key.id = %key, "key revoked");
        Ok(())
    }

    /// A public token of an environment, with any scopes.
    pub async fn create_environment_token(&self, environment: &EnvironmentId, new: NewToken) -> Result<String> {
        let environment = self.environment(environment).await?.tenant.environment;
        let token = new.of(environment.clone(), self.clock.now(), ENVIRONMENT_TOKEN_MS_DEFAULT)?;
        let token = self.tokens.mint_public(token).await?;
        info!(environment.id = %environment, "token made with the admin key");
        Ok(token)
    }

    async fn environment(&self, id: &EnvironmentId) -> Result<Environment> {
        let found = self.environments.get(id).await?;
        found.ok_or_else(|| Violation::new("environment_id", "names no environment").into())
    }

    async fn organization_of(&self, project: &ProjectId, slug: &str) -> Result<OrganizationId> {
        let all = self.environments.all().await?;
        let siblings: Vec<_> = all.iter().filter(|e| e.tenant.project == *project).collect();
        if siblings.iter().any(|e| e.slug == slug) {
            return Err(Violation::new("slug", "is taken by another environment of the project").into());
        }
        let organization = siblings.first().map(|e| e.tenant.organization.clone());
        organization.ok_or_else(|| Violation::new("project_id", "names no project").into())
    }

    async fn put(&self, environment: Environment) -> Result<()> {
        self.environments.put(environment, self.clock.now()).await?;
        self.key_ring.invalidate();
        Ok(())
    }
}
