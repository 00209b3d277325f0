//! A node in a temporary directory.

use crate::{Admin, Grpc, Limits, Services, router};
use continuo_blob_files::BlobFiles;
use continuo_credentials::{Credentials, MasterKey};
use continuo_database::{Database, SqlStore};
use continuo_embedded_log::{EmbeddedLog, Options};
use continuo_in_process::{EveryLease, InProcessRegistry, NoHints, SystemClock, TimeOrderedIds};
use continuo_ports::Clock;
use continuo_proto::v1;
use continuo_proto::v1::admin_service_client::AdminServiceClient;
use continuo_proto::v1::blob_service_client::BlobServiceClient;
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use continuo_proto::v1::run_service_client::RunServiceClient;
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::token_service_client::TokenServiceClient;
use continuo_proto::v1::worker_service_client::WorkerServiceClient;
use continuo_usecases::{Administration, Blobs, Core, Ports, Settings};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};
use tonic_types::StatusExt;

pub(super) const ADMIN_KEY: &str = "admin-key-of-the-tests";

pub(super) struct Node {
    pub(super) services: Services,
    pub(super) router: axum::Router,
    pub(super) health: crate::Health,
    pub(super) stopping: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) root_key: String,
    _dir: TempDir,
}

impl Node {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let ids = Arc::new(TimeOrderedIds::new(clock.clone()).unwrap());
        let sql = Arc::new(SqlStore::new(Database::open(dir.path().join("test.db")).await.unwrap()));
        let log_clock = clock.clone();
        let mut options = Options::new(dir.path().join("log"), move || log_clock.now());
        options.segment_bytes = continuo_embedded_log::SEGMENT_BYTES_MIN;
        let master_key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
        let credentials = Arc::new(Credentials::new(sql.clone(), clock.clone(), master_key));
        let ports = Ports {
            sessions: sql.clone(),
            index: sql.clone(),
            runs: sql.clone(),
            workers: sql.clone(),
            channels: Arc::new(EmbeddedLog::open(options).unwrap()),
            blobs: Arc::new(BlobFiles::open(dir.path().join("blobs")).unwrap()),
            registry: Arc::new(InProcessRegistry::new(clock.clone())),
            hints: Arc::new(NoHints),
            leases: Arc::new(EveryLease),
            tokens: credentials.clone(),
            environments: sql.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
        };
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let core = Core::new(ports, Settings::default(), stopping.clone());
        tokio::spawn(core.clone().run_open_streams());
        let blobs = Blobs::new(core.clone(), credentials.clone());
        let services = Services::new(core, blobs, tasks.clone());
        let admin = Admin::new(Administration::new(sql, credentials.clone(), credentials, clock, ids), Some(ADMIN_KEY));
        let Grpc { router, health } = router(services.clone(), admin, Limits::default()).await.unwrap();
        let mut node = Self { services, router, health, stopping, tasks, root_key: String::new(), _dir: dir };
        node.root_key = node.new_environment("dev").await.root_key;
        node
    }

    pub(super) async fn new_environment(&self, slug: &str) -> v1::CreateEnvironmentResponse {
        let request =
            v1::CreateEnvironmentRequest { project_id: String::new(), r#type: "DEVELOPMENT".into(), slug: slug.into() };
        self.admin().create_environment(by(ADMIN_KEY, request)).await.unwrap().into_inner()
    }

    pub(super) fn admin(&self) -> AdminServiceClient<axum::Router> {
        AdminServiceClient::new(self.router.clone())
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<axum::Router> {
        SessionServiceClient::new(self.router.clone())
    }

    pub(super) fn channels(&self) -> ChannelServiceClient<axum::Router> {
        ChannelServiceClient::new(self.router.clone())
    }

    pub(super) fn runs(&self) -> RunServiceClient<axum::Router> {
        RunServiceClient::new(self.router.clone())
    }

    pub(super) fn blobs(&self) -> BlobServiceClient<axum::Router> {
        BlobServiceClient::new(self.router.clone())
    }

    pub(super) fn tokens(&self) -> TokenServiceClient<axum::Router> {
        TokenServiceClient::new(self.router.clone())
    }

    pub(super) fn workers(&self) -> WorkerServiceClient<axum::Router> {
        WorkerServiceClient::new(self.router.clone())
    }

    /// With the root key.
    pub(super) fn key<T>(&self, message: T) -> Request<T> {
        by(&self.root_key, message)
    }

    pub(super) async fn create_session(&self, name: &str) -> v1::CreateSessionResponse {
        let request = self.key(create_request(name));
        self.sessions().create_session(request).await.unwrap().into_inner()
    }

    /// All bodies of a channel.
    pub(super) async fn bodies(&self, channel: v1::ChannelRef) -> Vec<String> {
        let list = self.key(v1::ListRecordsRequest { channel: Some(channel), after_seq_num: None });
        let mut pages = self.channels().list_records(list).await.unwrap().into_inner();
        let mut bodies = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            bodies.extend(page.records.iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()));
        }
        bodies
    }
}

pub(super) fn create_request(name: &str) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest {
        external_id: Some(name.into()),
        r#type: "chat.agent".into(),
        task_identifier: "agent".into(),
        trigger_config: Some(v1::TriggerConfig { base_payload_json: r#"{"a":1.0}"#.into(), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub(super) fn channel(session: &str, direction: v1::Direction) -> v1::ChannelRef {
    v1::ChannelRef { session: session.into(), name: String::new(), direction: direction.into() }
}

pub(super) fn record(body: &str) -> v1::NewRecord {
    v1::NewRecord { headers: vec![], body: body.to_owned().into() }
}

pub(super) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

pub(super) fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let found = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
    found.into_iter().map(|v| v.field).collect()
}
