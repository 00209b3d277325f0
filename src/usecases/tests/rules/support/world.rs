//! One node in a temporary directory, and what tests ask of it.

use super::gated::Gated;
use super::{Gates, Ledger, Replicas, RunningRun, TestClock, TestWorker, append, input, named, output, text};
use continuo_blob_files::BlobFiles;
use continuo_credentials::{Credentials, MasterKey, keys};
use continuo_database::{Database, SqlStore};
use continuo_domain::channel::{Appended, ChannelKey, Direction, Fence, NewRecord, ReadFrom, Record};
use continuo_domain::id::{ApiKeyId, OrganizationId, ProjectId};
use continuo_domain::principal::{Credential, Principal, Scope};
use continuo_domain::run::{Run, RunCommand, RunStatus};
use continuo_domain::session::{EnvironmentType, ExternalId, Json, Session, SessionRef, Tenant, TriggerConfig};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId};
use continuo_embedded_log::{EmbeddedLog, Options, SEGMENT_BYTES_MIN};
use continuo_in_process::{InProcessRegistry, TimeOrderedIds};
use continuo_ports::environments::ApiKey;
use continuo_ports::run_store::{PageFrom, RunFilter};
use continuo_ports::{
    ChannelStore, Clock, Environments, KeyRing, RunStore, SessionStore, WaitpointRegistry, WorkerStore,
};
use continuo_usecases::{Core, CreateSession, CreatedSession, Ports, Settings};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The task of the sessions made here.
pub(crate) const TASK: &str = "chat";

/// A node whose every part a test can reach, past the gates too.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) gates: Gates,
    /// Those of the environments and keys.
    pub(crate) key_gates: Gates,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) store: Arc<SqlStore>,
    pub(crate) log: Arc<EmbeddedLog>,
    /// What the cores write to where the log is a shared one.
    pub(crate) ledger: Ledger,
    is_shared: bool,
    registry: Arc<InProcessRegistry>,
    pub(crate) blobs: Arc<BlobFiles>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) stopping: CancellationToken,
    /// The root key of the environment most tests live in.
    pub(crate) key: Principal,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::open(settings, false).await
    }

    /// With a log that asks for claims and keeps debts, as one does that other processes share.
    pub(crate) async fn shared() -> Self {
        Self::open(Settings::default(), true).await
    }

    async fn open(settings: Settings, is_shared: bool) -> Self {
        let dir = fast_dir();
        let clock = Arc::new(TestClock::new());
        let store = Arc::new(SqlStore::new(Database::open(dir.path().join("db")).await.unwrap()));
        let log_clock = clock.clone();
        let mut options = Options::new(dir.path().join("log"), move || log_clock.now());
        options.segment_bytes = SEGMENT_BYTES_MIN;
        let log = Arc::new(tokio::task::spawn_blocking(move || EmbeddedLog::open(options)).await.unwrap().unwrap());
        let master_key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
        let key_gates = Gates::default();
        let keys = Arc::new(Gated::<dyn Environments> { inner: store.clone(), gates: key_gates.clone() });
        let credentials = Arc::new(Credentials::new(keys, clock.clone(), master_key));
        let blobs = Arc::new(BlobFiles::open(dir.path().join("blobs")).unwrap());
        let gates = Gates::default();
        let replicas = Replicas::new();
        let ledger = Ledger::new(log.clone(), clock.clone());
        let registry = Arc::new(InProcessRegistry::new(clock.clone()));
        let stopping = CancellationToken::new();
        let channels: Arc<dyn ChannelStore> = if is_shared { Arc::new(ledger.clone()) } else { log.clone() };
        let parts = Parts {
            clock: &clock,
            store: &store,
            channels,
            registry: registry.clone(),
            blobs: &blobs,
            credentials: &credentials,
            gates: &gates,
            key_gates: &key_gates,
            replicas: &replicas,
        };
        let (core, key) = (parts.core(settings, &stopping), root_key("one"));
        let world = Self {
            core,
            clock,
            gates,
            key_gates,
            replicas,
            store,
            log,
            ledger,
            is_shared,
            registry,
            blobs,
            credentials,
            stopping,
            key,
            _dir: dir,
        };
        world.put_environment("one").await;
        world
    }

    /// Another replica on the same stores, with signals of its own, and a registry that knows of nothing.
    pub(crate) fn replica(&self) -> Core {
        self.replica_with(Arc::new(InProcessRegistry::new(self.clock.clone())))
    }

    /// Another replica that shares the registry as well.
    pub(crate) fn replica_with_hints(&self) -> Core {
        self.replica_with(self.registry.clone())
    }

    fn replica_with(&self, registry: Arc<InProcessRegistry>) -> Core {
        let Self { clock, store, log, ledger, is_shared, blobs, credentials, gates, key_gates, replicas, .. } = self;
        let channels: Arc<dyn ChannelStore> = if *is_shared { Arc::new(ledger.clone()) } else { log.clone() };
        let parts = Parts { clock, store, channels, registry, blobs, credentials, gates, key_gates, replicas };
        parts.core(Settings::default(), &CancellationToken::new())
    }

    /// The root key of another environment.
    pub(crate) async fn other_environment(&self) -> Principal {
        self.put_environment("two").await;
        root_key("two")
    }

    async fn put_environment(&self, name: &str) {
        let tenant = Tenant {
            organization: OrganizationId::from_body("o"),
            project: ProjectId::from_body("p"),
            environment: EnvironmentId::from_body(name),
            environment_type: EnvironmentType::Development,
        };
        let secret = keys::new_root_key(EnvironmentType::Development).unwrap();
        let environment = self.credentials.new_environment(tenant, name, &secret).unwrap();
        self.store.put(environment, self.clock.now()).await.unwrap();
    }

    /// An additional key with these scopes, as a bearer proves it.
    pub(crate) async fn additional_key(&self, scopes: &[&str]) -> Principal {
        let secret = self.credentials.new_additional_key(EnvironmentType::Development).unwrap();
        let key = ApiKey {
            id: ApiKeyId::from_body(&format!("k{}", secret.len() + scopes.len())),
            environment: self.key.environment.clone(),
            name: "restricted".into(),
            hash: KeyRing::hash(&*self.credentials, &secret),
            scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
            created_at: self.clock.now(),
            revoked_at: None,
        };
        self.store.add_key(key).await.unwrap();
        self.core.authenticate(&secret).await.unwrap()
    }

    /// A public token with these scopes, bound to no session.
    pub(crate) fn token(&self, scopes: &[&str]) -> Principal {
        Principal {
            environment: self.key.environment.clone(),
            credential: Credential::PublicToken { session: None, one_time: None },
            scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
            expires_at: None,
        }
    }

    pub(crate) async fn create(&self, name: &str) -> CreatedSession {
        self.core.create_session(&self.key, new_session(Some(name))).await.unwrap()
    }

    /// A session by name whose first run is over, with nothing read and nothing unread.
    pub(crate) async fn create_idle(&self, name: &str) -> Session {
        let created = self.create(name).await;
        self.cancel_quietly(&created.run.spec.id).await;
        created.session
    }

    /// Ends a run behind the core's back.
    pub(crate) async fn cancel_quietly(&self, run: &RunId) {
        let command = RunCommand::Cancel { reason: "test".into() };
        RunStore::apply(&*self.store, &self.key.environment, run, command, self.clock.now()).await.unwrap();
    }

    pub(crate) async fn session(&self, asked: &SessionRef) -> Session {
        SessionStore::get(&*self.store, &self.key.environment, asked).await.unwrap().unwrap()
    }

    pub(crate) async fn run(&self, run: &RunId) -> Run {
        RunStore::get(&*self.store, &self.key.environment, run).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, run: &RunId) -> RunStatus {
        self.run(run).await.status
    }

    /// All runs of the session, oldest first, whether or not they ever claimed it.
    pub(crate) async fn runs_of(&self, session: &SessionId) -> Vec<Run> {
        let filter = RunFilter { session: Some(session.clone()), ..RunFilter::default() };
        let page = RunStore::list(&*self.store, &self.key.environment, &filter, &PageFrom::Start, 1_000).await;
        let mut runs = page.unwrap().rows;
        runs.reverse();
        runs
    }

    pub(crate) async fn say(&self, name: &str, body: &str) -> Result<Appended> {
        self.core.append(&self.key, text(input(&named(name)), body)).await
    }

    pub(crate) async fn put_out(&self, name: &str, record: NewRecord) -> Result<Appended> {
        self.core.append(&self.key, append(output(&named(name)), record)).await
    }

    pub(crate) async fn records(&self, session: &SessionId, direction: Direction) -> Vec<Record> {
        let channel = ChannelKey::reserved(session.clone(), direction);
        let mut all = Vec::new();
        loop {
            let next = all.last().map_or(0, |r: &Record| r.seq_num + 1);
            let (records, _) = self.log.read(&channel, ReadFrom::seq_num(next)).await.unwrap();
            if records.is_empty() {
                return all;
            }
            all.extend(records);
        }
    }

    pub(crate) async fn fence(&self, session: &SessionId, direction: Direction) -> Fence {
        let channel = ChannelKey::reserved(session.clone(), direction);
        Fence::of_token(&self.log.tail(&channel).await.unwrap().fencing_token)
    }

    /// What the clock loop does each time.
    pub(crate) async fn tick(&self) {
        self.core.tick(self.clock.now()).await.unwrap();
    }

    /// What the sweeper does for unread input; it looks back to the beginning.
    pub(crate) async fn sweep_boots(&self) {
        self.core.sweep_boots(continuo_domain::Timestamp(0), self.clock.now()).await.unwrap();
    }

    /// A worker of the task with room for `capacity` runs.
    pub(crate) async fn worker(&self, capacity: u32) -> TestWorker {
        TestWorker::connect(&self.core, &self.key, &[TASK], capacity, Vec::new()).await
    }

    /// A worker with room for one run, which has taken and started the next one.
    pub(crate) async fn start_run(&self) -> RunningRun {
        RunningRun::start(self).await
    }
}

struct Parts<'a> {
    clock: &'a Arc<TestClock>,
    store: &'a Arc<SqlStore>,
    channels: Arc<dyn ChannelStore>,
    registry: Arc<InProcessRegistry>,
    blobs: &'a Arc<BlobFiles>,
    credentials: &'a Arc<Credentials>,
    gates: &'a Gates,
    key_gates: &'a Gates,
    replicas: &'a Arc<Replicas>,
}

impl Parts<'_> {
    fn core(self, settings: Settings, stopping: &CancellationToken) -> Core {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let gates = self.gates;
        let seat = self.replicas.seat();
        let registry: Arc<dyn WaitpointRegistry> = self.registry;
        let ports = Ports {
            sessions: Arc::new(Gated::<dyn SessionStore> { inner: self.store.clone(), gates: gates.clone() }),
            index: self.store.clone(),
            runs: Arc::new(Gated::<dyn RunStore> { inner: self.store.clone(), gates: gates.clone() }),
            workers: Arc::new(Gated::<dyn WorkerStore> { inner: self.store.clone(), gates: gates.clone() }),
            channels: Arc::new(Gated::<dyn ChannelStore> { inner: self.channels, gates: gates.clone() }),
            blobs: self.blobs.clone(),
            registry: Arc::new(Gated::<dyn WaitpointRegistry> { inner: registry, gates: gates.clone() }),
            hints: seat.clone(),
            leases: seat,
            tokens: self.credentials.clone(),
            environments: Arc::new(Gated::<dyn Environments> {
                inner: self.store.clone(),
                gates: self.key_gates.clone(),
            }),
            ids: Arc::new(TimeOrderedIds::new(clock.clone()).unwrap()),
            clock,
        };
        Core::new(ports, settings, stopping.clone())
    }
}

/// Nothing here is about what survives a crash, so the files may lie in memory where the system has such a place.
fn fast_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn root_key(name: &str) -> Principal {
    let environment = EnvironmentId::from_body(name);
    Principal { environment, credential: Credential::RootKey, scopes: Vec::new(), expires_at: None }
}

/// A create that asks for nothing special.
pub(crate) fn new_session(name: Option<&str>) -> CreateSession {
    let payload = r#"{"chatId":"c","message":{"a":1},"messages":[1],"trigger":"submit-message","keep":true}"#;
    CreateSession {
        external_id: name.map(|n| ExternalId::parse(n).unwrap()),
        session_type: "chat.agent".into(),
        task_identifier: TASK.into(),
        trigger_config: TriggerConfig::new(Json::trusted(payload.into())),
        tags: Vec::new(),
        metadata: None,
        expires_at: None,
        is_test: false,
    }
}
