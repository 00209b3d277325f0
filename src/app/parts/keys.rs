//! The keys a node begins with: its own, and those of the development environments.

use super::{DataDir, Parts};
use crate::config::{Config, Mode};
use anyhow::{Context, Result};
use continuo_credentials::{MasterKey, keys};
use continuo_domain::EnvironmentId;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_ports::Environments;

/// Slug of the environment a node begins with.
const DEV: &str = "dev";

/// What is sealed in a file of this directory may be opened by another file of it; for Postgres the settings have been
/// refused without a key.
pub(super) fn master_key(config: &Config, data_dir: &DataDir) -> Result<MasterKey> {
    match &config.keys.master_key {
        Some(key) => Ok(MasterKey::from_base64(key.expose())?),
        None => MasterKey::load_or_create(&data_dir.master_key()).context("cannot read the master key"),
    }
}

impl Parts {
    pub(in crate::app) fn admin_key(&self, config: &Config) -> Result<String> {
        match &config.keys.admin_key {
            Some(key) => Ok(key.expose().to_owned()),
            None => self.data_dir.admin_key(|| Ok(keys::new_personal_token()?)),
        }
    }

    /// The dev environments. The first one is there always, so that there is a key to begin with, but for a server on Postgres:
    /// replicas that start at once would each make another key, so there it is made where the settings name its key. The
    /// second one is made where it was asked for. A key from the settings replaces the stored one.
    pub(in crate::app) async fn put_dev_environments(&self, config: &Config) -> Result<()> {
        let is_own = config.database.url.is_none();
        let first = config.keys.dev_secret_key.as_ref().map(|key| key.expose());
        if first.is_some() || is_own || config.mode == Mode::Dev {
            let key = self.put_dev_environment(DEV, first).await?;
            if is_own {
                self.data_dir.put_dev_key(&key)?;
            }
        }
        if let Some(key) = &config.keys.dev_secret_key_2 {
            self.put_dev_environment("dev2", Some(key.expose())).await?;
        }
        Ok(())
    }

    /// The root key of the dev environment.
    pub(in crate::app) async fn dev_key(&self) -> Result<String> {
        Ok(self.credentials.root_key(&EnvironmentId::from_body(DEV)).await?)
    }

    async fn put_dev_environment(&self, slug: &str, wanted: Option<&str>) -> Result<String> {
        let id = EnvironmentId::from_body(slug);
        let row = self.store.get(&id).await?;
        let stored = match &row {
            Some(_) => Some(self.credentials.root_key(&id).await?),
            None => None,
        };
        let key = match (wanted, &stored) {
            (Some(wanted), _) => wanted.to_owned(),
            (None, Some(stored)) => stored.clone(),
            (None, None) => keys::new_root_key(EnvironmentType::Development)?,
        };
        if stored.as_ref() != Some(&key) {
            let now = self.time.clock().now();
            let tenant = Tenant {
                organization: OrganizationId::from_body("dev"),
                project: ProjectId::from_body("dev"),
                environment: id,
                environment_type: EnvironmentType::Development,
            };
            let environment = match row {
                // Without grace, and kept all the same: replicas are told of its end, for the streams that it opened.
                Some(row) => self.credentials.rotate_root_key(row, &key, now)?,
                None => self.credentials.new_environment(tenant, slug, &key)?,
            };
            self.store.put(environment, now).await?;
            self.credentials.invalidate();
        }
        Ok(key)
    }
}
