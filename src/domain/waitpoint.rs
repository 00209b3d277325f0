//! Waitpoints: what a run can wait for, and waits on channels.

use crate::channel::{Direction, SeqNum};
use crate::id::{EnvironmentId, RunId, SessionId, WaitpointId};
use crate::run::RunError;
use crate::time::Timestamp;

/// Longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 2_048;
/// How long a wait without a timeout stays registered for a wake by append: 7 days.
pub const REGISTRATION_MS_DEFAULT: u64 = 7 * 86_400_000;

/// What completes a waitpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitpointKind {
    /// A caller, or a record on a channel.
    Manual,
    /// The clock.
    DateTime,
    /// The end of a run.
    Run,
}

impl WaitpointKind {
    /// The spelling in rows and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "MANUAL",
            Self::DateTime => "DATETIME",
            Self::Run => "RUN",
        }
    }

    /// Reads the spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Manual, Self::DateTime, Self::Run].into_iter().find(|k| k.as_str() == text)
    }
}

/// The session whose channel a wait is on. A wait may be registered by a name before the session exists; creating the
/// session binds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WaitedSession {
    /// A row.
    Id(SessionId),
    /// A name without a row yet.
    Name(String),
}

/// A wait on a reserved channel: completes with the first record at or after `from_seq_num`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelWait {
    /// Whose channel.
    pub session: WaitedSession,
    /// Which side.
    pub direction: Direction,
    /// The first number that counts: one more than the last one the waiter has seen, or 0.
    pub from_seq_num: SeqNum,
}

/// How a waitpoint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The output text, if there is one.
    pub output: Option<String>,
    /// Its content type.
    pub output_type: String,
    /// The output is an error (a timeout, for example).
    pub is_error: bool,
}

impl Completion {
    /// Completed with a JSON text or a raw body.
    pub fn json(output: impl Into<String>) -> Self {
        Self { output: Some(output.into()), output_type: "application/json".into(), is_error: false }
    }

    /// Completed with nothing to say.
    pub fn empty() -> Self {
        Self { output: None, output_type: "application/json".into(), is_error: false }
    }

    /// The clock ran out. `at_iso` is the moment as ISO 8601.
    pub fn timed_out(at_iso: &str) -> Self {
        let output = format!(r#"{{"code":"TRIGGER_WAITPOINT_TIMEOUT","message":"Waitpoint timed out at {at_iso}"}}"#);
        Self { output: Some(output), output_type: "application/json".into(), is_error: true }
    }

    /// The run that was waited for failed. The error is spelled as clients read one.
    pub fn failed(error: &RunError) -> Self {
        let RunError { name, message, stack_trace } = error;
        let output = serde_json::json!({
            "type": "BUILT_IN_ERROR",
            "name": name,
            "message": message,
            "stackTrace": stack_trace.as_deref().unwrap_or_default(),
        });
        Self { output: Some(output.to_string()), output_type: "application/json".into(), is_error: true }
    }

    /// What was waited for cannot come any more: the session was deleted.
    pub fn session_deleted() -> Self {
        let output = r#"{"code":"SESSION_DELETED","message":"The session was deleted"}"#.into();
        Self { output: Some(output), output_type: "application/json".into(), is_error: true }
    }
}

/// A waitpoint row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waitpoint {
    /// Its id.
    pub id: WaitpointId,
    /// Its tenant.
    pub environment: EnvironmentId,
    /// What completes it.
    pub kind: WaitpointKind,
    /// The run that made it, if one did.
    pub run: Option<RunId>,
    /// The channel it waits on, if it does.
    pub channel: Option<ChannelWait>,
    /// The run whose end it waits for, if it does.
    pub awaited_run: Option<RunId>,
    /// A repeat of the creation with this key gets this waitpoint.
    pub idempotency_key: Option<String>,
    /// Until when the key counts.
    pub idempotency_key_expires_at: Option<Timestamp>,
    /// Labels.
    pub tags: Vec<String>,
    /// When it completes by itself.
    pub timeout_at: Option<Timestamp>,
    /// Set once.
    pub completed_at: Option<Timestamp>,
    /// Set with `completed_at`.
    pub completion: Option<Completion>,
    /// Creation.
    pub created_at: Timestamp,
}

impl Waitpoint {
    /// Still waited for?
    pub fn is_open(&self) -> bool {
        self.completed_at.is_none()
    }
}
