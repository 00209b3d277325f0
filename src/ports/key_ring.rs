//! The making of keys, for whoever administers environments.

use crate::environments::Environment;
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_domain::{Result, Timestamp};

/// Makes keys and seals them. Stores nothing.
pub trait KeyRing: Send + Sync + 'static {
    /// A fresh root key for an environment of this type.
    fn new_root_key(&self, environment_type: EnvironmentType) -> Result<String>;

    /// A fresh additional key for an environment of this type.
    fn new_additional_key(&self, environment_type: EnvironmentType) -> Result<String>;

    /// What is stored of a key: what a bearer is looked up by.
    fn hash(&self, key: &str) -> Vec<u8>;

    /// A new environment with its root key sealed and hashed, ready to be put.
    fn new_environment(&self, tenant: Tenant, slug: &str, root_key: &str) -> Result<Environment>;

    /// The same environment with another root key, ready to be put; the old one counts until `valid_until`.
    fn rotate_root_key(&self, old: Environment, root_key: &str, valid_until: Timestamp) -> Result<Environment>;

    /// To be called after a change is committed: what is remembered of the database in this process is forgotten, so that
    /// the change counts at once, also for what is open. Other processes see it within a second.
    fn invalidate(&self);
}
