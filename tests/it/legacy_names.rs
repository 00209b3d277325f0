//! Names that were given before they were refused: one that reads like another session's narrowed scope.

use crate::support::{KEY, TestNode, token::scoped};
use continuo_database::{Database, SqlStore};
use continuo_domain::session::{ExternalId, SessionPatch};
use continuo_domain::{SessionId, Timestamp};
use continuo_ports::SessionStore;

/// A node with a session under a name that no route would give it today, and the session's id.
async fn node_with(name: &str) -> (TestNode, String) {
    let mut node = TestNode::start().await;
    let id = node.client().await.create(Some("before")).await.session.unwrap().id;
    let (session, external_id) = (SessionId::parse(&id).unwrap(), ExternalId::trusted(name.to_owned()));
    node.restart_after(async |dir| {
        let database = Database::open(dir.join("continuo.db")).await.unwrap();
        let patch = SessionPatch { external_id: Some(Some(external_id)), ..SessionPatch::default() };
        let store = SqlStore::new(database.clone());
        SessionStore::update(&store, &session, patch, Timestamp(1_800_000_000_000)).await.unwrap();
        database.close().await;
    })
    .await;
    (node, id)
}

#[tokio::test]
async fn a_legacy_name_is_not_opened_by_another_sessions_narrowed_token() {
    for (name, narrowed) in [
        ("X:out", "sessions:X:out"),
        ("X:in", "sessions:X:in"),
        ("X:channels:tools", "sessions:X:channels:tools"),
        ("X:channels:tools:in", "sessions:X:channels:tools"),
    ] {
        let (node, id) = node_with(name).await;
        let encoded = name.replace(':', "%3A");
        let tokens = |scope: &str| scoped(&[format!("read:{scope}"), format!("write:{scope}")]);
        for session in [&encoded, &id] {
            for (bearer, row, out, append) in [
                (tokens(narrowed), 403, 403, 403),
                (tokens(&format!("sessions:{name}")), 403, 403, 403),
                (tokens(&format!("sessions:{id}")), 200, 200, 200),
                (tokens("sessions"), 200, 200, 200),
                (tokens("all"), 200, 200, 200),
                (KEY.to_owned(), 200, 200, 200),
            ] {
                let rest = node.rest_as(&bearer);
                let channel = |rest: &str| format!("/realtime/v1/sessions/{session}/{rest}");
                let found = (
                    rest.get(&format!("/api/v1/sessions/{session}")).await.status,
                    rest.get(&channel("out/records")).await.status,
                    rest.post(&channel("in/append"), "x").await.status,
                );
                assert_eq!(found, (row, out, append), "{name} as {session}");
                assert_eq!(rest.get(&channel("channels/tools/in/records")).await.status, out, "{name} as {session}");
            }
        }
    }
}
