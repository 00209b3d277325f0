//! Sessions: one identifier, two channels, many runs.

use crate::channel::SeqNum;
use crate::id::{EnvironmentId, OrganizationId, ProjectId, RunId, SessionId};
use crate::principal::is_unsafe_key;
use crate::run::RunReason;
use crate::text::bounded;
use crate::time::{Timestamp, parse_duration_ms};
use crate::{Error, Result, Violation, error::Violations};
use serde_json::value::RawValue;

/// Longest external id, in characters.
pub const EXTERNAL_ID_CHARS_MAX: usize = 256;
/// Most tags of a session, and of a trigger config.
pub const TAGS_MAX: usize = 10;
/// Longest tag, in characters.
pub const TAG_CHARS_MAX: usize = 128;
/// Longest `type`, in characters.
pub const TYPE_CHARS_MAX: usize = 64;
/// Longest task identifier, in characters.
pub const TASK_CHARS_MAX: usize = 128;
/// Longest close reason, in characters.
pub const CLOSE_REASON_CHARS_MAX: usize = 256;
/// Most bytes of a session's metadata or base payload, as JSON text.
pub const JSON_BYTES_MAX: usize = 512 * 1024;
/// Fewest and most sessions of a page.
pub const PAGE_SIZE_MAX: u32 = 100;

/// JSON text that is carried as it came: key order, number spelling and spacing included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Reads any JSON value.
    pub fn parse(field: &str, text: String) -> Result<Self> {
        let problem = match serde_json::from_str::<&RawValue>(&text) {
            _ if text.len() > JSON_BYTES_MAX => "is longer than 512 KiB",
            Err(_) => "is not valid JSON",
            Ok(_) => return Ok(Self(text)),
        };
        Err(Violation::new(field, problem).into())
    }

    /// Reads a JSON object.
    pub fn parse_object(field: &str, text: String) -> Result<Self> {
        let json = Self::parse(field, text)?;
        if json.0.trim_start().starts_with('{') {
            return Ok(json);
        }
        Err(Violation::new(field, "must be a JSON object").into())
    }

    /// Text that was checked before: from a row, or made here.
    pub fn trusted(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The caller's own name for a session, unique in its environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExternalId(String);

impl ExternalId {
    /// Reads a name for a session that is made or renamed. Surrounding white space is dropped.
    pub fn parse(text: &str) -> Result<Self> {
        let name = bounded("external_id", text.trim(), EXTERNAL_ID_CHARS_MAX)?;
        if name.starts_with(SessionId::PREFIX) {
            return Err(Error::ExternalIdReserved(
                "externalId cannot start with 'session_' (reserved prefix for internal friendlyIds)",
            ));
        }
        if is_unsafe_key(&name) {
            return Err(Error::ExternalIdReserved(
                "externalId cannot contain \":channels:\" or end in \":out\" or \":in\"",
            ));
        }
        Ok(Self(name))
    }

    /// A name from a row, or one that is only looked up.
    pub fn trusted(text: String) -> Self {
        Self(text)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRef {
    /// By its id.
    Id(SessionId),
    /// By the caller's name.
    External(ExternalId),
}

impl SessionRef {
    /// What starts with `session_` is an id, anything else a name.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with(SessionId::PREFIX) {
            return SessionId::parse(text).map(Self::Id);
        }
        bounded("session", text, EXTERNAL_ID_CHARS_MAX).map(|name| Self::External(ExternalId(name)))
    }

    /// As it came in.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::External(name) => name.as_str(),
        }
    }
}

/// Derived from `closed_at` and `expires_at`; nothing happens at expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionStatus {
    /// Takes input.
    Active,
    /// Closed, for good.
    Closed,
    /// Past `expires_at` and not closed.
    Expired,
}

/// What the runs of a session are started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerConfig {
    /// JSON object; each run's payload starts from it.
    pub base_payload: Json,
    /// Machine preset.
    pub machine: Option<String>,
    /// Queue name.
    pub queue: Option<String>,
    /// Names of concurrency limits, at most 2.
    pub concurrency: Vec<String>,
    /// Runs with the same key share the queue's limit among themselves.
    pub concurrency_key: Option<String>,
    /// Tags of the runs.
    pub tags: Vec<String>,
    /// 1 to 10.
    pub max_attempts: Option<u32>,
    /// Seconds a run may execute.
    pub max_duration_s: Option<u32>,
    /// Worker version the runs are pinned to.
    pub lock_to_version: Option<String>,
    /// Deployment the runs are pinned to.
    pub external_deployment_id: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Handed to the run in its payload, 1 to 3600.
    pub idle_timeout_s: Option<u32>,
    /// How long a run may stay queued: a duration or whole seconds, as it came.
    pub ttl: Option<String>,
}

/// Machine presets a run may ask for.
pub const MACHINES: [&str; 7] = ["micro", "small-1x", "small-2x", "medium-1x", "medium-2x", "large-1x", "large-2x"];

impl TriggerConfig {
    /// A config with nothing but a payload.
    pub fn new(base_payload: Json) -> Self {
        Self {
            base_payload,
            machine: None,
            queue: None,
            concurrency: Vec::new(),
            concurrency_key: None,
            tags: Vec::new(),
            max_attempts: None,
            max_duration_s: None,
            lock_to_version: None,
            external_deployment_id: None,
            region: None,
            idle_timeout_s: None,
            ttl: None,
        }
    }

    /// Notes every limit the config breaks.
    pub fn check(&self, found: &mut Violations) {
        let mut text = |field: &str, value: &Option<String>, chars_max: usize| {
            if let Some(Err(Error::InvalidArgument(v))) = value.as_ref().map(|v| bounded("", v, chars_max)) {
                found.add(format!("trigger_config.{field}"), v[0].problem.clone());
            }
        };
        text("queue", &self.queue, 128);
        text("concurrency_key", &self.concurrency_key, 128);
        text("lock_to_version", &self.lock_to_version, 128);
        text("external_deployment_id", &self.external_deployment_id, 128);
        text("region", &self.region, 128);
        if self.machine.as_deref().is_some_and(|m| !MACHINES.contains(&m)) {
            found.add("trigger_config.machine", format!("must be one of {}", MACHINES.join(", ")));
        }
        if self.concurrency.len() > 2 {
            found.add("trigger_config.concurrency", "has more than 2 entries");
        }
        let is_name = |n: &String| {
            (1..=122).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if !self.concurrency.iter().all(is_name) {
            found.add("trigger_config.concurrency", "may hold names of 1 to 122 letters, digits, '_' and '-'");
        }
        check_tags("trigger_config.tags", &self.tags, found);
        let mut range = |field: &str, value: Option<u32>, max: u32| {
            if value.is_some_and(|v| v == 0 || v > max) {
                found.add(format!("trigger_config.{field}"), format!("must be a whole number from 1 to {max}"));
            }
        };
        range("max_attempts", self.max_attempts, 10);
        range("max_duration_s", self.max_duration_s, u32::MAX);
        range("idle_timeout_s", self.idle_timeout_s, 3_600);
        if self.ttl.as_deref().is_some_and(|ttl| ttl_ms(ttl).is_none()) {
            found.add("trigger_config.ttl", "must be a duration such as 10m, or whole seconds");
        }
    }
}

/// A time to live in milliseconds: a duration, or whole seconds.
pub fn ttl_ms(ttl: &str) -> Option<u64> {
    ttl.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000)).or_else(|| parse_duration_ms(ttl))
}

/// Notes what is wrong with a list of tags.
pub fn check_tags(field: &str, tags: &[String], found: &mut Violations) {
    if tags.len() > TAGS_MAX {
        found.add(field, format!("has more than {TAGS_MAX} tags"));
    }
    for (i, tag) in tags.iter().enumerate() {
        if let Err(Error::InvalidArgument(v)) = bounded("", tag, TAG_CHARS_MAX) {
            found.add(format!("{field}[{i}]"), v[0].problem.clone());
        }
    }
}

/// What kind of environment a session lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnvironmentType {
    /// Production.
    Production,
    /// Staging.
    Staging,
    /// A developer's own.
    Development,
    /// A branch's.
    Preview,
}

impl EnvironmentType {
    /// The spelling in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "PRODUCTION",
            Self::Staging => "STAGING",
            Self::Development => "DEVELOPMENT",
            Self::Preview => "PREVIEW",
        }
    }

    /// Reads the spelling in rows.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Production, Self::Staging, Self::Development, Self::Preview].into_iter().find(|t| t.as_str() == text)
    }

    /// The spelling inside API keys, `tr_<slug>_…`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Production => "prod",
            Self::Staging => "stg",
            Self::Development => "dev",
            Self::Preview => "preview",
        }
    }
}

/// Where a session belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Organization.
    pub organization: OrganizationId,
    /// Project.
    pub project: ProjectId,
    /// Environment: the boundary.
    pub environment: EnvironmentId,
    /// Its type.
    pub environment_type: EnvironmentType,
}

/// How the boots of a session have been going.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BootState {
    /// Everything below this number of `.in` was read by some run.
    pub read_seq_num: SeqNum,
    /// The `.in` tail the last continuation by unread input was booted for; one boot per tail.
    pub booted_tail_seq_num: SeqNum,
    /// Runs that ended in a crash without reading anything, in a row.
    pub failures: u32,
    /// No boot before this moment; without failures, a boot that is owed since then.
    pub retry_at: Option<Timestamp>,
    /// Why the last one failed: what an operator sees.
    pub last_error: Option<String>,
}

/// After so many crashes at boot in a row nothing boots by itself any more; new input still tries, at the longest backoff.
pub const BOOT_FAILURES_MAX: u32 = 10;
const BOOT_BACKOFF_FIRST_MS: u64 = 500;
const BOOT_BACKOFF_MAX_MS: u64 = 60_000;

impl BootState {
    /// One more run crashed before it read anything.
    pub fn failed(&mut self, now: Timestamp, error: &str) {
        self.failures = self.failures.saturating_add(1);
        let factor = 1_u64 << (self.failures - 1).min(16);
        self.retry_at = Some(now.plus_ms((BOOT_BACKOFF_FIRST_MS * factor).min(BOOT_BACKOFF_MAX_MS)));
        self.last_error = Some(error.to_owned());
    }

    /// A run got through its boot.
    pub fn succeeded(&mut self) {
        (self.failures, self.retry_at, self.last_error) = (0, None, None);
    }

    /// A boot may be due: from now on, unless it has to wait longer.
    pub fn owe(&mut self, now: Timestamp) {
        self.retry_at = self.retry_at.or(Some(now));
    }

    /// What was owed was looked into. A backoff goes on.
    pub fn settle(&mut self) {
        if self.failures == 0 {
            self.retry_at = None;
        }
    }

    /// Is a look at what is unread owed, apart from any backoff?
    pub fn is_owed(&self) -> bool {
        self.failures == 0 && self.retry_at.is_some()
    }

    /// How long a boot must wait, if it must.
    pub fn wait_ms(&self, now: Timestamp) -> Option<u64> {
        self.retry_at.map(|at| at.ms_since(now)).filter(|&ms| ms > 0)
    }
}

/// A session row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The one identifier.
    pub id: SessionId,
    /// The caller's name.
    pub external_id: Option<ExternalId>,
    /// Free-form, for example `chat.agent`.
    pub session_type: String,
    /// The task its runs execute.
    pub task_identifier: String,
    /// Where it belongs.
    pub tenant: Tenant,
    /// What its runs are started with.
    pub trigger_config: TriggerConfig,
    /// Labels for lists.
    pub tags: Vec<String>,
    /// The caller's JSON object.
    pub metadata: Option<Json>,
    /// Made by a test.
    pub is_test: bool,
    /// The run that owns `.out`, alive or not.
    pub current_run: Option<RunId>,
    /// Raised by one with every claim.
    pub current_run_version: u64,
    /// Write-once.
    pub closed_at: Option<Timestamp>,
    /// Write-once, with `closed_at`.
    pub closed_reason: Option<String>,
    /// The fences of the close stand on every channel, and its wake record is in `.in`.
    pub close_finished: bool,
    /// Set at creation only.
    pub expires_at: Option<Timestamp>,
    /// How boots go.
    pub boot: BootState,
    /// Where a shared channel log has its streams.
    pub basin: Option<String>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change of the row.
    pub updated_at: Timestamp,
}

impl Session {
    /// As it is made: no run has it yet.
    pub fn new(new: NewSession, now: Timestamp) -> Self {
        Self {
            id: new.id,
            external_id: new.external_id,
            session_type: new.session_type,
            task_identifier: new.task_identifier,
            tenant: new.tenant,
            trigger_config: new.trigger_config,
            tags: new.tags,
            metadata: new.metadata,
            is_test: new.is_test,
            current_run: None,
            current_run_version: 0,
            closed_at: None,
            closed_reason: None,
            close_finished: false,
            expires_at: new.expires_at,
            boot: BootState::default(),
            basin: new.basin,
            created_at: now,
            updated_at: now,
        }
    }

    /// Derived status.
    pub fn status(&self, now: Timestamp) -> SessionStatus {
        match (self.closed_at, self.expires_at) {
            (Some(_), _) => SessionStatus::Closed,
            (None, Some(at)) if at <= now => SessionStatus::Expired,
            _ => SessionStatus::Active,
        }
    }

    /// The caller's name if there is one, else the id. What a session token's scopes spell.
    pub fn addressing_key(&self) -> &str {
        self.external_id.as_ref().map_or(self.id.as_str(), ExternalId::as_str)
    }

    /// Refuses what a closed or expired session does not take.
    pub fn check_open(&self, now: Timestamp) -> Result<()> {
        match self.status(now) {
            SessionStatus::Active => Ok(()),
            SessionStatus::Closed => Err(Error::SessionClosed { closed_reason: self.closed_reason.clone() }),
            SessionStatus::Expired => Err(Error::SessionExpired),
        }
    }
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Freshly made id; used only if no row has the external id yet.
    pub id: SessionId,
    /// The caller's name.
    pub external_id: Option<ExternalId>,
    /// Free-form type.
    pub session_type: String,
    /// Task.
    pub task_identifier: String,
    /// Where it belongs.
    pub tenant: Tenant,
    /// What its runs are started with.
    pub trigger_config: TriggerConfig,
    /// Labels.
    pub tags: Vec<String>,
    /// The caller's JSON object.
    pub metadata: Option<Json>,
    /// Made by a test.
    pub is_test: bool,
    /// End of its active life.
    pub expires_at: Option<Timestamp>,
    /// Where a shared channel log puts its streams; pinned, so that a later setting moves nothing.
    pub basin: Option<String>,
}

impl NewSession {
    /// Checks every limit and reports all that is broken.
    pub fn check(&self) -> Result<()> {
        let mut found = Violations::new();
        found.take(bounded("type", &self.session_type, TYPE_CHARS_MAX))?;
        found.take(bounded("task_identifier", &self.task_identifier, TASK_CHARS_MAX))?;
        self.trigger_config.check(&mut found);
        check_tags("tags", &self.tags, &mut found);
        found.finish()
    }
}

/// A change of a session by its owner; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct SessionPatch {
    /// Replaces the tags.
    pub tags: Option<Vec<String>>,
    /// Replaces the metadata; `Some(None)` clears it.
    pub metadata: Option<Option<Json>>,
    /// Renames; `Some(None)` gives the name up. A name given up is free at once.
    pub external_id: Option<Option<ExternalId>>,
}

/// An audit row: a run that claimed the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRun {
    /// The session.
    pub session: SessionId,
    /// The run.
    pub run: RunId,
    /// Why it was started.
    pub reason: RunReason,
    /// The version it claimed.
    pub version: u64,
    /// When.
    pub triggered_at: Timestamp,
}

/// Which sessions a list wants. Empty lists do not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Any of these types.
    pub types: Vec<String>,
    /// Any of these tags.
    pub tags: Vec<String>,
    /// Any of these tasks.
    pub task_identifiers: Vec<String>,
    /// Exactly this name.
    pub external_id: Option<String>,
    /// Any of these statuses, derived at the time of the list.
    pub statuses: Vec<SessionStatus>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
}

/// A position in the list order (created_at, id), newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPosition {
    /// Of the session the position is at.
    pub created_at: Timestamp,
    /// As above.
    pub id: SessionId,
}

/// Which way a page goes from its position; the page itself is always newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFrom {
    /// The newest sessions.
    Start,
    /// Older than the position.
    After(ListPosition),
    /// Newer than the position.
    Before(ListPosition),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_refused() {
        for name in ["session_x", "a:channels:b", "x:in", "x:out", " session_y "] {
            assert!(matches!(ExternalId::parse(name), Err(Error::ExternalIdReserved(_))), "{name}");
        }
        assert!(matches!(ExternalId::parse(""), Err(Error::InvalidArgument(_))));
        assert!(matches!(ExternalId::parse("a\0b"), Err(Error::InvalidArgument(_))));
        assert!(ExternalId::parse(&"é".repeat(256)).is_ok());
        assert!(ExternalId::parse(&"é".repeat(257)).is_err());
        assert_eq!(ExternalId::parse(" a/b: ü ").unwrap().as_str(), "a/b: ü");
    }

    #[test]
    fn boots_back_off_and_recover() {
        let mut boot = BootState::default();
        let now = Timestamp(1_000);
        boot.failed(now, "boom");
        assert_eq!(boot.wait_ms(now), Some(500));
        boot.failed(now, "boom");
        assert_eq!(boot.wait_ms(now), Some(1_000));
        (0..20).for_each(|_| boot.failed(now, "boom"));
        assert_eq!(boot.wait_ms(now), Some(60_000));
        boot.succeeded();
        assert_eq!(boot.wait_ms(now), None);
    }

    #[test]
    fn json_travels_as_it_came() {
        let text = r#"{"b":1.0, "a":12345678901234567890, "b2":"\u00e9"}"#;
        assert_eq!(Json::parse_object("metadata", text.into()).unwrap().as_str(), text);
        assert!(Json::parse_object("metadata", "[1]".into()).is_err());
        assert!(Json::parse("metadata", "{".into()).is_err());
    }
}
