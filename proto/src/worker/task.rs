//! What an author writes: a task, its outcome, its error.

use std::any::Any;
use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use tonic::Status;

use super::context::RunContext;

/// The code of a task. Every assignment is one call: a fresh attempt, or the next part of a run that waited.
///
/// Any `async fn(RunContext) -> Result<Outcome, TaskError>` is one.
#[async_trait]
pub trait Task: Send + Sync + 'static {
    /// Executes a run until it is done or suspended. Nothing is kept in memory between a suspension and the next call,
    /// which may be on another worker: what a run has to remember is on its channels.
    async fn run(&self, ctx: RunContext) -> Result<Outcome, TaskError>;
}

#[async_trait]
impl<F, Fut> Task for F
where
    F: Fn(RunContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, TaskError>> + Send,
{
    async fn run(&self, ctx: RunContext) -> Result<Outcome, TaskError> {
        self(ctx).await
    }
}

/// How a task returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The run is done, with a result in JSON if there is one.
    Completed(Option<String>),
    /// The run waits and holds no place here. Comes from [`RunContext::wait_for_input`].
    Suspended,
}

/// Why an attempt failed. Every error becomes one with `?`; like `anyhow::Error` it is therefore no error itself.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskError {
    pub(super) name: String,
    pub(super) message: String,
    pub(super) is_final: bool,
}

impl TaskError {
    /// A failure with this text. The run is tried again while it has attempts left.
    pub fn new(message: impl Into<String>) -> Self {
        Self { name: "Error".to_owned(), message: message.into(), is_final: false }
    }

    /// Ends the run, whatever attempts it has left.
    pub fn into_final(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// What a panic leaves behind.
    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self { name: "Panic".to_owned(), ..Self::new(text.unwrap_or_else(|| "the task panicked".to_owned())) }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        match (&error as &dyn Any).downcast_ref::<Status>() {
            Some(status) => Self { name: format!("{:?}", status.code()), ..Self::new(status.message().to_owned()) },
            None => Self::new(error.to_string()),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
