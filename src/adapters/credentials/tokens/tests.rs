use super::*;
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use continuo_domain::RunId;
use continuo_domain::id::{ApiKeyId, OrganizationId, ProjectId};
use continuo_domain::session::EnvironmentType;
use continuo_ports::environments::{ApiKey, Revocation};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

const START_MS: i64 = 1_700_000_000_250;
const ROOT_KEY: &str = "tr_dev_aaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER_ROOT_KEY: &str = "tr_dev_bbbbbbbbbbbbbbbbbbbbbbbb";
const NEW_ROOT_KEY: &str = "tr_dev_cccccccccccccccccccccccc";
const ADDITIONAL_KEY: &str = "tr_dev_sk_dddddddddddddddddddddddd";

/// The database as a map, and a count of how often it was asked.
#[derive(Default)]
struct Rows {
    environments: Mutex<HashMap<String, Environment>>,
    keys: Mutex<Vec<ApiKey>>,
    sessions: Mutex<HashMap<String, Timestamp>>,
    reads: AtomicUsize,
}

impl Rows {
    fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Environments for Rows {
    async fn put(&self, environment: Environment, _: Timestamp) -> Result<()> {
        self.environments.lock().insert(environment.tenant.environment.to_string(), environment);
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Environment>> {
        Ok(self.environments.lock().values().cloned().collect())
    }

    async fn get(&self, environment: &EnvironmentId) -> Result<Option<Environment>> {
        self.read();
        Ok(self.environments.lock().get(environment.as_str()).cloned())
    }

    // Answers with whatever has the hash, revoked or not: what counts is then decided by the code under test.
    async fn find_key(&self, hash: &[u8], _: Timestamp) -> Result<Option<KeyOwner>> {
        self.read();
        let has = |e: &&Environment| e.root_key_hash == hash || e.rotated.iter().any(|key| key.hash == hash);
        let root = self.environments.lock().values().find(has).cloned().map(KeyOwner::Root);
        let additional = || self.keys.lock().iter().find(|key| key.hash == hash).cloned().map(KeyOwner::Additional);
        Ok(root.or_else(additional))
    }

    async fn add_key(&self, key: ApiKey) -> Result<()> {
        self.keys.lock().push(key);
        Ok(())
    }

    async fn keys(&self, _: &EnvironmentId) -> Result<Vec<ApiKey>> {
        Ok(self.keys.lock().clone())
    }

    async fn revoke_key(&self, _: &EnvironmentId, id: &ApiKeyId, now: Timestamp) -> Result<bool> {
        let mut keys = self.keys.lock();
        let found = keys.iter_mut().find(|key| key.id == *id);
        Ok(found.map(|key| key.revoked_at = Some(now)).is_some())
    }

    async fn revoke_tokens(
        &self,
        id: &EnvironmentId,
        session: Option<&SessionId>,
        not_before: Timestamp,
    ) -> Result<()> {
        match session {
            Some(session) => drop(self.sessions.lock().insert(session.to_string(), not_before)),
            None => {
                let mut environments = self.environments.lock();
                environments.get_mut(id.as_str()).unwrap().tokens_not_before = Some(not_before);
            }
        }
        Ok(())
    }

    async fn session_tokens_not_before(&self, session: &SessionId) -> Result<Option<Timestamp>> {
        self.read();
        Ok(self.sessions.lock().get(session.as_str()).copied())
    }

    async fn revocations(&self, _: Timestamp, _: Timestamp) -> Result<Vec<Revocation>> {
        unreachable!("whoever holds streams open asks for them")
    }
}

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    rows: Arc<Rows>,
    clock: Arc<SetClock>,
    credentials: Credentials,
}

impl World {
    /// Two environments, and an additional key of the first.
    async fn new() -> Self {
        let (rows, clock) = (Arc::new(Rows::default()), Arc::new(SetClock(AtomicI64::new(START_MS))));
        let master_key = MasterKey::from_base64(&STANDARD.encode([9; 32])).unwrap();
        let credentials = Credentials::new(rows.clone(), clock.clone(), master_key);
        for (id, key) in [("e1", ROOT_KEY), ("e2", OTHER_ROOT_KEY)] {
            let environment = credentials.new_environment(tenant(id), "dev", key).unwrap();
            rows.put(environment, clock.now()).await.unwrap();
        }
        let additional = ApiKey {
            id: ApiKeyId::from_body("k1"),
            environment: environment(),
            name: "ci".into(),
            hash: keys::hash(ADDITIONAL_KEY).to_vec(),
            scopes: vec![Scope::parse("read:sessions").unwrap()],
            created_at: clock.now(),
            revoked_at: None,
        };
        rows.add_key(additional).await.unwrap();
        Self { rows, clock, credentials }
    }

    fn pass_ms(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    fn now_s(&self) -> i64 {
        self.clock.now().0 / 1_000
    }

    fn reads(&self) -> usize {
        self.rows.reads.load(Ordering::Relaxed)
    }

    /// The claims of a good token, as a client's library makes them.
    fn claims(&self) -> Value {
        json!({
            "sub": "env_e1", "pub": true, "scopes": ["read:sessions:chat-1"],
            "iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev",
            "iat": self.now_s(), "exp": self.now_s() + 900,
        })
    }

    fn claims_but(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    fn claims_without(&self, name: &str) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn token(&self) -> String {
        signed(&self.claims(), ROOT_KEY)
    }

    async fn rotate(&self, grace_ms: u64) {
        let old = self.rows.get(&environment()).await.unwrap().unwrap();
        let now = self.clock.now();
        let new = self.credentials.rotate_root_key(old, NEW_ROOT_KEY, now.plus_ms(grace_ms)).unwrap();
        self.rows.put(new, now).await.unwrap();
        self.credentials.invalidate();
    }

    async fn principal(&self, bearer: &str) -> Principal {
        self.credentials.authenticate(bearer).await.unwrap()
    }

    async fn problem(&self, bearer: &str) -> CredentialProblem {
        match self.credentials.authenticate(bearer).await {
            Err(Error::Unauthenticated(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    async fn mint(&self, session: Option<SessionId>, one_time_use: bool) -> String {
        let token = NewPublicToken {
            environment: environment(),
            scopes: vec![Scope::parse("read:sessions:chat-1").unwrap(), Scope::parse("write:sessions:chat-1").unwrap()],
            session,
            expires_at: self.clock.now().plus_ms(3_600_000),
            one_time_use,
            realtime: None,
        };
        self.credentials.mint_public(token).await.unwrap()
    }
}

fn environment() -> EnvironmentId {
    EnvironmentId::from_body("e1")
}

fn tenant(environment: &str) -> Tenant {
    Tenant {
        organization: OrganizationId::from_body("o1"),
        project: ProjectId::from_body("p1"),
        environment: EnvironmentId::from_body(environment),
        environment_type: EnvironmentType::Development,
    }
}

fn session() -> SessionId {
    SessionId::from_body("s1")
}

fn claim() -> RunClaim {
    RunClaim { run: RunId::from_body("r1"), session: Some(session()), version: 2, lease: 5 }
}

/// HS256 by hand, as the client's library does it: header without `typ`.
fn signed(claims: &Value, key: &str) -> String {
    signed_with_header(&json!({"alg": "HS256"}), claims, key)
}

fn signed_with_header(header: &Value, claims: &Value, key: &str) -> String {
    let message = format!("{}.{}", base64_of(header), base64_of(claims));
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap().chain_update(&message);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn base64_of(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn keys_tell_who_is_calling() {
    let world = World::new().await;
    let root = world.principal(ROOT_KEY).await;
    assert_eq!((root.environment, root.credential, root.scopes.len()), (environment(), Credential::RootKey, 0));
    let additional = world.principal(&format!(" {ADDITIONAL_KEY} ")).await;
    assert_eq!((additional.environment, additional.credential), (environment(), Credential::AdditionalKey));
    assert_eq!(additional.scopes, [Scope::parse("read:sessions").unwrap()]);
}

#[tokio::test]
async fn unknown_and_missing_keys_are_refused() {
    let world = World::new().await;
    for nothing in ["", "  "] {
        assert_eq!(world.problem(nothing).await, CredentialProblem::Missing);
    }
    for unknown in ["tr_dev_zzzzzzzzzzzzzzzzzzzzzzzz", "nonsense", "a.b.c", "Bearer x", "tr_dev_"] {
        assert_eq!(world.problem(unknown).await, CredentialProblem::UnknownKey, "{unknown}");
    }
    assert_eq!(world.reads(), 1, "only what looks like a key is looked up");
    let private = signed(&world.claims_but("pub", json!(false)), ROOT_KEY);
    assert_eq!(world.problem(&private).await, CredentialProblem::UnknownKey);
}

#[tokio::test]
async fn a_token_a_client_signed_is_accepted() {
    let world = World::new().await;
    let principal = world.principal(&world.token()).await;
    assert_eq!(principal.environment, environment());
    assert_eq!(principal.credential, Credential::PublicToken { session: None, one_time: None });
    assert_eq!(principal.scopes, [Scope::parse("read:sessions:chat-1").unwrap()]);

    let mut rich = world.claims();
    for (name, value) in [("realtime", json!({"skipColumns": []})), ("act", json!({"sub": "u"})), ("otu", json!(true))]
    {
        rich[name] = value;
    }
    rich["aud"] = json!(["https://else.where", "https://api.trigger.dev"]);
    world.principal(&signed_with_header(&json!({"alg": "HS256", "typ": "JWT"}), &rich, ROOT_KEY)).await;
}

#[tokio::test]
async fn scopes_that_are_absent_or_cannot_be_ones_grant_nothing() {
    let world = World::new().await;
    assert!(world.principal(&signed(&world.claims_without("scopes"), ROOT_KEY)).await.scopes.is_empty());
    let odd = world.claims_but("scopes", json!(["", "x".repeat(2_049), "read:runs"]));
    assert_eq!(world.principal(&signed(&odd, ROOT_KEY)).await.scopes, [Scope::parse("read:runs").unwrap()]);
    let wrong = signed(&world.claims_but("scopes", json!("admin")), ROOT_KEY);
    assert_eq!(world.problem(&wrong).await, CredentialProblem::InvalidToken);
}

#[tokio::test]
async fn a_token_ends_on_the_second() {
    let world = World::new().await;
    let token = signed(&world.claims_but("exp", json!(world.now_s() + 1)), ROOT_KEY);
    world.pass_ms(749);
    world.principal(&token).await;
    world.pass_ms(1);
    assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken, "no leeway");
}

#[tokio::test]
async fn broken_claims_are_refused() {
    let world = World::new().await;
    let now_s = world.now_s();
    for (name, value) in [
        ("exp", json!(now_s - 1)),
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("exp", Value::Null),
        ("nbf", json!(now_s + 60)),
        ("iss", json!("https://id.example.com")),
        ("iss", json!(["https://id.trigger.dev"])),
        ("aud", json!("https://api.example.com")),
        ("aud", json!([])),
        ("iat", json!("yesterday")),
        ("ses", json!("not an id")),
        ("ses", json!(7)),
    ] {
        let token = signed(&world.claims_but(name, value.clone()), ROOT_KEY);
        assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken, "{name}: {value}");
    }
    for name in ["exp", "iss", "aud"] {
        let token = signed(&world.claims_without(name), ROOT_KEY);
        assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken, "no {name}");
    }
}

#[tokio::test]
async fn a_subject_nobody_knows_is_refused() {
    let world = World::new().await;
    for sub in [json!("env_unknown"), json!("e1"), json!(""), json!(7), json!("env_e1'--"), Value::Null] {
        let token = signed(&world.claims_but("sub", sub.clone()), ROOT_KEY);
        assert_eq!(world.problem(&token).await, CredentialProblem::UnknownSubject, "{sub}");
    }
    let token = signed(&world.claims_without("sub"), ROOT_KEY);
    assert_eq!(world.problem(&token).await, CredentialProblem::UnknownSubject);
}

#[tokio::test]
async fn forged_signatures_are_refused() {
    let world = World::new().await;
    let token = world.token();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let more = world.claims_but("scopes", json!(["admin"]));
    let tampered = format!("{}.{}.{signature}", base64_of(&json!({"alg": "HS256"})), base64_of(&more));
    for forged in [
        tampered,
        format!("{message}."),
        format!("{message}.{}", &signature[1..]),
        format!("{message}.{signature}A"),
        format!("{message}.{signature}="),
        signed(&world.claims(), OTHER_ROOT_KEY),
        signed(&world.claims(), ""),
        signed(&world.claims(), ADDITIONAL_KEY),
    ] {
        assert_eq!(world.problem(&forged).await, CredentialProblem::InvalidToken, "{forged}");
    }
}

#[tokio::test]
async fn no_other_algorithm_is_taken() {
    let world = World::new().await;
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "hs256"}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "PS256"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": ["HS256"]}),
        json!({"typ": "JWT"}),
        json!({}),
        json!({"alg": "HS256", "crit": ["exp"]}),
    ] {
        let token = signed_with_header(&header, &world.claims(), ROOT_KEY);
        assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken, "{header}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(world.problem(&unsigned).await, CredentialProblem::InvalidToken, "{header}, unsigned");
    }
}

#[tokio::test]
async fn every_changed_character_of_a_token_is_noticed() {
    let world = World::new().await;
    let run = world.credentials.mint_run(&environment(), &claim(), world.clock.now().plus_ms(1_000)).await.unwrap();
    for token in [world.token(), world.mint(Some(session()), false).await, run, ROOT_KEY.into(), ADDITIONAL_KEY.into()]
    {
        world.principal(&token).await;
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(world.credentials.authenticate(&changed).await.is_err(), "{changed}");
        }
    }
}

#[tokio::test]
async fn a_rotated_key_counts_until_its_grace_ends() {
    let world = World::new().await;
    let old_token = world.token();
    world.rotate(60_000).await;
    let new_token = signed(&world.claims(), NEW_ROOT_KEY);
    for bearer in [ROOT_KEY, NEW_ROOT_KEY, &old_token, &new_token] {
        world.principal(bearer).await;
    }
    assert_eq!(world.credentials.root_key(&environment()).await.unwrap(), NEW_ROOT_KEY);
    let late = signed(&world.claims(), ROOT_KEY);
    world.pass_ms(59_999);
    world.principal(&late).await;
    world.principal(ROOT_KEY).await;
    let reads = world.reads();
    world.pass_ms(1);
    assert_eq!(world.problem(ROOT_KEY).await, CredentialProblem::UnknownKey);
    assert_eq!(world.problem(&late).await, CredentialProblem::InvalidToken);
    assert_eq!(world.reads(), reads, "and that from memory");
    world.principal(&new_token).await;
}

#[tokio::test]
async fn a_second_rotation_keeps_the_first_grace() {
    let world = World::new().await;
    world.rotate(60_000).await;
    let old = world.rows.get(&environment()).await.unwrap().unwrap();
    let until = world.clock.now().plus_ms(10);
    let twice = world.credentials.rotate_root_key(old.clone(), "tr_dev_eeeeeeeeeeeeeeee", until).unwrap();
    assert_eq!(twice.rotated.len(), 2);
    world.pass_ms(60_000);
    let thrice = world.credentials.rotate_root_key(twice.clone(), "tr_dev_ffffffffffffffff", until).unwrap();
    assert_eq!(thrice.rotated.len(), 3, "what is past its grace is kept for a day, to be told of");
    world.pass_ms(86_400_000);
    let late = world.credentials.rotate_root_key(twice, "tr_dev_ffffffffffffffff", until).unwrap();
    assert_eq!(late.rotated.len(), 1);
    assert!(world.credentials.rotate_root_key(old, "no key", until).is_err());
}

#[tokio::test]
async fn a_revoked_key_stops_within_a_second() {
    let world = World::new().await;
    world.principal(ADDITIONAL_KEY).await;
    world.rows.revoke_key(&environment(), &ApiKeyId::from_body("k1"), world.clock.now()).await.unwrap();
    world.principal(ADDITIONAL_KEY).await;
    world.pass_ms(1_000);
    assert_eq!(world.problem(ADDITIONAL_KEY).await, CredentialProblem::UnknownKey);
}

#[tokio::test]
async fn after_an_invalidation_a_revocation_counts_at_once() {
    let world = World::new().await;
    let token = world.token();
    world.principal(ADDITIONAL_KEY).await;
    world.principal(&token).await;
    world.pass_ms(1);
    world.rows.revoke_key(&environment(), &ApiKeyId::from_body("k1"), world.clock.now()).await.unwrap();
    world.rows.revoke_tokens(&environment(), None, world.clock.now()).await.unwrap();
    world.credentials.invalidate();
    assert_eq!(world.problem(ADDITIONAL_KEY).await, CredentialProblem::UnknownKey);
    assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken);
    world.principal(ROOT_KEY).await;
}

#[tokio::test]
async fn revoked_tokens_stop_within_a_second_and_new_ones_count() {
    let world = World::new().await;
    let (token, undated) = (world.token(), signed(&world.claims_without("iat"), ROOT_KEY));
    world.principal(&token).await;
    world.principal(&undated).await;
    world.rows.revoke_tokens(&environment(), None, world.clock.now()).await.unwrap();
    world.pass_ms(1_000);
    assert_eq!(world.problem(&token).await, CredentialProblem::InvalidToken);
    assert_eq!(world.problem(&undated).await, CredentialProblem::InvalidToken, "a token without a date may be old");
    world.principal(&world.token()).await;
    world.principal(&world.mint(None, false).await).await;
}

#[tokio::test]
async fn a_token_minted_in_the_second_of_a_revocation_counts() {
    let world = World::new().await;
    let before = world.mint(Some(session()), false).await;
    assert!(payload(&before)["iat"].is_i64(), "whole seconds otherwise");
    world.pass_ms(1);
    world.rows.revoke_tokens(&environment(), Some(&session()), world.clock.now()).await.unwrap();
    world.credentials.invalidate();
    let after = world.mint(Some(session()), false).await;
    assert_eq!(world.problem(&before).await, CredentialProblem::InvalidToken);
    world.principal(&after).await;
    assert_eq!(payload(&after)["iat"], json!((START_MS + 1) as f64 / 1_000.0));
}

#[tokio::test]
async fn revoking_a_session_stops_its_bound_tokens_only() {
    let world = World::new().await;
    let bound = world.mint(Some(session()), false).await;
    let other = world.mint(Some(SessionId::from_body("s2")), false).await;
    let unbound = world.mint(None, false).await;
    world.pass_ms(5_000);
    world.rows.revoke_tokens(&environment(), Some(&session()), world.clock.now()).await.unwrap();
    world.pass_ms(1_000);
    assert_eq!(world.problem(&bound).await, CredentialProblem::InvalidToken);
    world.principal(&other).await;
    world.principal(&unbound).await;
    let again = world.mint(Some(session()), false).await;
    assert_eq!(
        world.principal(&again).await.credential,
        Credential::PublicToken { session: Some(session()), one_time: None }
    );
}

#[tokio::test]
async fn a_minted_token_is_what_clients_expect() {
    let world = World::new().await;
    let token = world.mint(Some(session()), true).await;
    let header = token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header, json!({"alg": "HS256", "typ": "JWT"}));
    let now_s = world.now_s();
    let expected = json!({
        "sub": "env_e1", "pub": true, "scopes": ["read:sessions:chat-1", "write:sessions:chat-1"],
        "iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev",
        "iat": now_s, "exp": now_s + 3_600, "otu": true, "ses": "session_s1", "jti": payload(&token)["jti"],
    });
    assert_eq!(payload(&token), expected);
    let twin = world.mint(Some(session()), true).await;
    assert!(payload(&token)["jti"].is_string() && twin != token, "two that count once are two");
    assert_eq!(signed_with_header(&header, &payload(&token), ROOT_KEY).len(), token.len());
    let plain = payload(&world.mint(None, false).await);
    assert!(plain.get("otu").is_none() && plain.get("ses").is_none());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(ROOT_KEY.as_bytes()).unwrap().chain_update(message);
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn a_run_is_known_by_its_token_until_it_ends() {
    let world = World::new().await;
    let token = world.credentials.mint_run(&environment(), &claim(), world.clock.now().plus_ms(5_000)).await.unwrap();
    let principal = world.principal(&token).await;
    assert_eq!((principal.environment.clone(), principal.run()), (environment(), Some(&claim())));
    world.rotate(0).await;
    world.principal(&token).await;
    assert_eq!(world.problem("tr_run_forged.forged").await, CredentialProblem::InvalidRunToken);
    world.pass_ms(5_000);
    assert_eq!(world.problem(&token).await, CredentialProblem::InvalidRunToken);
    assert_eq!(world.reads(), 1, "run tokens are read without the database; the one read is the rotation's");
}

#[tokio::test]
async fn a_second_costs_one_look_up_each() {
    let world = World::new().await;
    let bound = world.mint(Some(session()), false).await;
    world.credentials.invalidate();
    let reads = world.reads();
    for _ in 0..100 {
        world.principal(ROOT_KEY).await;
        world.principal(&bound).await;
    }
    assert_eq!(world.reads() - reads, 3, "the key, the environment, the session's revocation");
    world.pass_ms(1_000);
    world.principal(ROOT_KEY).await;
    assert_eq!(world.reads() - reads, 4);
}

#[tokio::test]
async fn a_root_key_moved_to_another_row_does_not_open() {
    let world = World::new().await;
    let sealed = world.rows.get(&EnvironmentId::from_body("e2")).await.unwrap().unwrap().root_key_sealed;
    world.rows.environments.lock().get_mut("env_e1").unwrap().root_key_sealed = sealed;
    let failed = world.credentials.authenticate(&signed(&world.claims(), OTHER_ROOT_KEY)).await;
    assert!(matches!(failed, Err(Error::Damaged(_))));
    world.principal(ROOT_KEY).await;
}

#[tokio::test]
async fn root_keys_are_nowhere_in_the_clear() {
    let world = World::new().await;
    let row = world.rows.get(&environment()).await.unwrap().unwrap();
    assert!(!row.root_key_sealed.windows(8).any(|part| ROOT_KEY.as_bytes().windows(8).any(|key| key == part)));
    assert_eq!(world.credentials.root_key(&environment()).await.unwrap(), ROOT_KEY);
    assert_eq!(format!("{:?}", world.credentials), "Credentials(..)");
    let unknown = world.credentials.root_key(&EnvironmentId::from_body("none")).await;
    assert!(matches!(unknown, Err(Error::Internal(_))));
    let unusable = world.credentials.new_environment(tenant("e3"), "dev", "hunter2");
    assert!(matches!(unusable, Err(Error::InvalidArgument(_))));
}

/// Anything at all: plain text, texts that start like something, and three parts that decode.
fn bearers() -> impl Strategy<Value = String> {
    let part = any::<Vec<u8>>().prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let json = "\\{\"(alg|pub|sub|exp)\":(true|1|\"HS256\"|\"env_e1\")(,\"(pub|sub)\":(true|\"env_e1\"))?\\}";
    let decodable = (json, json, part).prop_map(|(header, claims, signature)| {
        format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    });
    prop_oneof![
        any::<String>(),
        "tr_(run|dev|prod_sk)_[0-9a-zA-Z._=-]{0,60}",
        "[!-~]{0,40}(\\.[!-~]{0,40}){2}",
        decodable
    ]
}

#[test]
fn nothing_random_authenticates_or_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = runtime.block_on(World::new());
    proptest!(ProptestConfig::with_cases(2_000), |(bearer in bearers())| {
        let answer = runtime.block_on(world.credentials.authenticate(&bearer));
        prop_assert!(matches!(answer, Err(Error::Unauthenticated(_))), "{answer:?}");
    });
}

#[tokio::test]
async fn a_change_made_here_is_told_once_however_many_there_were() {
    let world = World::new().await;
    world.credentials.invalidate();
    world.credentials.invalidate();
    let changed = || tokio::time::timeout(std::time::Duration::from_millis(1), world.credentials.changed());
    assert!(changed().await.is_ok());
    assert!(changed().await.is_err());
    world.credentials.forget();
    assert!(changed().await.is_err(), "what was made elsewhere is known to who says so");
}
