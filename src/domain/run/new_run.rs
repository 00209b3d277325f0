//! What a run is made of when it is triggered.

use super::{ATTEMPTS_DEFAULT, Debounce, RUN_JSON_BYTES_MAX, Run};
use crate::blob::STORED_TYPE;
use crate::id::{EnvironmentId, RunId, SessionId};
use crate::json::Entries;
use crate::session::{Json, Session, TASK_CHARS_MAX, check_tags, ttl_ms};
use crate::text::bounded;
use crate::time::Timestamp;
use crate::waitpoint::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::{Result, error::Violations};

/// Longest text of the limits that a run asks for.
const LIMITS_JSON_BYTES_MAX: usize = 4_096;

/// A run to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Freshly made id.
    pub id: RunId,
    /// Tenant.
    pub environment: EnvironmentId,
    /// The session it is for.
    pub session: Option<SessionId>,
    /// What it executes.
    pub task_identifier: String,
    /// Payload text.
    pub payload: String,
    /// Its content type.
    pub payload_type: String,
    /// Queue; the task's own if none.
    pub queue: Option<String>,
    /// Most runs of the queue (per concurrency key) that execute at once.
    pub queue_limit: Option<u32>,
    /// Splits the queue.
    pub concurrency_key: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// Machine preset.
    pub machine: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Worker version it is pinned to.
    pub lock_to_version: Option<String>,
    /// Attempts, 1 to 10.
    pub max_attempts: u32,
    /// Seconds it may execute, over all attempts.
    pub max_duration_s: Option<u32>,
    /// It expires if not started by then.
    pub ttl_ms: Option<u64>,
    /// It is not queued before.
    pub delay_until: Option<Timestamp>,
    /// A repeat of the trigger with this key, for the same task, gets this run.
    pub idempotency_key: Option<String>,
    /// How long the key counts; for ever if not given.
    pub idempotency_key_ttl_ms: Option<u64>,
    /// Labels.
    pub tags: Vec<String>,
    /// The caller's JSON object.
    pub metadata: Option<Json>,
    /// Made by a test.
    pub is_test: bool,
    /// Deployment of whoever triggered it.
    pub external_deployment_id: Option<String>,
    /// The run that triggered it.
    pub parent: Option<Parent>,
    /// The batch it was triggered in.
    pub batch: Option<String>,
    /// The bulk action that made it.
    pub bulk_action: Option<String>,
    /// Named limits and gates it asks for, as a JSON object. What nobody has declared bounds nothing.
    pub limits: Option<Json>,
    /// What its idempotency key was made of.
    pub user_key: Option<UserKey>,
    /// It gathers the triggers that follow closely.
    pub debounce: Option<Debounce>,
}

/// The run that triggered another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The run.
    pub run: RunId,
    /// The run at the top: the parent itself, if that has no parent.
    pub root: RunId,
    /// How far below the root the child stands, from 1.
    pub depth: u32,
    /// The parent waits for the child's end.
    pub waits: bool,
}

impl Parent {
    /// What a child of this run notes.
    pub fn of_child(parent: &Run, waits: bool) -> Self {
        let above = parent.spec.parent.as_ref();
        Self {
            run: parent.spec.id.clone(),
            root: above.map_or(&parent.spec.id, |above| &above.root).clone(),
            depth: above.map_or(0, |above| above.depth) + 1,
            waits,
        }
    }
}

/// The key a caller gave before its client made an idempotency key of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKey {
    /// The key.
    pub key: String,
    /// Within what it is unique.
    pub scope: KeyScope,
}

/// Within what a caller's key is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// The run that triggers.
    Run,
    /// The attempt that triggers.
    Attempt,
    /// The environment.
    Global,
}

impl KeyScope {
    /// The spelling in rows and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Attempt => "attempt",
            Self::Global => "global",
        }
    }

    /// Reads the spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Run, Self::Attempt, Self::Global].into_iter().find(|scope| scope.as_str() == text)
    }
}

impl NewRun {
    /// A run of a task with nothing special.
    pub fn of_task(id: RunId, environment: EnvironmentId, task_identifier: &str, payload: String) -> Self {
        Self {
            id,
            environment,
            session: None,
            task_identifier: task_identifier.to_owned(),
            payload,
            payload_type: "application/json".into(),
            queue: None,
            queue_limit: None,
            concurrency_key: None,
            priority: 0,
            machine: None,
            region: None,
            lock_to_version: None,
            max_attempts: ATTEMPTS_DEFAULT,
            max_duration_s: None,
            ttl_ms: None,
            delay_until: None,
            idempotency_key: None,
            idempotency_key_ttl_ms: None,
            tags: Vec::new(),
            metadata: None,
            is_test: false,
            external_deployment_id: None,
            parent: None,
            batch: None,
            bulk_action: None,
            limits: None,
            user_key: None,
            debounce: None,
        }
    }

    /// The next run of a session. `previous` is the run it continues, if the session ever had one.
    pub fn of_session(id: RunId, session: &Session, previous: Option<&RunId>) -> Result<Self> {
        let config = &session.trigger_config;
        let payload = boot_payload(session, previous)?;
        Ok(Self {
            session: Some(session.id.clone()),
            queue: config.queue.clone(),
            concurrency_key: config.concurrency_key.clone(),
            limits: named_limits(&config.concurrency),
            machine: config.machine.clone(),
            region: config.region.clone(),
            lock_to_version: config.lock_to_version.clone(),
            external_deployment_id: config.external_deployment_id.clone(),
            max_attempts: config.max_attempts.unwrap_or(ATTEMPTS_DEFAULT),
            max_duration_s: config.max_duration_s,
            ttl_ms: config.ttl.as_deref().and_then(ttl_ms),
            tags: config.tags.clone(),
            is_test: session.is_test,
            ..Self::of_task(id, session.tenant.environment.clone(), &session.task_identifier, payload)
        })
    }

    /// Checks every limit and reports all that is broken.
    pub fn check(&self) -> Result<()> {
        let mut found = Violations::new();
        found.take(bounded("task_identifier", &self.task_identifier, TASK_CHARS_MAX))?;
        if self.payload.len() > RUN_JSON_BYTES_MAX {
            found.add("payload", "is longer than 3 MiB; store it and send a reference");
        }
        if !(1..=10).contains(&self.max_attempts) {
            found.add("max_attempts", "must be a whole number from 1 to 10");
        }
        if self.max_duration_s == Some(0) {
            found.add("max_duration_s", "must be at least 1");
        }
        for (field, value) in [("queue", &self.queue), ("concurrency_key", &self.concurrency_key)] {
            if let Some(value) = value {
                found.take(bounded(field, value, TASK_CHARS_MAX))?;
            }
        }
        if let Some(key) = &self.idempotency_key {
            found.take(bounded("idempotency_key", key, IDEMPOTENCY_KEY_CHARS_MAX))?;
        }
        let names = [
            ("lock_to_version", &self.lock_to_version),
            ("external_deployment_id", &self.external_deployment_id),
            ("region", &self.region),
            ("batch_id", &self.batch),
            ("bulk_action_id", &self.bulk_action),
        ];
        for (field, value) in names {
            if let Some(value) = value {
                found.take(bounded(field, value, TASK_CHARS_MAX))?;
            }
        }
        if self.limits.as_ref().is_some_and(|limits| limits.as_str().len() > LIMITS_JSON_BYTES_MAX) {
            found.add("limits_json", "is longer than 4096 bytes");
        }
        if let Some(key) = &self.user_key {
            found.take(bounded("idempotency_key_options.key", &key.key, IDEMPOTENCY_KEY_CHARS_MAX))?;
        }
        if self.payload_type == STORED_TYPE && self.payload.is_empty() {
            found.add("payload", "must name the packet that holds it, since its type is application/store");
        }
        if let Some(debounce) = &self.debounce {
            debounce.check(&mut found)?;
        }
        check_tags("tags", &self.tags, &mut found);
        found.finish()
    }
}

/// The names of limits as a run carries them.
fn named_limits(names: &[String]) -> Option<Json> {
    (!names.is_empty()).then(|| Json::trusted(serde_json::json!({ "concurrency": names }).to_string()))
}

/// The payload a session's run starts with: the base payload, the idle timeout, the session's id, and for a session that
/// had a run before, the marks of a continuation instead of what belonged to the first boot.
fn boot_payload(session: &Session, previous: Option<&RunId>) -> Result<String> {
    let config = &session.trigger_config;
    let base_payload = config.base_payload.as_str();
    let unreadable = || crate::Error::internal("a stored base payload is not a JSON object");
    let mut payload = Entries::parse(base_payload).ok_or_else(unreadable)?;
    if let Some(seconds) = config.idle_timeout_s {
        payload.set("idleTimeoutInSeconds", seconds.to_string());
    }
    payload.set("sessionId", format!("\"{}\"", session.id));
    if let Some(previous) = previous {
        payload.set("continuation", "true");
        payload.set("previousRunId", format!("\"{previous}\""));
        for first_boot in ["message", "messages", "trigger"] {
            payload.remove(first_boot);
        }
    }
    Ok(payload.to_string())
}
