//! One layer of settings, where everything may be left out. The comments are the manual: `serve --help` prints them, with the
//! defaults added from [`Config::defaults`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Deserialize;

use super::{Config, ConfigError, LogFormat, S3, Secret};

/// Settings as flags and environment give them, or a TOML file. The id of an argument is its path in the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// Address of the one port for REST, SSE, gRPC, gRPC-Web and the console.
    #[arg(id = "listen", long, env = "CONTINUO_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory of the embedded stores; made if it is not there.
    #[arg(id = "data_dir", long = "data-dir", env = "CONTINUO_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// URL under which clients reach the server, if it is not http:// (with TLS https://) and the address it listens on.
    #[arg(id = "public_url", long = "public-url", env = "CONTINUO_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsLayer,
    /// Processes that serve the same data. The embedded profile has one.
    #[arg(id = "replicas", long, env = "CONTINUO_REPLICAS", value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Milliseconds that calls and runs may go on after a stop began.
    #[arg(id = "shutdown_grace_ms", long = "shutdown-grace-ms", env = "CONTINUO_SHUTDOWN_GRACE_MS", value_name = "MS")]
    pub shutdown_grace_ms: Option<u32>,
    /// Largest gRPC message, in bytes.
    #[arg(
        id = "message_bytes_max",
        long = "message-bytes-max",
        env = "CONTINUO_MESSAGE_BYTES_MAX",
        value_name = "BYTES"
    )]
    pub message_bytes_max: Option<u64>,
    /// Given keys.
    #[command(flatten)]
    pub keys: KeysLayer,
    /// Creation of sessions.
    #[command(flatten)]
    pub create: CreateLayer,
    /// Tasks.
    #[command(flatten)]
    pub tasks: TasksLayer,
    /// Leases of workers.
    #[command(flatten)]
    pub worker: WorkerLayer,
    /// Clients of the stream API.
    #[command(flatten)]
    pub stream: StreamLayer,
    /// The embedded channel log.
    #[command(flatten)]
    pub channel_log: ChannelLogLayer,
    #[command(flatten)]
    pub channels: ChannelsLayer,
    /// Snapshots and packets.
    #[command(flatten)]
    pub blobs: BlobsLayer,
    /// What the process says about itself.
    #[command(flatten)]
    pub log: LogLayer,
    /// The demo agent.
    #[command(flatten)]
    pub demo: DemoLayer,
    /// Addresses of the cluster profile.
    #[command(flatten)]
    pub cluster: ClusterLayer,
}

/// Section `[tls]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsLayer {
    /// PEM file with the server's certificate, then those between it and its authority. With it and its key the port speaks
    /// TLS, and nothing else. Both files are read once, at the start: a renewed certificate needs a restart.
    #[arg(id = "tls.cert", long = "tls-cert", env = "CONTINUO_TLS_CERT", value_name = "FILE", value_parser = path())]
    pub cert: Option<PathBuf>,
    /// PEM file with the certificate's private key, not encrypted.
    #[arg(
        id = "tls.key",
        long = "tls-key",
        env = "CONTINUO_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        value_parser = path()
    )]
    pub key: Option<PathBuf>,
}

/// Section `[keys]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysLayer {
    /// Secret key of the development environment; made and kept if not given. Better in the environment than as a flag, which
    /// every user of the machine can see; that goes for all keys.
    #[arg(
        id = "keys.dev_secret_key",
        long = "dev-secret-key",
        env = "CONTINUO_DEV_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub dev_secret_key: Option<Secret>,
    /// Secret key of a second development environment, which is made if this is given.
    #[arg(
        id = "keys.dev_secret_key_2",
        long = "dev-secret-key-2",
        env = "CONTINUO_DEV_SECRET_KEY_2",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub dev_secret_key_2: Option<Secret>,
    /// Key for `continuo keys`, and the personal access token (`tr_pat_…`) of the SDK's command line; made and kept in the data
    /// directory as `admin.key` if not given.
    #[arg(
        id = "keys.admin_key",
        long = "admin-key",
        env = "CONTINUO_ADMIN_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub admin_key: Option<Secret>,
    /// Encrypts secret keys at rest: 32 bytes in base64; made and kept in the data directory if not given.
    #[arg(
        id = "keys.master_key",
        long = "master-key",
        env = "CONTINUO_MASTER_KEY",
        hide_env_values = true,
        value_name = "BASE64"
    )]
    pub master_key: Option<Secret>,
}

/// Section `[create]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateLayer {
    /// Let public tokens create sessions, if they may trigger the task and write the session.
    #[arg(id = "create.allow_jwt", long = "create-allow-jwt", env = "CONTINUO_CREATE_ALLOW_JWT", value_name = "BOOL")]
    pub allow_jwt: Option<bool>,
}

/// Section `[tasks]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TasksLayer {
    /// Refuse runs of a task that no worker has ever announced, instead of queueing them.
    #[arg(id = "tasks.strict", long = "tasks-strict", env = "CONTINUO_TASKS_STRICT", value_name = "BOOL")]
    pub strict: Option<bool>,
}

/// Section `[worker]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerLayer {
    /// Milliseconds a worker's lease lives without a heartbeat: how long a run of a worker that vanished is held.
    #[arg(id = "worker.lease_ms", long = "worker-lease-ms", env = "CONTINUO_WORKER_LEASE_MS", value_name = "MS")]
    pub lease_ms: Option<u32>,
    /// Milliseconds between heartbeats that workers are asked for; at most half a lease.
    #[arg(
        id = "worker.heartbeat_ms",
        long = "worker-heartbeat-ms",
        env = "CONTINUO_WORKER_HEARTBEAT_MS",
        value_name = "MS"
    )]
    pub heartbeat_ms: Option<u32>,
    /// Milliseconds a run that handed its session over may go on before it is canceled.
    #[arg(
        id = "worker.stop_grace_ms",
        long = "worker-stop-grace-ms",
        env = "CONTINUO_WORKER_STOP_GRACE_MS",
        value_name = "MS"
    )]
    pub stop_grace_ms: Option<u32>,
}

/// Section `[channels]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelsLayer {
    /// How long named channels keep their records where no writer says, in seconds; 0 is for ever.
    #[arg(
        id = "channels.max_age_seconds",
        long = "channels-max-age-seconds",
        env = "CONTINUO_CHANNELS_MAX_AGE_SECONDS",
        value_name = "SECONDS"
    )]
    pub max_age_seconds: Option<u64>,
}

/// Section `[stream]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamLayer {
    /// Milliseconds for which clients that write a channel directly gather records before they send them.
    #[arg(
        id = "stream.flush_interval_ms",
        long = "stream-flush-interval-ms",
        env = "CONTINUO_STREAM_FLUSH_INTERVAL_MS",
        value_name = "MS"
    )]
    pub flush_interval_ms: Option<u32>,
    /// How often such clients are told to try again.
    #[arg(
        id = "stream.max_retries",
        long = "stream-max-retries",
        env = "CONTINUO_STREAM_MAX_RETRIES",
        value_name = "COUNT"
    )]
    pub max_retries: Option<u32>,
}

/// Section `[channel_log]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelLogLayer {
    /// Size of a segment file of the channel log, in bytes.
    #[arg(
        id = "channel_log.segment_bytes",
        long = "channel-log-segment-bytes",
        env = "CONTINUO_CHANNEL_LOG_SEGMENT_BYTES",
        value_name = "BYTES"
    )]
    pub segment_bytes: Option<u64>,
}

/// Section `[blobs]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlobsLayer {
    /// Days a packet, which is a payload or an output too large to travel with its run, is kept after it was last put; 0 keeps it
    /// for ever. A run that waits longer loses its payload.
    #[arg(
        id = "blobs.packet_days",
        long = "blobs-packet-days",
        env = "CONTINUO_BLOBS_PACKET_DAYS",
        value_name = "DAYS"
    )]
    pub packet_days: Option<u32>,
    /// The bucket.
    #[command(flatten)]
    pub s3: S3Layer,
}

/// Section `[blobs.s3]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Layer {
    /// URL of an S3-compatible store that keeps snapshots and packets, instead of files in the data directory; with the next three.
    #[arg(
        id = "blobs.s3.endpoint",
        long = "blobs-s3-endpoint",
        env = "CONTINUO_BLOBS_S3_ENDPOINT",
        value_name = "URL"
    )]
    pub endpoint: Option<String>,
    /// Name of a bucket that is there. It stays private: clients put and get their blobs through this server.
    #[arg(id = "blobs.s3.bucket", long = "blobs-s3-bucket", env = "CONTINUO_BLOBS_S3_BUCKET", value_name = "NAME")]
    pub bucket: Option<String>,
    /// Access key that may list, get, put and delete in the bucket.
    #[arg(
        id = "blobs.s3.access_key",
        long = "blobs-s3-access-key",
        env = "CONTINUO_BLOBS_S3_ACCESS_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub access_key: Option<Secret>,
    /// Secret key that belongs to it.
    #[arg(
        id = "blobs.s3.secret_key",
        long = "blobs-s3-secret-key",
        env = "CONTINUO_BLOBS_S3_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub secret_key: Option<Secret>,
    /// Region of the bucket; us-east-1 if not given.
    #[arg(id = "blobs.s3.region", long = "blobs-s3-region", env = "CONTINUO_BLOBS_S3_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// Name the bucket in the path, as most stores want it, and not in the host name; true if not given.
    #[arg(
        id = "blobs.s3.path_style",
        long = "blobs-s3-path-style",
        env = "CONTINUO_BLOBS_S3_PATH_STYLE",
        value_name = "BOOL"
    )]
    pub path_style: Option<bool>,
    /// What every key in the bucket begins with, for a bucket that others use too.
    #[arg(id = "blobs.s3.prefix", long = "blobs-s3-prefix", env = "CONTINUO_BLOBS_S3_PREFIX", value_name = "PREFIX")]
    pub prefix: Option<String>,
}

/// Section `[log]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogLayer {
    /// What is logged, for example `info,continuo=debug`.
    #[arg(id = "log.filter", long = "log", env = "CONTINUO_LOG", value_name = "FILTER")]
    pub filter: Option<String>,
    /// How log lines look.
    #[arg(id = "log.format", long = "log-format", env = "CONTINUO_LOG_FORMAT", value_name = "FORMAT")]
    pub format: Option<LogFormat>,
}

/// Section `[demo]`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemoLayer {
    /// Start the demo agent (task `demo-agent`) with the server.
    #[arg(id = "demo.enabled", long = "demo", env = "CONTINUO_DEMO_ENABLED", value_name = "BOOL")]
    pub enabled: Option<bool>,
    /// Milliseconds between two tokens of the demo agent's answers.
    #[arg(id = "demo.token_ms", long = "demo-token-ms", env = "CONTINUO_DEMO_TOKEN_MS", value_name = "MS")]
    pub token_ms: Option<u32>,
    /// Milliseconds the demo agent stays awake for a follow-up before it suspends.
    #[arg(id = "demo.idle_ms", long = "demo-idle-ms", env = "CONTINUO_DEMO_IDLE_MS", value_name = "MS")]
    pub idle_ms: Option<u32>,
}

/// Section `[cluster]`: known so that it can be refused by name.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterLayer {
    /// Postgres.
    #[arg(id = "cluster.database_url", long = "database-url", env = "CONTINUO_DATABASE_URL", hide = true)]
    pub database_url: Option<Secret>,
    /// Redis.
    #[arg(id = "cluster.redis_url", long = "redis-url", env = "CONTINUO_REDIS_URL", hide = true)]
    pub redis_url: Option<Secret>,
    /// ClickHouse.
    #[arg(id = "cluster.clickhouse_url", long = "clickhouse-url", env = "CONTINUO_CLICKHOUSE_URL", hide = true)]
    pub clickhouse_url: Option<Secret>,
    /// S2.
    #[arg(id = "cluster.s2_endpoint", long = "s2-endpoint", env = "CONTINUO_S2_ENDPOINT", hide = true)]
    pub s2_endpoint: Option<Secret>,
}

impl Layer {
    /// Reads a file. A key that is no setting is refused by name.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError(error.to_string().trim_end().to_owned()))
    }

    /// Lays this layer over what is below.
    pub(super) fn apply(self, config: &mut Config) -> Result<(), ConfigError> {
        self.cluster.refuse()?;
        set(&mut config.listen, self.listen);
        set(&mut config.data_dir, self.data_dir);
        set_given(&mut config.public_url, self.public_url.filter(|url| !url.is_empty()));
        set_given(&mut config.tls.cert, not_empty_path(self.tls.cert));
        set_given(&mut config.tls.key, not_empty_path(self.tls.key));
        set(&mut config.replicas, self.replicas);
        set(&mut config.shutdown_grace_ms, self.shutdown_grace_ms);
        set(&mut config.message_bytes_max, self.message_bytes_max);
        set_given(&mut config.keys.dev_secret_key, not_empty(self.keys.dev_secret_key));
        set_given(&mut config.keys.dev_secret_key_2, not_empty(self.keys.dev_secret_key_2));
        set_given(&mut config.keys.admin_key, not_empty(self.keys.admin_key));
        set_given(&mut config.keys.master_key, not_empty(self.keys.master_key));
        set(&mut config.create.allow_jwt, self.create.allow_jwt);
        set(&mut config.tasks.strict, self.tasks.strict);
        set(&mut config.worker.lease_ms, self.worker.lease_ms);
        set(&mut config.worker.heartbeat_ms, self.worker.heartbeat_ms);
        set(&mut config.worker.stop_grace_ms, self.worker.stop_grace_ms);
        set(&mut config.channels.max_age_seconds, self.channels.max_age_seconds);
        set(&mut config.stream.flush_interval_ms, self.stream.flush_interval_ms);
        set(&mut config.stream.max_retries, self.stream.max_retries);
        set(&mut config.channel_log.segment_bytes, self.channel_log.segment_bytes);
        set(&mut config.blobs.packet_days, self.blobs.packet_days);
        self.blobs.s3.apply(&mut config.blobs.s3);
        set(&mut config.log.filter, self.log.filter);
        set(&mut config.log.format, self.log.format);
        set(&mut config.demo.enabled, self.demo.enabled);
        set(&mut config.demo.token_ms, self.demo.token_ms);
        set(&mut config.demo.idle_ms, self.demo.idle_ms);
        Ok(())
    }
}

impl S3Layer {
    /// Where anything is given, all of it is looked at.
    fn apply(self, slot: &mut Option<S3>) {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (endpoint, bucket, region) = (given(self.endpoint), given(self.bucket), given(self.region));
        let (access_key, secret_key) = (not_empty(self.access_key), not_empty(self.secret_key));
        let prefix = given(self.prefix);
        let texts = [&endpoint, &bucket, &region, &prefix];
        let secrets = [&access_key, &secret_key];
        if texts.iter().all(|t| t.is_none()) && secrets.iter().all(|s| s.is_none()) && self.path_style.is_none() {
            return;
        }
        let s3 = slot.get_or_insert_default();
        set(&mut s3.endpoint, endpoint);
        set(&mut s3.bucket, bucket);
        set(&mut s3.region, region);
        set(&mut s3.access_key, access_key);
        set(&mut s3.secret_key, secret_key);
        set(&mut s3.path_style, self.path_style);
        set(&mut s3.prefix, prefix);
    }
}

impl ClusterLayer {
    fn refuse(self) -> Result<(), ConfigError> {
        let given = [
            ("CONTINUO_DATABASE_URL", self.database_url),
            ("CONTINUO_REDIS_URL", self.redis_url),
            ("CONTINUO_CLICKHOUSE_URL", self.clickhouse_url),
            ("CONTINUO_S2_ENDPOINT", self.s2_endpoint),
        ];
        match given.into_iter().find(|(_, url)| not_empty(url.clone()).is_some()) {
            None => Ok(()),
            Some((name, _)) => Err(ConfigError(format!(
                "{name} is set, but this version has the embedded profile only (SQLite and its own log in the data \
                 directory): unset {name}"
            ))),
        }
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn set_given<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

/// Paths, also the empty one, which clap's own parser refuses.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// As [`not_empty`].
pub(crate) fn not_empty_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// An empty variable is one that was not set.
fn not_empty(secret: Option<Secret>) -> Option<Secret> {
    secret.filter(|secret| !secret.expose().is_empty())
}
