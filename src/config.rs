//! The settings: one struct per part, each default stated once, here.
//!
//! Four layers, the first that says something wins: flags, `CONTINUO_*` environment variables, a TOML file, defaults. Flags
//! and environment are one [`Layer`], filled by clap; the file is another one of the same shape.

mod aliases;
mod cluster;
mod layer;
mod lists;
mod profile;
mod secret;
mod section;
mod sections;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

pub use self::cluster::{Database, REDIS_PREFIX_CHARS_MAX, Redis, S2};
pub use self::layer::Layer;
pub use self::lists::{ClickHouse, Replication};
pub use self::secret::{Secret, SecretUrl};
pub(crate) use self::section::{not_empty_path, path};

const MIB: u64 = 1 << 20;

/// What the process is started as. Some defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything on one machine, with a demo agent.
    Dev,
    /// A server.
    Serve,
}

/// The effective settings.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// What it is for.
    #[serde(skip)]
    pub mode: Mode,
    /// Where the one port is.
    pub listen: SocketAddr,
    /// Everything the embedded stores keep.
    pub data_dir: PathBuf,
    /// Where clients find the server, if that is not the address it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// TLS on the one port.
    pub tls: Tls,
    /// Processes that serve the same data.
    pub replicas: u32,
    /// How long calls may go on after the stop began.
    pub shutdown_grace_ms: u32,
    /// Largest gRPC message.
    pub message_bytes_max: u64,
    /// Keys that are given rather than made.
    pub keys: Keys,
    /// Where sessions and runs are.
    pub database: Database,
    /// What carries hints between replicas.
    pub redis: Redis,
    /// Where the records of channels are.
    pub s2: S2,
    /// Where lists of sessions come from.
    pub clickhouse: ClickHouse,
    /// What fills it.
    pub replication: Replication,
    /// Creation of sessions.
    pub create: Create,
    /// Tasks.
    pub tasks: Tasks,
    /// Leases of workers.
    pub worker: Worker,
    /// Named channels.
    pub channels: Channels,
    /// Clients of the stream API.
    pub stream: Stream,
    /// The embedded channel log.
    pub channel_log: ChannelLog,
    /// Snapshots and packets.
    pub blobs: Blobs,
    /// What the process says about itself.
    pub log: Log,
    /// The demo agent.
    pub demo: Demo,
}

/// TLS on the one port: both files, or neither and plain text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tls {
    /// The server's certificate and those between it and its authority, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Keys that are given rather than made.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Keys {
    /// Root key of the development environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_secret_key: Option<Secret>,
    /// Root key of a second development environment, which is there only if this is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_secret_key_2: Option<Secret>,
    /// Key of the AdminService; else made and kept in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_key: Option<Secret>,
    /// Encrypts root keys at rest: 32 bytes in base64; else made and kept in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key: Option<Secret>,
}

/// Creation of sessions.
#[derive(Debug, Clone, Serialize)]
pub struct Create {
    /// May a public token create sessions?
    pub allow_jwt: bool,
}

/// Tasks.
#[derive(Debug, Clone, Serialize)]
pub struct Tasks {
    /// Refuse runs of a task that no worker has ever announced.
    pub strict: bool,
}

/// Leases of workers.
#[derive(Debug, Clone, Serialize)]
pub struct Worker {
    /// Life of a lease without a heartbeat.
    pub lease_ms: u32,
    /// How often workers are asked to send heartbeats.
    pub heartbeat_ms: u32,
    /// How long a run that is asked to stop may go on.
    pub stop_grace_ms: u32,
}

/// Named channels.
#[derive(Debug, Clone, Serialize)]
pub struct Channels {
    /// How long they keep their records where no writer says; 0 is for ever.
    pub max_age_seconds: u64,
}

/// What clients that write a channel directly are told.
#[derive(Debug, Clone, Serialize)]
pub struct Stream {
    /// How long they gather records before they send.
    pub flush_interval_ms: u32,
    /// How often they try again.
    pub max_retries: u32,
}

/// The embedded channel log.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelLog {
    /// Size of a segment file.
    pub segment_bytes: u64,
}

/// Snapshots and packets.
#[derive(Debug, Clone, Serialize)]
pub struct Blobs {
    /// How long a packet is kept after it was last put; 0 is for ever.
    pub packet_days: u32,
    /// The bucket they lie in; else they are files in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone, Serialize)]
pub struct S3 {
    /// Where the store is.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Who asks.
    pub access_key: Secret,
    /// The proof.
    pub secret_key: Secret,
    /// Is the bucket named in the path, and not in the host name?
    pub path_style: bool,
    /// What every key in the bucket begins with.
    pub prefix: String,
}

/// What the process says about itself.
#[derive(Debug, Clone, Serialize)]
pub struct Log {
    /// As in `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The demo agent.
#[derive(Debug, Clone, Serialize)]
pub struct Demo {
    /// Is it started with the server?
    pub enabled: bool,
    /// Time from one token of an answer to the next.
    pub token_ms: u32,
    /// How long a run stays awake for a follow-up before it suspends.
    pub idle_ms: u32,
}

impl Config {
    /// What holds where no layer says anything.
    pub fn defaults(mode: Mode) -> Self {
        Self {
            mode,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("./continuo-data"),
            public_url: None,
            tls: Tls::default(),
            replicas: 1,
            shutdown_grace_ms: 10_000,
            message_bytes_max: 8 * MIB,
            keys: Keys::default(),
            database: Database::default(),
            redis: Redis::default(),
            s2: S2::default(),
            clickhouse: ClickHouse::default(),
            replication: Replication::default(),
            create: Create { allow_jwt: false },
            tasks: Tasks { strict: false },
            worker: Worker { lease_ms: 15_000, heartbeat_ms: 5_000, stop_grace_ms: 30_000 },
            channels: Channels { max_age_seconds: 0 },
            stream: Stream { flush_interval_ms: 10, max_retries: 10 },
            channel_log: ChannelLog { segment_bytes: 64 * MIB },
            blobs: Blobs { packet_days: 90, s3: None },
            log: Log {
                filter: "info,fjall=warn,lsm_tree=warn,sea_orm_migration=warn".to_owned(),
                format: LogFormat::Text,
            },
            demo: Demo { enabled: mode == Mode::Dev, token_ms: 40, idle_ms: 2_000 },
        }
    }

    /// As [`Self::layered`]; refuses what cannot work.
    pub fn load(mode: Mode, flags: Layer, file: Option<&Path>) -> Result<Self, ConfigError> {
        let config = Self::layered(mode, flags, file)?;
        config.check()?;
        Ok(config)
    }

    /// Lays flags and environment over the file, if there is one, over the defaults.
    pub fn layered(mode: Mode, flags: Layer, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = Self::defaults(mode);
        if let Some(path) = file {
            let unreadable = |error| ConfigError(format!("cannot read {}: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            let wrong = |error: ConfigError| ConfigError(format!("{}: {error}", path.display()));
            Layer::from_toml(&text).map_err(wrong)?.apply(&mut config);
        }
        flags.apply(&mut config);
        Ok(config)
    }

    /// Where clients find the server.
    pub fn public_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| self.url(self.listen))
    }

    /// The URL of an address it listens on.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_on() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// Largest gRPC message, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX)
    }

    /// How long calls may go on after the stop began.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms.into())
    }

    /// Refuses what cannot work, in one sentence with what to set.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        if self.worker.heartbeat_ms == 0 || self.worker.heartbeat_ms > self.worker.lease_ms / 2 {
            return refuse(format!(
                "worker.heartbeat_ms is {}: it must be above 0 and at most half of worker.lease_ms, which is {}, so that \
                 one lost heartbeat costs no run",
                self.worker.heartbeat_ms, self.worker.lease_ms
            ));
        }
        if self.message_bytes_max < 4 * MIB {
            return refuse("message_bytes_max must be at least 4194304: a payload may have 3 MiB".to_owned());
        }
        if self.channel_log.segment_bytes < 8 * MIB {
            return refuse(
                "channel_log.segment_bytes must be at least 8388608: several full appends fit into it".to_owned(),
            );
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            let (given, missing) = match self.tls.cert {
                Some(_) => ("tls.cert", "CONTINUO_TLS_KEY"),
                None => ("tls.key", "CONTINUO_TLS_CERT"),
            };
            return refuse(format!(
                "{given} is set alone, but TLS needs a certificate and its key: set {missing} as well, or neither for \
                 plain HTTP"
            ));
        }
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if !self.public_url.iter().all(is_url) {
            return refuse("public_url must begin with http:// or https://".to_owned());
        }
        self.blobs.s3.as_ref().map_or(Ok(()), S3::check)?;
        self.check_schemas()?;
        self.redis.check()?;
        self.s2.check()?;
        self.check_replicas()?;
        let is_key = |key: &Secret| BASE64.decode(key.expose()).is_ok_and(|bytes| bytes.len() == 32);
        if !self.keys.master_key.iter().all(is_key) {
            return refuse("the master key must be 32 bytes in base64, as from `openssl rand -base64 32`".to_owned());
        }
        Ok(())
    }
}

impl Blobs {
    /// How long a packet is kept after it was last put; `None` is for ever.
    pub fn packets_kept_ms(&self) -> Option<u64> {
        const DAY_MS: u64 = 86_400_000;
        (self.packet_days > 0).then(|| u64::from(self.packet_days) * DAY_MS)
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            access_key: Secret::default(),
            secret_key: Secret::default(),
            path_style: true,
            prefix: String::new(),
        }
    }
}

impl S3 {
    fn check(&self) -> Result<(), ConfigError> {
        let needed = [
            ("ENDPOINT", self.endpoint.as_str()),
            ("BUCKET", &self.bucket),
            ("ACCESS_KEY", self.access_key.expose()),
            ("SECRET_KEY", self.secret_key.expose()),
        ];
        let missing: Vec<_> = needed.iter().filter(|(_, text)| text.is_empty()).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            let missing =
                missing.iter().map(|name| format!("CONTINUO_BLOBS_S3_{name}")).collect::<Vec<_>>().join(" and ");
            return Err(ConfigError(format!(
                "the settings blobs.s3 are half given: set {missing} too, or leave out every CONTINUO_BLOBS_S3_* to keep blobs \
                 as files in the data directory"
            )));
        }
        if !self.endpoint.starts_with("http://") && !self.endpoint.starts_with("https://") {
            return Err(ConfigError("blobs.s3.endpoint must begin with http:// or https://".to_owned()));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        if !self.prefix.chars().all(is_plain) || self.prefix.split('/').any(|part| part == "." || part == "..") {
            return Err(ConfigError(
                "blobs.s3.prefix may hold letters, digits and _ - . / only, and no part that is . or ..".to_owned(),
            ));
        }
        Ok(())
    }
}

impl Tls {
    /// Does the port speak TLS?
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }
}

/// A setting that cannot be used, in one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// For a setting whose fault shows only where it is used: a file it names, for example.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
