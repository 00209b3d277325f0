//! Environments and keys as the database has them, remembered for less than a second, root keys opened.

use crate::MasterKey;
use crate::cache::Cache;
use crate::keys::{self, KeyHash};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::Environments;
use continuo_ports::environments::{Environment, KeyOwner};
use jsonwebtoken::{DecodingKey, EncodingKey};
use std::sync::Arc;
use subtle::ConstantTimeEq;

const ENTRIES_MAX: usize = 10_000;

/// An environment's secrets, ready for use. No `Debug`: it holds keys in the clear.
pub(crate) struct OpenEnvironment {
    /// The row.
    pub(crate) row: Environment,
    /// What clients authenticate and sign with.
    pub(crate) root_key: String,
    root: DecodingKey,
    rotated: Vec<(DecodingKey, Timestamp)>,
}

impl OpenEnvironment {
    fn open(row: Environment, master_key: &MasterKey) -> Result<Self> {
        let environment = &row.tenant.environment;
        let root_key = open_root_key(master_key, environment, &row.root_key_sealed)?;
        let open_rotated = |key: &continuo_ports::environments::RotatedKey| {
            let opened = open_root_key(master_key, environment, &key.sealed)?;
            Ok((DecodingKey::from_secret(opened.as_bytes()), key.valid_until))
        };
        let rotated = row.rotated.iter().map(open_rotated).collect::<Result<_>>()?;
        Ok(Self { root: DecodingKey::from_secret(root_key.as_bytes()), row, root_key, rotated })
    }

    /// The keys a token may be signed with, the likely one first.
    pub(crate) fn verifying_keys(&self, now: Timestamp) -> impl Iterator<Item = &DecodingKey> {
        let in_grace = self.rotated.iter().filter(move |(_, valid_until)| now < *valid_until);
        std::iter::once(&self.root).chain(in_grace.map(|(key, _)| key))
    }

    pub(crate) fn signing_key(&self) -> EncodingKey {
        EncodingKey::from_secret(self.root_key.as_bytes())
    }
}

/// The database behind a short memory.
pub(crate) struct KnownKeys {
    environments: Arc<dyn Environments>,
    master_key: MasterKey,
    owners: Cache<KeyHash, Arc<KeyOwner>>,
    opened: Cache<EnvironmentId, Arc<OpenEnvironment>>,
    sessions_not_before: Cache<SessionId, Option<Timestamp>>,
}

impl KnownKeys {
    pub(crate) fn new(environments: Arc<dyn Environments>, master_key: MasterKey) -> Self {
        Self {
            environments,
            master_key,
            owners: Cache::new(ENTRIES_MAX),
            opened: Cache::new(ENTRIES_MAX),
            sessions_not_before: Cache::new(ENTRIES_MAX),
        }
    }

    /// Whose key this is, if it counts now.
    pub(crate) async fn owner(&self, key: &str, now: Timestamp) -> Result<Option<Arc<KeyOwner>>> {
        if !keys::is_key(key) {
            return Ok(None);
        }
        let hash = keys::hash(key);
        let load = async { Ok(self.environments.find_key(&hash, now).await?.map(Arc::new)) };
        let owner = self.owners.get_or_load(&hash, now, load).await?;
        // Asked again of a remembered owner: a grace may have ended since.
        Ok(owner.filter(|owner| counts(owner, &hash, now)))
    }

    /// An environment with its secrets opened.
    pub(crate) async fn environment(&self, id: &EnvironmentId, now: Timestamp) -> Result<Option<Arc<OpenEnvironment>>> {
        let load = async {
            let row = self.environments.get(id).await?;
            row.map(|row| OpenEnvironment::open(row, &self.master_key).map(Arc::new)).transpose()
        };
        self.opened.get_or_load(id, now, load).await
    }

    /// The moment before which tokens bound to a session do not count.
    pub(crate) async fn session_not_before(&self, session: &SessionId, now: Timestamp) -> Result<Option<Timestamp>> {
        let load = async { Ok(Some(self.environments.session_tokens_not_before(session).await?)) };
        Ok(self.sessions_not_before.get_or_load(session, now, load).await?.flatten())
    }

    /// Seals a root key so that it opens for this environment only.
    pub(crate) fn seal(&self, root_key: &str, environment: &EnvironmentId) -> Result<Vec<u8>> {
        self.master_key.seal(root_key.as_bytes(), &context(environment))
    }

    pub(crate) fn invalidate(&self) {
        self.owners.invalidate();
        self.opened.invalidate();
        self.sessions_not_before.invalidate();
    }
}

fn open_root_key(master_key: &MasterKey, environment: &EnvironmentId, sealed: &[u8]) -> Result<String> {
    let bytes = master_key.open(sealed, &context(environment))?;
    String::from_utf8(bytes).map_err(Error::internal)
}

fn context(environment: &EnvironmentId) -> String {
    format!("root key of {environment}")
}

fn counts(owner: &KeyOwner, hash: &KeyHash, now: Timestamp) -> bool {
    let is_it = |stored: &[u8]| bool::from(stored.ct_eq(hash));
    match owner {
        KeyOwner::Root(row) => {
            is_it(&row.root_key_hash) || row.rotated.iter().any(|key| is_it(&key.hash) && now < key.valid_until)
        }
        KeyOwner::Additional(key) => is_it(&key.hash) && key.revoked_at.is_none_or(|at| now < at),
    }
}
