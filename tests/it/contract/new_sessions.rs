//! Sessions to be made, and how a suite becomes tests: what the suites of all adapters share.

use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{EnvironmentType, ExternalId, Json, NewSession, Tenant, TriggerConfig};
use continuo_domain::{EnvironmentId, SessionId, Timestamp};

/// The test's own clock begins here.
pub(crate) const T0: Timestamp = Timestamp(1_700_000_000_000);
pub(crate) const TASK: &str = "chat-agent";

pub(crate) fn after(ms: u64) -> Timestamp {
    T0.plus_ms(ms)
}

pub(crate) fn env() -> EnvironmentId {
    EnvironmentId::from_body("dev")
}

pub(crate) fn other_env() -> EnvironmentId {
    EnvironmentId::from_body("prod")
}

pub(crate) fn tenant(environment: EnvironmentId) -> Tenant {
    Tenant {
        organization: OrganizationId::from_body("o"),
        project: ProjectId::from_body("p"),
        environment,
        environment_type: EnvironmentType::Development,
    }
}

pub(crate) fn name(text: &str) -> ExternalId {
    ExternalId::parse(text).unwrap()
}

pub(crate) fn new_session(body: &str, external_id: Option<&str>) -> NewSession {
    NewSession {
        id: SessionId::from_body(body),
        external_id: external_id.map(name),
        session_type: "chat.agent".into(),
        task_identifier: TASK.into(),
        tenant: tenant(env()),
        trigger_config: TriggerConfig::new(Json::trusted("{}".into())),
        tags: vec![],
        metadata: None,
        is_test: false,
        expires_at: None,
        basin: None,
    }
}

/// One test per promise of a suite; the suites' own macros expand to it, so both must be in scope where one is used.
/// `$new` makes a future of `(ports, guard)`; the guard is dropped after the test.
macro_rules! rows_tests {
    ($new:expr; $($test:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (rows, guard) = $new.await;
                suite::$test(rows).await;
                drop(guard);
            }
        )+
    };
}
pub(crate) use rows_tests;
