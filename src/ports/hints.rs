//! Word from replica to replica. Any hint may be lost, doubled or late: whoever waits for one also has a clock.

use async_trait::async_trait;
use continuo_domain::{EnvironmentId, RunId};
use futures_util::stream::BoxStream;

/// What another replica should look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A run of this environment may be available to workers.
    Work(EnvironmentId),
    /// A moment at which something is due has changed.
    Timers,
    /// A run was changed by someone other than its worker.
    RunChanged(RunId),
    /// A session with this name came into being.
    SessionArrived(EnvironmentId, String),
}

/// The way hints take. Between replicas only: what one process tells itself goes by a shorter way.
#[async_trait]
pub trait Hints: Send + Sync + 'static {
    /// Tells every other replica; itself it tells nothing. Best effort: this takes a moment at most, and where the way is
    /// blocked the hints are dropped. Who has many at once sends them together.
    async fn send(&self, hints: Vec<Hint>);

    /// What other replicas send, for ever: the stream outlives a lost connection, and hints of that time are missed. `None`
    /// says that it listens from here on, first of all and again after each gap: look at everything.
    fn receive(&self) -> BoxStream<'static, Option<Hint>>;
}

impl Hint {
    /// The hint as a text, for adapters that carry texts. Below 2 KiB: every part of it is bounded.
    pub fn to_text(&self) -> String {
        match self {
            Self::Work(environment) => format!("work {environment}"),
            Self::Timers => "timers".to_owned(),
            Self::RunChanged(run) => format!("run {run}"),
            Self::SessionArrived(environment, name) => format!("arrived {environment} {name}"),
        }
    }

    /// Reads a text of `to_text`. `None` for one that a newer release may have sent.
    pub fn of_text(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        match kind {
            "work" => EnvironmentId::parse(rest).ok().map(Self::Work),
            "timers" => Some(Self::Timers),
            "run" => RunId::parse(rest).ok().map(Self::RunChanged),
            "arrived" => {
                let (environment, name) = rest.split_once(' ')?;
                Some(Self::SessionArrived(EnvironmentId::parse(environment).ok()?, name.to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_read_back() {
        let environment = EnvironmentId::from_body("e");
        let hints = [
            Hint::Work(environment.clone()),
            Hint::Timers,
            Hint::RunChanged(RunId::from_body("r")),
            Hint::SessionArrived(environment, "a name: with spaces".into()),
        ];
        for hint in hints {
            assert_eq!(Hint::of_text(&hint.to_text()), Some(hint));
        }
        for text in ["", "work", "run x", "arrived env_e", "later things"] {
            assert_eq!(Hint::of_text(text), None, "{text}");
        }
    }
}
