//! The `KeyRing` port: what administration needs of keys.

use crate::{Credentials, keys};
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_domain::{Result, Timestamp};
use continuo_ports::KeyRing;
use continuo_ports::environments::Environment;

impl KeyRing for Credentials {
    fn new_root_key(&self, environment_type: EnvironmentType) -> Result<String> {
        keys::new_root_key(environment_type)
    }

    fn new_additional_key(&self, environment_type: EnvironmentType) -> Result<String> {
        keys::new_additional_key(environment_type)
    }

    fn hash(&self, key: &str) -> Vec<u8> {
        keys::hash(key).to_vec()
    }

    fn new_environment(&self, tenant: Tenant, slug: &str, root_key: &str) -> Result<Environment> {
        Self::new_environment(self, tenant, slug, root_key)
    }

    fn rotate_root_key(&self, old: Environment, root_key: &str, valid_until: Timestamp) -> Result<Environment> {
        Self::rotate_root_key(self, old, root_key, valid_until)
    }

    fn invalidate(&self) {
        Self::invalidate(self);
    }
}
