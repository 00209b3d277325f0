//! Small memories of what the database said.

use continuo_domain::session::{ExternalId, Session, SessionRef, Tenant};
use continuo_domain::{EnvironmentId, SessionId, Timestamp};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;

/// Entries of each memory. Full ones begin anew: each entry is one look away.
const ENTRIES_MAX: usize = 10_000;
/// How long it is believed where an environment belongs, as long as its keys are.
const TENANT_MS: u64 = 1_000;

fn put<K: Eq + Hash, V>(entries: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut entries = entries.lock();
    if entries.len() >= ENTRIES_MAX {
        entries.clear();
    }
    entries.insert(key, value);
}

/// Which session had a name last. A guess, to be used only where a wrong one costs nothing but time.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<(EnvironmentId, ExternalId), SessionId>>);

impl Names {
    pub(crate) fn guess(&self, environment: &EnvironmentId, asked: &SessionRef) -> Option<SessionId> {
        match asked {
            SessionRef::Id(id) => Some(id.clone()),
            SessionRef::External(name) => self.0.lock().get(&(environment.clone(), name.clone())).cloned(),
        }
    }

    pub(crate) fn learn(&self, asked: &SessionRef, found: &Session) {
        if let SessionRef::External(name) = asked {
            put(&self.0, (found.tenant.environment.clone(), name.clone()), found.id.clone());
        }
    }
}

/// Where environments belong.
#[derive(Default)]
pub(crate) struct Tenants(Mutex<HashMap<EnvironmentId, (Timestamp, Tenant)>>);

impl Tenants {
    pub(crate) fn get(&self, environment: &EnvironmentId, now: Timestamp) -> Option<Tenant> {
        let tenants = self.0.lock();
        let fresh = tenants.get(environment).filter(|(at, _)| *at <= now && now.ms_since(*at) < TENANT_MS);
        fresh.map(|(_, tenant)| tenant.clone())
    }

    pub(crate) fn learn(&self, tenant: Tenant, asked_at: Timestamp) {
        put(&self.0, tenant.environment.clone(), (asked_at, tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::id::{OrganizationId, ProjectId};
    use continuo_domain::session::EnvironmentType;

    fn tenant(environment: &str) -> Tenant {
        Tenant {
            organization: OrganizationId::from_body("o"),
            project: ProjectId::from_body("p"),
            environment: EnvironmentId::from_body(environment),
            environment_type: EnvironmentType::Development,
        }
    }

    #[test]
    fn a_tenant_is_believed_for_less_than_a_second() {
        let tenants = Tenants::default();
        let one = tenant("one");
        tenants.learn(one.clone(), Timestamp(5_000));
        assert_eq!(tenants.get(&one.environment, Timestamp(5_999)), Some(one.clone()));
        assert_eq!(tenants.get(&one.environment, Timestamp(6_000)), None);
        assert_eq!(tenants.get(&one.environment, Timestamp(4_999)), None, "the clock stepped back");
    }

    #[test]
    fn a_memory_never_grows_past_its_bound() {
        let tenants = Tenants::default();
        for n in 0..=ENTRIES_MAX {
            tenants.learn(tenant(&n.to_string()), Timestamp(0));
        }
        assert_eq!(tenants.0.lock().len(), 1);
    }
}
