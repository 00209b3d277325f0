//! The sections of a layer: a line for each setting, with its comment as its manual.

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Deserialize;

use super::section::{Section, Setting, path, section};
use super::*;

section! { TlsLayer for Tls in "tls",
    /// PEM file with the server's certificate, then those between it and its authority. With it and its key the port speaks
    /// TLS, and nothing else. Both files are read once, at the start: a renewed certificate needs a restart.
    cert: PathBuf = "tls-cert", "CONTINUO_TLS_CERT", "FILE", value_parser = path();
    /// PEM file with the certificate's private key, not encrypted.
    key: PathBuf = "tls-key", "CONTINUO_TLS_KEY", "FILE", hide_env_values = true, value_parser = path();
}

section! { KeysLayer for Keys in "keys",
    /// Secret key of the development environment. If not given, `dev` and a server on SQLite make one and keep it in the database;
    /// a server on Postgres leaves the environments as they are. Better in the environment than as a flag, which
    /// every user of the machine can see; that goes for all keys.
    dev_secret_key: Secret = "dev-secret-key", "CONTINUO_DEV_SECRET_KEY", "KEY", hide_env_values = true;
    /// Secret key of a second development environment, which is made if this is given.
    dev_secret_key_2: Secret = "dev-secret-key-2", "CONTINUO_DEV_SECRET_KEY_2", "KEY", hide_env_values = true;
    /// Key for `continuo keys`, and the personal access token (`tr_pat_…`) of the SDK's command line; made and kept in the data
    /// directory as `admin.key` if not given.
    admin_key: Secret = "admin-key", "CONTINUO_ADMIN_KEY", "KEY", hide_env_values = true;
    /// Encrypts secret keys at rest: 32 bytes in base64; made and kept in the data directory if not given. With Postgres it has
    /// to be given, as the admin key has.
    master_key: Secret = "master-key", "CONTINUO_MASTER_KEY", "BASE64", hide_env_values = true;
}

section! { DatabaseLayer for Database in "database",
    /// Postgres (`postgres://user:password@host/database`), instead of SQLite in the data directory. Its schema is brought up to
    /// date by `continuo migrate up`. The master key and the admin key then have to be given, the same on every replica.
    url: SecretUrl = "database-url", "CONTINUO_DATABASE_URL", "URL", hide_env_values = true;
    /// A read replica of it, for lists; asked only while it has everything that was acknowledged before.
    read_url: SecretUrl = "database-read-url", "CONTINUO_DATABASE_READ_URL", "URL", hide_env_values = true;
    /// Connections to Postgres, at most. All replicas together have to stay below what it grants.
    pool_max: u32 = "database-pool-max", "CONTINUO_DATABASE_POOL_MAX", "COUNT";
}

section! { RedisLayer for Redis in "redis",
    /// Redis (`redis://` or `rediss://`) for hints, waits and leases between replicas; without it Postgres carries hints. Nothing
    /// is kept in it that cannot be lost.
    url: SecretUrl = "redis-url", "CONTINUO_REDIS_URL", "URL", hide_env_values = true;
    /// What every key and channel in Redis begins with; the same on every replica.
    prefix: String = "redis-prefix", "CONTINUO_REDIS_PREFIX", "PREFIX";
}

section! { S2Layer for S2 in "s2",
    /// S2 for the records of channels, instead of the embedded log: `cloud`, or the URL of an S2-compatible server such as s2-lite.
    endpoint: String = "s2-endpoint", "CONTINUO_S2_ENDPOINT", "URL";
    /// Access token of S2, which may make and use the basins; it never leaves the server.
    access_token: Secret = "s2-access-token", "CONTINUO_S2_ACCESS_TOKEN", "TOKEN", hide_env_values = true;
    /// What the names of basins begin with, of which each organization has one; the same for the life of the database.
    basin_prefix: String = "s2-basin-prefix", "CONTINUO_S2_BASIN_PREFIX", "PREFIX";
}

section! { ClickHouseLayer for ClickHouse in "clickhouse",
    /// ClickHouse (`http://user:password@host:8123`, or `https://…`) for lists of sessions, instead of the database; needs Postgres,
    /// whose log feeds it. Its schema is brought up to date by `continuo migrate up`. Where this and its siblings of replication are
    /// not given, SESSION_REPLICATION_CLICKHOUSE_URL, _ENABLED, _SLOT_NAME, _PUBLICATION_NAME, _FLUSH_INTERVAL_MS,
    /// _FLUSH_BATCH_SIZE and _MAX_FLUSH_CONCURRENCY are read.
    url: SecretUrl = "clickhouse-url", "CONTINUO_CLICKHOUSE_URL", "URL", hide_env_values = true;
    /// The database in ClickHouse; made by `continuo migrate up` where it is missing.
    database: String = "clickhouse-database", "CONTINUO_CLICKHOUSE_DATABASE", "NAME";
}

section! { ReplicationLayer for Replication in "replication",
    /// May this replica copy sessions from Postgres to ClickHouse? One of those that may does it, and another one where that one
    /// goes. Means nothing without ClickHouse.
    enabled: bool = "replication", "CONTINUO_REPLICATION_ENABLED", "BOOL", value_parser = BoolishValueParser::new();
    /// Replication slot in Postgres, made where it is missing; the same on every replica.
    slot_name: String = "replication-slot-name", "CONTINUO_REPLICATION_SLOT_NAME", "NAME";
    /// Publication in Postgres, made where it is missing; the same on every replica.
    publication_name: String = "replication-publication-name", "CONTINUO_REPLICATION_PUBLICATION_NAME", "NAME";
    /// Milliseconds for which changes are gathered before they are sent to ClickHouse.
    flush_interval_ms: u32 = "replication-flush-interval-ms", "CONTINUO_REPLICATION_FLUSH_INTERVAL_MS", "MS";
    /// Changes that are sent at once, at most.
    batch_rows: u32 = "replication-batch-rows", "CONTINUO_REPLICATION_BATCH_ROWS", "COUNT";
    /// Batches that may be on their way to ClickHouse at the same time.
    flights: u32 = "replication-flights", "CONTINUO_REPLICATION_FLIGHTS", "COUNT";
}

section! { CreateLayer for Create in "create",
    /// Let public tokens create sessions, if they may trigger the task and write the session.
    allow_jwt: bool = "create-allow-jwt", "CONTINUO_CREATE_ALLOW_JWT", "BOOL";
}

section! { TasksLayer for Tasks in "tasks",
    /// Refuse runs of a task that no worker has ever announced, instead of queueing them.
    strict: bool = "tasks-strict", "CONTINUO_TASKS_STRICT", "BOOL";
}

section! { WorkerLayer for Worker in "worker",
    /// Milliseconds a worker's lease lives without a heartbeat: how long a run of a worker that vanished is held.
    lease_ms: u32 = "worker-lease-ms", "CONTINUO_WORKER_LEASE_MS", "MS";
    /// Milliseconds between heartbeats that workers are asked for; at most half a lease.
    heartbeat_ms: u32 = "worker-heartbeat-ms", "CONTINUO_WORKER_HEARTBEAT_MS", "MS";
    /// Milliseconds a run that handed its session over may go on before it is canceled.
    stop_grace_ms: u32 = "worker-stop-grace-ms", "CONTINUO_WORKER_STOP_GRACE_MS", "MS";
}

section! { ChannelsLayer for Channels in "channels",
    /// How long named channels keep their records where no writer says, in seconds; 0 is for ever.
    max_age_seconds: u64 = "channels-max-age-seconds", "CONTINUO_CHANNELS_MAX_AGE_SECONDS", "SECONDS";
}

section! { StreamLayer for Stream in "stream",
    /// Milliseconds for which clients that write a channel directly gather records before they send them.
    flush_interval_ms: u32 = "stream-flush-interval-ms", "CONTINUO_STREAM_FLUSH_INTERVAL_MS", "MS";
    /// How often such clients are told to try again.
    max_retries: u32 = "stream-max-retries", "CONTINUO_STREAM_MAX_RETRIES", "COUNT";
}

section! { ChannelLogLayer for ChannelLog in "channel_log",
    /// Size of a segment file of the channel log, in bytes.
    segment_bytes: u64 = "channel-log-segment-bytes", "CONTINUO_CHANNEL_LOG_SEGMENT_BYTES", "BYTES";
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

impl BlobsLayer {
    /// Where anything of the bucket is given, all of it is looked at.
    pub(super) fn lay_over(self, below: &mut Blobs) {
        below.packet_days.set(self.packet_days);
        if !self.s3.is_silent() {
            self.s3.lay_over(below.s3.get_or_insert_default());
        }
    }
}

section! { S3Layer for S3 in "blobs.s3",
    /// URL of an S3-compatible store that keeps snapshots and packets, instead of files in the data directory; with the next three.
    endpoint: String = "blobs-s3-endpoint", "CONTINUO_BLOBS_S3_ENDPOINT", "URL";
    /// Name of a bucket that is there. It stays private: clients put and get their blobs through this server.
    bucket: String = "blobs-s3-bucket", "CONTINUO_BLOBS_S3_BUCKET", "NAME";
    /// Access key that may list, get, put and delete in the bucket.
    access_key: Secret = "blobs-s3-access-key", "CONTINUO_BLOBS_S3_ACCESS_KEY", "KEY", hide_env_values = true;
    /// Secret key that belongs to it.
    secret_key: Secret = "blobs-s3-secret-key", "CONTINUO_BLOBS_S3_SECRET_KEY", "KEY", hide_env_values = true;
    /// Region of the bucket; us-east-1 if not given.
    region: String = "blobs-s3-region", "CONTINUO_BLOBS_S3_REGION", "REGION";
    /// Name the bucket in the path, as most stores want it, and not in the host name; true if not given.
    path_style: bool = "blobs-s3-path-style", "CONTINUO_BLOBS_S3_PATH_STYLE", "BOOL";
    /// What every key in the bucket begins with, for a bucket that others use too.
    prefix: String = "blobs-s3-prefix", "CONTINUO_BLOBS_S3_PREFIX", "PREFIX";
}

section! { LogLayer for Log in "log",
    /// What is logged, for example `info,continuo=debug`.
    filter: String = "log", "CONTINUO_LOG", "FILTER";
    /// How log lines look.
    format: LogFormat = "log-format", "CONTINUO_LOG_FORMAT", "FORMAT";
}

section! { DemoLayer for Demo in "demo",
    /// Start the demo agent (task `demo-agent`) with the server.
    enabled: bool = "demo", "CONTINUO_DEMO_ENABLED", "BOOL";
    /// Milliseconds between two tokens of the demo agent's answers.
    token_ms: u32 = "demo-token-ms", "CONTINUO_DEMO_TOKEN_MS", "MS";
    /// Milliseconds the demo agent stays awake for a follow-up before it suspends.
    idle_ms: u32 = "demo-idle-ms", "CONTINUO_DEMO_IDLE_MS", "MS";
}
