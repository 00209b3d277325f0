//! The one error type. A variant per condition a caller can tell apart; each answers three questions: why, may the
//! caller retry, and did anything happen.

use std::{error::Error as StdError, fmt, sync::Arc};

/// Result with the domain's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in proto spelling, for example `trigger_config.tags[3]`.
    pub field: String,
    /// What is wrong and what would be right, a sentence without the field's name.
    pub problem: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why a bearer token was not accepted. The texts are part of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialProblem {
    /// No token at all.
    Missing,
    /// Not a key of any environment, or a token where only keys are taken.
    UnknownKey,
    /// A public token with a bad signature, issuer, audience or lifetime.
    InvalidToken,
    /// A public token that names no environment we know.
    UnknownSubject,
    /// A run token that is forged or past its life.
    InvalidRunToken,
    /// The credential of a stream that is forged, past its life or revoked.
    InvalidStreamToken,
    /// The token in a waitpoint's URL that is forged.
    InvalidWaitpointToken,
    /// The token of a signed URL that is forged or past its life.
    InvalidUrl,
}

impl CredentialProblem {
    /// The sentence a client sees.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "Invalid or Missing API key",
            Self::UnknownKey => "Invalid API key",
            Self::InvalidToken => "Public Access Token is invalid",
            Self::UnknownSubject => "Invalid Public Access Token",
            Self::InvalidRunToken => "Run token is invalid",
            Self::InvalidStreamToken => "Stream token is invalid",
            Self::InvalidWaitpointToken => "Waitpoint token is invalid",
            Self::InvalidUrl => "The URL is invalid or has expired",
        }
    }
}

/// The private half of a failure: for the log, never for the wire.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl Cause {
    /// Wraps what went wrong inside.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }

    /// What was wrapped, if it is of this type.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The chain of sources as one line, for the log.
    pub fn for_log(&self) -> String {
        let mut line = self.0.to_string();
        let mut next = self.0.source();
        while let Some(source) = next {
            line.push_str(": ");
            line.push_str(&source.to_string());
            next = source.source();
        }
        line
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.for_log())
    }
}

/// Every condition a caller can tell apart. `Display` is the public half of the message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// One or more fields do not parse or break a limit.
    #[error("{}", violations_line(.0))]
    InvalidArgument(Vec<Violation>),
    /// An external id that is reserved or could be mistaken for a narrowed scope.
    #[error("{0}")]
    ExternalIdReserved(&'static str),
    /// No credential, or one that is not accepted.
    #[error("{}", .0.message())]
    Unauthenticated(CredentialProblem),
    /// The caller's scopes do not cover this; says nothing about existence.
    #[error("Unauthorized")]
    PermissionDenied,
    /// The requested scopes are more than the key that asks has.
    #[error("Requested scopes exceed the API key's access")]
    ScopesExceedKey(Vec<String>),
    /// Writing or initializing `.out` without a secret key or run token.
    #[error("Appending to the out channel requires secret key authentication")]
    OutNeedsSecretKey,
    /// Reading the reserved `.in` without a secret key or run token.
    #[error("Reading the in channel requires secret key authentication")]
    InNeedsSecretKey,
    /// A condition or a command by a caller who may append here, without a secret key or run token. Part of
    /// [`Reason::PermissionDenied`].
    #[error("Conditions and commands require secret key authentication")]
    ConditionNeedsSecretKey,
    /// No such session in this environment.
    #[error("Session not found")]
    SessionNotFound,
    /// The session is closed and takes no more input.
    #[error("Cannot append to a closed session")]
    SessionClosed {
        /// Why it was closed, if the closer said.
        closed_reason: Option<String>,
    },
    /// The session's `expires_at` has passed.
    #[error("Cannot append to an expired session")]
    SessionExpired,
    /// Create met a closed row.
    #[error("Session is closed; use a different externalId to create a new session")]
    SessionAlreadyClosed,
    /// Create met an expired row.
    #[error("Session is expired; use a different externalId to create a new session")]
    SessionAlreadyExpired,
    /// Another session of the environment has this external id.
    #[error("A session with this externalId already exists in this environment")]
    ExternalIdTaken,
    /// One record is over the per-record limit.
    #[error(
        "Record metered size {metered_bytes} bytes exceeds the S2 per-record limit of {limit_bytes} bytes. Reduce tool-output size or split into smaller parts."
    )]
    RecordTooLarge {
        /// What the record weighs: 8 + 2 per header + header bytes + body bytes.
        metered_bytes: usize,
        /// [`crate::channel::RECORD_METERED_BYTES_MAX`].
        limit_bytes: usize,
    },
    /// `match_seq_num` is not the number the first record would get.
    #[error("the next sequence number is {tail_seq_num}")]
    SeqNumMismatch {
        /// The number it would have had.
        tail_seq_num: u64,
    },
    /// A newer run owns the channel, or the fencing token differs.
    #[error("a newer owner holds this channel")]
    Fenced {
        /// The fencing token in force.
        fencing_token: String,
    },
    /// The same part id was stored with another body.
    #[error("this part id was already used with a different body")]
    PartIdReused {
        /// Where the first body stands.
        seq_num: u64,
    },
    /// A read asked for a position past the tail and did not ask to clamp.
    #[error("the position is past the tail, which is {tail_seq_num}")]
    PastTail {
        /// The tail.
        tail_seq_num: u64,
    },
    /// No such run in this environment.
    #[error("Run not found")]
    RunNotFound,
    /// The caller acts on an execution snapshot that is no longer the latest.
    #[error("the run has moved on; this snapshot is stale")]
    StaleSnapshot {
        /// The latest snapshot's number.
        snapshot: u64,
    },
    /// The run cannot do this in its status.
    #[error("the run is {status}")]
    RunNotReady {
        /// Status in its public spelling.
        status: &'static str,
    },
    /// With `tasks.strict`: no worker has ever announced this task.
    #[error("Task not found")]
    TaskNotFound,
    /// Three rounds found a winner that was already over.
    #[error("no run could be claimed for the session; try again")]
    RunNotClaimed,
    /// Boots of this session end in crashes; it waits before the next one.
    #[error("the session's runs crash at boot; the next boot is delayed")]
    BootBackoff {
        /// Milliseconds until the next boot may happen.
        retry_after_ms: u64,
    },
    /// The index did not come as far as the caller asked for in time.
    #[error("lists are not as far as wait_as_of yet; try again")]
    IndexBehind,
    /// No such waitpoint in this environment.
    #[error("Waitpoint not found")]
    WaitpointNotFound,
    /// Nothing was stored under this key.
    #[error("Blob not found")]
    BlobNotFound,
    /// A blob is over the limit of its kind.
    #[error("The blob is larger than {limit_bytes} bytes")]
    BlobTooLarge {
        /// [`crate::blob::BlobKey::bytes_max`].
        limit_bytes: u64,
    },
    /// The session's snapshot is not one that messages can be read from.
    #[error("the transcript cannot be read: {0}")]
    TranscriptUnreadable(&'static str),
    /// A limit of the caller or the node is used up for now.
    #[error("{what} is over its limit; try again later")]
    LimitExceeded {
        /// What was limited.
        what: &'static str,
        /// When trying again makes sense.
        retry_after_ms: u64,
    },
    /// A store is not reachable or not able; nothing was done.
    #[error("the store is not available; try again")]
    Unavailable(Cause),
    /// A store failed in a way that leaves open whether the write is durable. Never reported as success.
    #[error("the outcome of the write is not known")]
    OutcomeUnknown(Cause),
    /// The node is stopping.
    #[error("the server is stopping; reconnect")]
    Stopping,
    /// Stored bytes do not match their checksum.
    #[error("stored data is damaged")]
    Damaged(Cause),
    /// A bug. The text is fixed; the cause goes to the log.
    #[error("Internal Server Error")]
    Internal(Cause),
}

fn violations_line(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect::<Vec<_>>().join("; ")
}

/// The machine-readable why, one for one with `continuo.v1.ErrorReason`.
#[allow(missing_docs, reason = "documented on the variants of Error and in error_reason.proto")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    InvalidArgument,
    ExternalIdReserved,
    Unauthenticated,
    PermissionDenied,
    ScopesExceedKey,
    OutNeedsSecretKey,
    InNeedsSecretKey,
    SessionNotFound,
    SessionClosed,
    SessionExpired,
    SessionAlreadyClosed,
    SessionAlreadyExpired,
    ExternalIdTaken,
    RecordTooLarge,
    SeqNumMismatch,
    Fenced,
    PartIdReused,
    PastTail,
    RunNotFound,
    StaleSnapshot,
    RunNotReady,
    TaskNotFound,
    RunNotClaimed,
    BootBackoff,
    IndexBehind,
    WaitpointNotFound,
    BlobNotFound,
    BlobTooLarge,
    TranscriptUnreadable,
    LimitExceeded,
    BackendUnavailable,
    OutcomeUnknown,
    ServerStopping,
    DataLoss,
    Internal,
}

impl Error {
    /// The bug variant, with its cause for the log.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(Cause::new(cause))
    }

    /// The machine-readable why.
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidArgument(_) => Reason::InvalidArgument,
            Self::ExternalIdReserved(_) => Reason::ExternalIdReserved,
            Self::Unauthenticated(_) => Reason::Unauthenticated,
            Self::PermissionDenied | Self::ConditionNeedsSecretKey => Reason::PermissionDenied,
            Self::ScopesExceedKey(_) => Reason::ScopesExceedKey,
            Self::OutNeedsSecretKey => Reason::OutNeedsSecretKey,
            Self::InNeedsSecretKey => Reason::InNeedsSecretKey,
            Self::SessionNotFound => Reason::SessionNotFound,
            Self::SessionClosed { .. } => Reason::SessionClosed,
            Self::SessionExpired => Reason::SessionExpired,
            Self::SessionAlreadyClosed => Reason::SessionAlreadyClosed,
            Self::SessionAlreadyExpired => Reason::SessionAlreadyExpired,
            Self::ExternalIdTaken => Reason::ExternalIdTaken,
            Self::RecordTooLarge { .. } => Reason::RecordTooLarge,
            Self::SeqNumMismatch { .. } => Reason::SeqNumMismatch,
            Self::Fenced { .. } => Reason::Fenced,
            Self::PartIdReused { .. } => Reason::PartIdReused,
            Self::PastTail { .. } => Reason::PastTail,
            Self::RunNotFound => Reason::RunNotFound,
            Self::StaleSnapshot { .. } => Reason::StaleSnapshot,
            Self::RunNotReady { .. } => Reason::RunNotReady,
            Self::TaskNotFound => Reason::TaskNotFound,
            Self::RunNotClaimed => Reason::RunNotClaimed,
            Self::BootBackoff { .. } => Reason::BootBackoff,
            Self::IndexBehind => Reason::IndexBehind,
            Self::WaitpointNotFound => Reason::WaitpointNotFound,
            Self::BlobNotFound => Reason::BlobNotFound,
            Self::BlobTooLarge { .. } => Reason::BlobTooLarge,
            Self::TranscriptUnreadable(_) => Reason::TranscriptUnreadable,
            Self::LimitExceeded { .. } => Reason::LimitExceeded,
            Self::Unavailable(_) => Reason::BackendUnavailable,
            Self::OutcomeUnknown(_) => Reason::OutcomeUnknown,
            Self::Stopping => Reason::ServerStopping,
            Self::Damaged(_) => Reason::DataLoss,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// May the same request succeed later without a change by the caller?
    pub fn is_retryable(&self) -> bool {
        self.retry_after_ms().is_some()
    }

    /// How long a caller should wait before trying again; `None` where trying again cannot help.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RunNotClaimed
            | Self::IndexBehind
            | Self::Unavailable(_)
            | Self::OutcomeUnknown(_)
            | Self::Stopping => Some(1_000),
            Self::BootBackoff { retry_after_ms } | Self::LimitExceeded { retry_after_ms, .. } => Some(*retry_after_ms),
            _ => None,
        }
    }

    /// Is it certain that nothing was changed? False only where that is not known.
    pub fn had_no_side_effects(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown(_) | Self::Internal(_) | Self::Stopping)
    }

    /// The private half, for the log.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Unavailable(c) | Self::OutcomeUnknown(c) | Self::Damaged(c) | Self::Internal(c) => Some(c),
            _ => None,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::InvalidArgument(vec![violation])
    }
}

/// Collects violations of several fields, so that a caller learns of all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one problem.
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Violation::new(field, problem));
    }

    /// Takes the value, or notes what is wrong with it. Errors other than violations pass through at once.
    pub fn take<T>(&mut self, parsed: Result<T>) -> Result<Option<T>> {
        match parsed {
            Ok(value) => Ok(Some(value)),
            Err(Error::InvalidArgument(mut found)) => {
                self.0.append(&mut found);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Ends the collecting: an error if anything was noted.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::InvalidArgument(self.0)) }
    }
}
