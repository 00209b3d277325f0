//! The suites of the ports, on the Redis that the tests share.

use crate::hints_contract::{self, hints_contract};
use crate::leases_contract::{self, leases_contract};
use crate::waitpoint_registry_contract::{self, waitpoint_registry_contract};
use crate::{Options, Redis};
use std::sync::atomic::{AtomicU32, Ordering};

waitpoint_registry_contract!(registry, waitpoint_registry_contract, replicas().0.registry());

hints_contract!(hints, hints_contract, {
    let (one, two) = replicas();
    (one.hints(), two.hints())
});

leases_contract!(leases, leases_contract, {
    let (one, two) = replicas();
    (one.leases(), two.leases())
});

/// Two replicas of a deployment that nobody else has.
pub(crate) fn replicas() -> (Redis, Redis) {
    let url = std::env::var("CONTINUO_TEST_REDIS_URL")
        .expect("CONTINUO_TEST_REDIS_URL names no Redis; run: eval \"$(tests/services up)\"");
    pair(&url)
}

pub(crate) fn pair(url: &str) -> (Redis, Redis) {
    static DEPLOYMENTS: AtomicU32 = AtomicU32::new(0);
    let deployment = DEPLOYMENTS.fetch_add(1, Ordering::Relaxed);
    let key_prefix = format!("test-{}-{deployment}-{:x}", std::process::id(), getrandom::u64().unwrap());
    let connect = || Redis::connect(Options { url: url.to_owned(), key_prefix: key_prefix.clone() }).unwrap();
    (connect(), connect())
}
