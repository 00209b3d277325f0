//! One layer of settings, where everything may be left out. The comments are the manual: `serve --help` prints them, with the
//! defaults added from [`Config::defaults`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::section::{Section, Setting};
use super::sections::*;
use super::{Config, ConfigError};

/// Settings as flags and environment give them, or a TOML file. The id of an argument is its path in the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// Address of the one port for REST, SSE, gRPC, gRPC-Web and the console.
    #[arg(id = "listen", long, env = "CONTINUO_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory of the embedded stores; made if it is not there. Where Postgres, S2 and a bucket serve everything, only drafts of
    /// uploads lie in it.
    #[arg(id = "data_dir", long = "data-dir", env = "CONTINUO_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// URL under which clients reach the server, if it is not http:// (with TLS https://) and the address it listens on.
    #[arg(id = "public_url", long = "public-url", env = "CONTINUO_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsLayer,
    /// Processes that serve the same data. More than one need Postgres, S2, a bucket for blobs, and the keys given; what is missing
    /// is refused.
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
    /// Where sessions and runs are.
    #[command(flatten)]
    pub database: DatabaseLayer,
    /// What carries hints.
    #[command(flatten)]
    pub redis: RedisLayer,
    /// Where records are.
    #[command(flatten)]
    pub s2: S2Layer,
    /// Where lists of sessions come from.
    #[command(flatten)]
    pub clickhouse: ClickHouseLayer,
    /// What fills it.
    #[command(flatten)]
    pub replication: ReplicationLayer,
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
}

impl Layer {
    /// Reads a file. A key that is no setting is refused by name.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError(error.to_string().trim_end().to_owned()))
    }

    /// Lays this layer over what is below.
    pub(super) fn apply(self, config: &mut Config) {
        config.listen.set(self.listen);
        config.data_dir.set(self.data_dir);
        config.public_url.set(self.public_url);
        self.tls.lay_over(&mut config.tls);
        config.replicas.set(self.replicas);
        config.shutdown_grace_ms.set(self.shutdown_grace_ms);
        config.message_bytes_max.set(self.message_bytes_max);
        self.keys.lay_over(&mut config.keys);
        self.database.lay_over(&mut config.database);
        self.redis.lay_over(&mut config.redis);
        self.s2.lay_over(&mut config.s2);
        self.clickhouse.lay_over(&mut config.clickhouse);
        self.replication.lay_over(&mut config.replication);
        self.create.lay_over(&mut config.create);
        self.tasks.lay_over(&mut config.tasks);
        self.worker.lay_over(&mut config.worker);
        self.stream.lay_over(&mut config.stream);
        self.channel_log.lay_over(&mut config.channel_log);
        self.channels.lay_over(&mut config.channels);
        self.blobs.lay_over(&mut config.blobs);
        self.log.lay_over(&mut config.log);
        self.demo.lay_over(&mut config.demo);
    }
}
