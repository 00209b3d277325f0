//! What every `Environments` promises.
//!
//! ```ignore
//! environments_contract!(sqlite, crate::contract::environments, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::id::ApiKeyId;
use continuo_domain::principal::Scope;
use continuo_domain::{EnvironmentId, Error, SessionId};
use continuo_ports::environments::{ApiKey, Environment, KeyOwner, Revocation, Revoked, RotatedKey};

macro_rules! environments_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                an_environment_reads_back_as_it_was_put
                a_rotation_replaces_the_root_key
                a_key_is_found_by_its_hash
                a_hash_belongs_to_one_owner
                a_revoked_key_counts_no_more
                tokens_are_revoked_forward_only
                what_was_revoked_is_told_from_a_moment_on
            }
        }
    };
}
pub(crate) use environments_contract;

fn environment(id: EnvironmentId, key: &[u8]) -> Environment {
    Environment {
        tenant: tenant(id),
        slug: "dev".into(),
        root_key_sealed: [b"sealed ", key].concat(),
        root_key_hash: key.to_vec(),
        rotated: vec![],
        tokens_not_before: None,
    }
}

fn key(body: &str, hash: &[u8]) -> ApiKey {
    ApiKey {
        id: ApiKeyId::from_body(body),
        environment: env(),
        name: "ci".into(),
        hash: hash.to_vec(),
        scopes: vec![Scope::parse("read:sessions").unwrap(), Scope::parse("write:sessions:a:b").unwrap()],
        created_at: T0,
        revoked_at: None,
    }
}

fn print(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

async fn root_of(rows: &Rows, hash: &[u8], ms: u64) -> Option<EnvironmentId> {
    match rows.environments.find_key(hash, after(ms)).await.unwrap() {
        Some(KeyOwner::Root(environment)) => Some(environment.tenant.environment),
        Some(KeyOwner::Additional(key)) => panic!("{key:?}"),
        None => None,
    }
}

pub(crate) async fn an_environment_reads_back_as_it_was_put(rows: Rows) {
    assert!(rows.environments.all().await.unwrap().is_empty());
    let (first, second) = (environment(other_env(), b"1"), environment(env(), b"2"));
    rows.environments.put(first.clone(), after(1)).await.unwrap();
    rows.environments.put(second.clone(), after(2)).await.unwrap();
    assert_eq!(print(&rows.environments.all().await.unwrap()), print(&[first, second.clone()]), "oldest first");
    assert_eq!(print(&rows.environments.get(&env()).await.unwrap()), print(&Some(second)));
    assert!(rows.environments.get(&EnvironmentId::from_body("none")).await.unwrap().is_none());
}

pub(crate) async fn a_rotation_replaces_the_root_key(rows: Rows) {
    rows.environments.put(environment(other_env(), b"0"), T0).await.unwrap();
    rows.environments.put(environment(env(), b"1"), after(1)).await.unwrap();
    rows.environments.revoke_tokens(&env(), None, after(5)).await.unwrap();
    let old = RotatedKey { sealed: b"sealed 1".to_vec(), hash: b"1".to_vec(), valid_until: after(20) };
    let rotated = Environment { rotated: vec![old], ..environment(env(), b"2") };
    rows.environments.put(rotated, after(10)).await.unwrap();
    assert_eq!(root_of(&rows, b"2", 10).await, Some(env()));
    assert_eq!(root_of(&rows, b"1", 19).await, Some(env()), "in its grace");
    assert_eq!(root_of(&rows, b"1", 20).await, None);
    let row = rows.environments.get(&env()).await.unwrap().unwrap();
    assert_eq!((row.root_key_sealed, row.rotated.len()), (b"sealed 2".to_vec(), 1));
    assert_eq!(row.tokens_not_before, Some(after(5)), "a rotation revokes nothing and restores nothing");
    let order: Vec<_> = rows.environments.all().await.unwrap().into_iter().map(|e| e.tenant.environment).collect();
    assert_eq!(order, [other_env(), env()], "it keeps its age");
    rows.environments.put(environment(env(), b"2"), after(30)).await.unwrap();
    assert!(rows.environments.get(&env()).await.unwrap().unwrap().rotated.is_empty());
}

pub(crate) async fn a_key_is_found_by_its_hash(rows: Rows) {
    rows.environments.put(environment(env(), b"root"), T0).await.unwrap();
    rows.environments.add_key(key("b", b"two")).await.unwrap();
    rows.environments.add_key(ApiKey { created_at: after(1), ..key("a", b"one") }).await.unwrap();
    assert_eq!(root_of(&rows, b"root", 0).await, Some(env()));
    match rows.environments.find_key(b"two", T0).await.unwrap() {
        Some(KeyOwner::Additional(found)) => assert_eq!(print(&found), print(&key("b", b"two"))),
        other => panic!("{other:?}"),
    }
    assert!(rows.environments.find_key(b"nobody", T0).await.unwrap().is_none());
    let keys: Vec<_> = rows.environments.keys(&env()).await.unwrap().into_iter().map(|k| k.id.to_string()).collect();
    assert_eq!(keys, ["key_b", "key_a"], "oldest first");
    assert!(rows.environments.keys(&other_env()).await.unwrap().is_empty());
}

pub(crate) async fn a_hash_belongs_to_one_owner(rows: Rows) {
    rows.environments.put(environment(env(), b"root"), T0).await.unwrap();
    let taken = rows.environments.put(environment(other_env(), b"root"), T0).await;
    assert!(matches!(taken, Err(Error::InvalidArgument(_))), "{taken:?}");
    assert!(rows.environments.get(&other_env()).await.unwrap().is_none());
    rows.environments.add_key(key("a", b"one")).await.unwrap();
    let taken = rows.environments.add_key(key("b", b"one")).await;
    assert!(matches!(taken, Err(Error::InvalidArgument(_))), "{taken:?}");
}

pub(crate) async fn a_revoked_key_counts_no_more(rows: Rows) {
    rows.environments.put(environment(env(), b"root"), T0).await.unwrap();
    rows.environments.add_key(key("a", b"one")).await.unwrap();
    let id = ApiKeyId::from_body("a");
    assert!(!rows.environments.revoke_key(&other_env(), &id, after(1)).await.unwrap());
    assert!(rows.environments.find_key(b"one", after(1)).await.unwrap().is_some());
    assert!(rows.environments.revoke_key(&env(), &id, after(2)).await.unwrap());
    assert!(rows.environments.revoke_key(&env(), &id, after(3)).await.unwrap());
    assert!(rows.environments.find_key(b"one", after(2)).await.unwrap().is_none());
    assert_eq!(rows.environments.keys(&env()).await.unwrap()[0].revoked_at, Some(after(2)), "the first one stands");
    assert!(!rows.environments.revoke_key(&env(), &ApiKeyId::from_body("x"), after(2)).await.unwrap());
}

pub(crate) async fn tokens_are_revoked_forward_only(rows: Rows) {
    rows.environments.put(environment(env(), b"root"), T0).await.unwrap();
    let session = rows.session("s", None).await;
    let of_session = async || rows.environments.session_tokens_not_before(&session.id).await.unwrap();
    assert_eq!(of_session().await, None);
    rows.environments.revoke_tokens(&env(), Some(&session.id), after(5)).await.unwrap();
    rows.environments.revoke_tokens(&env(), Some(&session.id), after(3)).await.unwrap();
    assert_eq!(of_session().await, Some(after(5)));
    assert_eq!(rows.environments.get(&env()).await.unwrap().unwrap().tokens_not_before, None, "only the session's");
    rows.sessions.close(&session.id, None, after(6)).await.unwrap();
    rows.sessions.update(&session.id, Default::default(), after(7)).await.unwrap();
    assert_eq!(of_session().await, Some(after(5)), "changes of the session leave it");
    for ms in [7, 4] {
        rows.environments.revoke_tokens(&env(), None, after(ms)).await.unwrap();
    }
    assert_eq!(rows.environments.get(&env()).await.unwrap().unwrap().tokens_not_before, Some(after(7)));
    let elsewhere = rows.environments.revoke_tokens(&other_env(), Some(&session.id), after(9)).await;
    assert!(matches!(elsewhere, Err(Error::SessionNotFound)), "{elsewhere:?}");
    assert_eq!(rows.environments.session_tokens_not_before(&SessionId::from_body("x")).await.unwrap(), None);
}

pub(crate) async fn what_was_revoked_is_told_from_a_moment_on(rows: Rows) {
    let told = async |since, now| {
        let mut told = rows.environments.revocations(after(since), after(now)).await.unwrap();
        told.sort_by_key(|revocation| revocation.at);
        told
    };
    let of =
        |environment: &EnvironmentId, what, ms| Revocation { environment: environment.clone(), what, at: after(ms) };
    let old = |hash: &[u8], ms| RotatedKey { sealed: b"sealed".to_vec(), hash: hash.to_vec(), valid_until: after(ms) };
    rows.environments.put(environment(other_env(), b"other"), T0).await.unwrap();
    rows.environments
        .put(Environment { rotated: vec![old(b"1", 20)], ..environment(env(), b"root") }, T0)
        .await
        .unwrap();
    let (session, untouched) = (rows.session("s", None).await, rows.session("t", None).await);
    for body in ["a", "b"] {
        rows.environments.add_key(key(body, body.as_bytes())).await.unwrap();
    }
    assert_eq!(told(0, 19).await, [], "of what counts nothing is told, {untouched:?}");
    rows.environments.revoke_key(&env(), &ApiKeyId::from_body("a"), after(5)).await.unwrap();
    rows.environments.revoke_tokens(&env(), Some(&session.id), after(7)).await.unwrap();
    rows.environments.revoke_tokens(&other_env(), None, after(9)).await.unwrap();
    let all = [
        of(&env(), Revoked::Key(ApiKeyId::from_body("a")), 5),
        of(&env(), Revoked::Tokens(Some(session.id.clone())), 7),
        of(&other_env(), Revoked::Tokens(None), 9),
        of(&env(), Revoked::RootKey, 20),
    ];
    assert_eq!(told(0, 19).await, all[..3]);
    assert_eq!(told(0, 20).await, all, "the grace has ended");
    assert_eq!(told(7, 100).await, all[1..], "from the moment itself on");
    assert_eq!(told(21, 100).await, []);
    rows.environments.revoke_tokens(&env(), Some(&session.id), after(30)).await.unwrap();
    assert_eq!(told(21, 100).await, [of(&env(), Revoked::Tokens(Some(session.id.clone())), 30)], "once more");
    rows.environments.revoke_tokens(&env(), None, after(200)).await.unwrap();
    assert_eq!(told(100, 100).await, [of(&env(), Revoked::Tokens(None), 200)], "by a clock that is ahead");
}
