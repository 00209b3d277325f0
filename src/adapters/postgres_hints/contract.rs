//! The suites of the ports, on the Postgres that the tests share.

use crate::hints_contract::{self, hints_contract};
use crate::leases_contract::{self, leases_contract};
use crate::{Options, PostgresHints};

hints_contract!(hints, hints_contract, {
    let (one, two) = replicas(&url());
    (one.hints(), two.hints())
});

leases_contract!(leases, leases_contract, {
    let (one, two) = replicas(&url());
    (one.leases(), two.leases())
});

pub(crate) fn url() -> String {
    std::env::var("CONTINUO_TEST_POSTGRES_URL")
        .expect("CONTINUO_TEST_POSTGRES_URL names no Postgres; run: eval \"$(tests/services up)\"")
}

/// Two replicas of a deployment that nobody else has.
pub(crate) fn replicas(url: &str) -> (PostgresHints, PostgresHints) {
    let channel = format!("test \"{:x}\"", getrandom::u64().unwrap());
    let connect = || PostgresHints::connect(Options { url: url.to_owned(), channel: channel.clone() }).unwrap();
    (connect(), connect())
}
