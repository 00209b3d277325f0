//! The verbs: what can be done with sessions, channels, runs and waits. One verb a file, all on [`Core`], which holds the
//! ports. Nothing here knows a transport or a store.

mod access;
mod admin;
mod append_record;
mod attach;
mod blobs;
mod body;
mod boot;
mod clock;
mod close_session;
mod create_session;
mod delete_session;
mod end_and_continue;
mod ensure_run;
mod fence;
mod follow_up;
mod held_claim;
mod hints;
mod initialize_channel;
mod list_channels;
mod list_queues;
mod list_records;
mod list_sessions;
mod list_workers;
mod open_streams;
mod produce;
mod read_channel;
mod remembered;
mod retention;
mod runs;
mod seen;
mod session_arrival;
mod settled;
mod signals;
mod sweep;
mod tokens;
mod transcript;
mod trim_channel;
mod turn;
mod update_session;
mod wait_as_of;
mod waits;
mod work;

pub use access::ChannelTarget;
pub use admin::{Administration, ENVIRONMENT_TOKEN_MS_DEFAULT, NewApiKey, NewEnvironment, ROTATED_KEY_MS};
pub use append_record::{AppendRequest, Boot};
pub use attach::{Attach, Attached};
pub use blobs::{BlobTarget, Blobs, RunValue, SignedUrl, Upload};
pub use create_session::{CreateSession, CreatedSession};
pub use end_and_continue::{Continued, EndAndContinue};
pub use initialize_channel::{
    CHANNEL_MAX_AGE_SECONDS_MAX, InitializedChannel, PUBLIC_STREAM_TOKEN_MS, STREAM_TOKEN_MS,
};
pub use list_channels::{CHANNELS_PAGE_MAX, ChannelPage, ListChannels};
pub use list_queues::QUEUES_MAX;
pub use list_sessions::{ListSessions, SessionPage};
pub use list_workers::WORKERS_PAGE_MAX;
pub use open_streams::Standing;
pub use produce::{Batch, Producer, StreamAppend};
pub use read_channel::{ChannelRead, HEARTBEAT_MS_DEFAULT, IDLE_TIMEOUT_MS_MAX, ReadChannel, ReadMessage};
pub use runs::{RunFamily, TriggeredBy};
pub use tokens::{NewToken, PUBLIC_TOKEN_MS_DEFAULT, PUBLIC_TOKEN_MS_MAX, SESSION_TOKEN_MS, WAITPOINT_TOKEN_MS};
pub use transcript::{GetTranscript, TRANSCRIPT_LIMIT_DEFAULT, TRANSCRIPT_LIMIT_MAX, Transcript};
pub use wait_as_of::{WAIT_AS_OF_MS_MAX, WaitAsOf};
pub use waits::{NewManualWaitpoint, WaitForDuration, WaitOnChannel};
pub use work::{Assigned, LeaseRef, RevokeReason, RunTokens, WorkerEvent, WorkerHello, WorkerMessage};

use continuo_ports::{
    BlobStore, ChannelStore, Clock, Environments, Hints, Ids, Leases, RunStore, SessionIndex, SessionStore, Tokens,
    WaitpointRegistry, WorkerStore,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The outside, as the use cases need it.
pub struct Ports {
    /// Session rows.
    pub sessions: Arc<dyn SessionStore>,
    /// Lists of sessions.
    pub index: Arc<dyn SessionIndex>,
    /// Runs and waitpoints.
    pub runs: Arc<dyn RunStore>,
    /// Connected workers.
    pub workers: Arc<dyn WorkerStore>,
    /// Channel logs.
    pub channels: Arc<dyn ChannelStore>,
    /// Snapshots and packets.
    pub blobs: Arc<dyn BlobStore>,
    /// Who waits on a channel, as a hint.
    pub registry: Arc<dyn WaitpointRegistry>,
    /// Word to and from the other replicas.
    pub hints: Arc<dyn Hints>,
    /// Who does what one replica is enough for.
    pub leases: Arc<dyn Leases>,
    /// Bearer tokens.
    pub tokens: Arc<dyn Tokens>,
    /// Tenants and keys.
    pub environments: Arc<dyn Environments>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh identifiers.
    pub ids: Arc<dyn Ids>,
}

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Public tokens may create sessions, under the two-permission rule.
    pub create_allow_jwt: bool,
    /// A task must have been announced by a worker before runs of it are taken.
    pub tasks_strict: bool,
    /// How long a lease lives without a heartbeat.
    pub lease_ms: u32,
    /// How often workers are asked to send heartbeats.
    pub heartbeat_ms: u32,
    /// How long an executing run may go on after it was asked to stop.
    pub stop_grace_ms: u64,
    /// How long named channels keep their records where no writer says; `None` is for ever.
    pub channel_max_age_seconds: Option<u64>,
    /// How long a packet is kept after it was last put; `None` for ever.
    pub packets_kept_ms: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            create_allow_jwt: false,
            tasks_strict: false,
            lease_ms: 30_000,
            heartbeat_ms: 10_000,
            stop_grace_ms: continuo_domain::run::STOP_GRACE_MS,
            channel_max_age_seconds: None,
            packets_kept_ms: None,
        }
    }
}

/// All verbs. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    ports: Arc<Ports>,
    settings: Settings,
    signals: Arc<signals::Signals>,
    follow_ups: Arc<follow_up::FollowUps>,
    names: Arc<remembered::Names>,
    tenants: Arc<remembered::Tenants>,
    streams: Arc<open_streams::OpenStreams>,
    stopping: CancellationToken,
}

impl Core {
    /// The core on its ports. `stopping` ends every stream and every background loop.
    pub fn new(ports: Ports, settings: Settings, stopping: CancellationToken) -> Self {
        Self {
            ports: Arc::new(ports),
            settings,
            signals: Arc::default(),
            follow_ups: Arc::default(),
            names: Arc::default(),
            tenants: Arc::default(),
            streams: Arc::default(),
            stopping,
        }
    }

    /// Whose bearer this is.
    pub async fn authenticate(&self, bearer: &str) -> continuo_domain::Result<continuo_domain::principal::Principal> {
        self.ports.tokens.authenticate(bearer).await
    }

    /// The node is going away.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The time, as statuses and durations are derived at.
    pub fn now(&self) -> continuo_domain::Timestamp {
        self.ports.clock.now()
    }
}
