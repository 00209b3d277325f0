//! A node: every part, built from its piece of the configuration and joined.

use super::data_dir::DataDir;
use crate::config::{self, Config};
use crate::server::{self, InProcess, Port};
use crate::tasks::Tasks;
use anyhow::{Context, Result};
use continuo_blob_files::BlobFiles;
use continuo_blob_s3::BlobS3;
use continuo_credentials::{Credentials, MasterKey, keys};
use continuo_database::{Database, SqlStore};
use continuo_domain::EnvironmentId;
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_embedded_log::{EmbeddedLog, Options as LogOptions};
use continuo_grpc::{Admin, Limits, Services};
use continuo_in_process::{EveryLease, InProcessRegistry, NoHints, SystemClock, TimeOrderedIds};
use continuo_ports::{BlobStore, Clock, Environments};
use continuo_usecases::{Administration, Blobs, Core, Ports, Settings};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Slug of the environment every node has.
const DEV: &str = "dev";

/// A running node.
pub struct Node {
    url: String,
    in_process: InProcess,
    core: Core,
    parts: Parts,
    tasks: Tasks,
    config: Config,
}

impl Node {
    /// Opens the data directory and starts every part. It answers on its port when this returns.
    pub async fn start(config: Config) -> Result<Self> {
        let port = Port::bind(&config).await?;
        let url = port.url().to_owned();
        let parts = Parts::open(&config).await?;
        parts.put_dev_environments(&config).await?;

        let tasks = Tasks::new(CancellationToken::new());
        let core = parts.core(&config, tasks.stopping().clone())?;
        let blobs = Blobs::new(core.clone(), parts.credentials.clone());
        let services = Services::new(core.clone(), blobs, tasks.tracker().clone());
        let admin = Admin::new(parts.administration()?, Some(&parts.admin_key(&config)?));
        let limits = Limits { message_bytes_max: config.message_bytes_max() };
        let grpc = continuo_grpc::router(services.clone(), admin.clone(), limits).await?;
        let rest = continuo_gateway::router(services, admin, gateway_options(&config, tasks.stopping()));
        let router = server::one_port(rest, grpc.router, tasks.stopping());

        let in_process = InProcess::new(router.clone(), tasks.clone());
        tasks.spawn_critical("http", server::serve(port, router, tasks.clone()));
        tasks.spawn_critical("hints", forever(core.clone().run_hints()));
        tasks.spawn_critical("clock", forever(core.clone().run_clock()));
        tasks.spawn_critical("sweeper", forever(core.clone().run_sweeper()));
        tasks.spawn_critical("follow-ups", forever(core.clone().run_follow_ups()));
        let stopping = tasks.stopping().clone();
        tasks.spawn_critical("health", async move {
            stopping.cancelled().await;
            grpc.health.set_serving(false).await;
            Ok(())
        });
        info!(url, "ready");
        Ok(Self { url, in_process, core, parts, tasks, config })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For clients in the same process.
    pub fn in_process(&self) -> InProcess {
        self.in_process.clone()
    }

    /// The root key of the dev environment.
    pub async fn dev_key(&self) -> Result<String> {
        Ok(self.parts.credentials.root_key(&EnvironmentId::from_body(DEV)).await?)
    }

    /// Ends when something stops the node: a signal, or a part that failed.
    pub async fn stopped(&self) {
        stop_signal(self.tasks.stopping()).await;
    }

    /// Stops every part. Streams get their last word; what was acknowledged is on disk already.
    pub async fn stop(self) -> Result<()> {
        let grace = self.config.shutdown_grace();
        self.tasks.stop(grace).await;
        // The last callers have their answers by now. What is not done in time is found by the next start, or by other nodes.
        if let Ok(Err(error)) = tokio::time::timeout(grace, self.core.follow_up_now()).await {
            warn!(error = %error, "some of what follows the last appends is left undone");
        }
        self.parts.database.close().await;
        let log = self.parts.log.clone();
        tokio::task::spawn_blocking(move || log.close()).await??;
        info!("stopped");
        Ok(())
    }
}

/// Ends with a signal to stop, or when the node is stopping already.
pub(super) async fn stop_signal(stopping: &CancellationToken) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = terminated => info!("asked to stop"),
        _ = tokio::signal::ctrl_c() => info!("asked to stop"),
    }
}

pub(super) fn gateway_options(config: &Config, stopping: &CancellationToken) -> continuo_gateway::Options {
    continuo_gateway::Options {
        public_base_url: config.public_url.clone(),
        is_tls: config.tls.is_on(),
        create_allow_jwt: config.create.allow_jwt,
        direct_writes: continuo_gateway::DirectWrites {
            flush_interval_ms: config.stream.flush_interval_ms,
            max_retries: config.stream.max_retries,
        },
        stopping: stopping.clone(),
    }
}

async fn forever(background: impl Future<Output = ()>) -> Result<()> {
    background.await;
    Ok(())
}

/// The adapters.
struct Parts {
    data_dir: DataDir,
    clock: Arc<SystemClock>,
    database: Database,
    store: Arc<SqlStore>,
    log: Arc<EmbeddedLog>,
    blobs: Arc<dyn BlobStore>,
    credentials: Arc<Credentials>,
}

impl Parts {
    async fn open(config: &Config) -> Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let clock = Arc::new(SystemClock::new());
        let database = Database::open(data_dir.database()).await.context("cannot open the database")?;
        let store = Arc::new(SqlStore::new(database.clone()));
        let master_key = match &config.keys.master_key {
            Some(key) => MasterKey::from_base64(key.expose())?,
            None => MasterKey::load_or_create(&data_dir.master_key()).context("cannot read the master key")?,
        };
        let credentials = Arc::new(Credentials::new(store.clone(), clock.clone(), master_key));
        let log_clock = clock.clone();
        let mut options = LogOptions::new(data_dir.log(), move || log_clock.now());
        options.segment_bytes = config.channel_log.segment_bytes;
        let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(options)).await?;
        let log = Arc::new(log.map_err(explain).context("cannot open the channel log")?);
        // After the log: its lock says that no other process has this directory.
        let blobs = blobs(&config.blobs, &data_dir).await?;
        Ok(Self { data_dir, clock, database, store, log, blobs, credentials })
    }

    fn core(&self, config: &Config, stopping: CancellationToken) -> Result<Core> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let ports = Ports {
            sessions: self.store.clone(),
            index: self.store.clone(),
            runs: self.store.clone(),
            channels: self.log.clone(),
            blobs: self.blobs.clone(),
            registry: Arc::new(InProcessRegistry::new(clock.clone())),
            hints: Arc::new(NoHints),
            leases: Arc::new(EveryLease),
            tokens: self.credentials.clone(),
            environments: self.store.clone(),
            ids: Arc::new(TimeOrderedIds::new(clock.clone())?),
            clock,
        };
        let settings = Settings {
            create_allow_jwt: config.create.allow_jwt,
            tasks_strict: config.tasks.strict,
            lease_ms: config.worker.lease_ms,
            heartbeat_ms: config.worker.heartbeat_ms,
            stop_grace_ms: config.worker.stop_grace_ms.into(),
            channel_max_age_seconds: Some(config.channels.max_age_seconds).filter(|seconds| *seconds > 0),
            packets_kept_ms: config.blobs.packets_kept_ms(),
        };
        Ok(Core::new(ports, settings, stopping))
    }

    fn administration(&self) -> Result<Administration> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let ids = Arc::new(TimeOrderedIds::new(clock.clone())?);
        Ok(Administration::new(self.store.clone(), self.credentials.clone(), self.credentials.clone(), clock, ids))
    }

    fn admin_key(&self, config: &Config) -> Result<String> {
        match &config.keys.admin_key {
            Some(key) => Ok(key.expose().to_owned()),
            None => self.data_dir.admin_key(|| Ok(keys::new_personal_token()?)),
        }
    }

    /// The dev environments: the first one always, so that there is a key to begin with, the second one where it was asked for.
    /// A key from the settings replaces the stored one.
    async fn put_dev_environments(&self, config: &Config) -> Result<()> {
        let key = self.put_dev_environment(DEV, config.keys.dev_secret_key.as_ref().map(|k| k.expose())).await?;
        self.data_dir.put_dev_key(&key)?;
        if let Some(key) = &config.keys.dev_secret_key_2 {
            self.put_dev_environment("dev2", Some(key.expose())).await?;
        }
        Ok(())
    }

    async fn put_dev_environment(&self, slug: &str, wanted: Option<&str>) -> Result<String> {
        let id = EnvironmentId::from_body(slug);
        let stored = match self.store.get(&id).await? {
            Some(_) => Some(self.credentials.root_key(&id).await?),
            None => None,
        };
        let key = match (wanted, &stored) {
            (Some(wanted), _) => wanted.to_owned(),
            (None, Some(stored)) => stored.clone(),
            (None, None) => keys::new_root_key(EnvironmentType::Development)?,
        };
        if stored.as_ref() != Some(&key) {
            let tenant = Tenant {
                organization: OrganizationId::from_body("dev"),
                project: ProjectId::from_body("dev"),
                environment: id,
                environment_type: EnvironmentType::Development,
            };
            self.store.put(self.credentials.new_environment(tenant, slug, &key)?, self.clock.now()).await?;
            self.credentials.invalidate();
        }
        Ok(key)
    }
}

async fn blobs(config: &config::Blobs, data_dir: &DataDir) -> Result<Arc<dyn BlobStore>> {
    let Some(s3) = &config.s3 else {
        return Ok(Arc::new(BlobFiles::open(data_dir.blobs()).context("cannot open the directory of blobs")?));
    };
    let store = BlobS3::open(continuo_blob_s3::Options {
        endpoint: s3.endpoint.clone(),
        bucket: s3.bucket.clone(),
        region: s3.region.clone(),
        access_key: s3.access_key.expose().to_owned(),
        secret_key: s3.secret_key.expose().to_owned(),
        path_style: s3.path_style,
        prefix: s3.prefix.clone(),
        drafts: data_dir.path().to_owned(),
    });
    Ok(Arc::new(store.await.context("cannot use the store of blobs")?))
}

/// An operator reads the private half as well: it names the file.
fn explain(error: continuo_domain::Error) -> anyhow::Error {
    match error.cause() {
        Some(cause) => anyhow::anyhow!("{error}: {}", cause.for_log()),
        None => error.into(),
    }
}
