//! Waits until the index beside the database is up with a place in the database's log.

use crate::Core;
use continuo_domain::{Error, IndexPosition, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a list waits for a position, in milliseconds.
pub const WAIT_AS_OF_MS_MAX: u64 = 10_000;
/// From one look at the index to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a list waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitAsOf {
    /// Everything that was acknowledged before the call.
    Now,
    /// A position that an earlier answer named.
    Position(IndexPosition),
}

impl std::str::FromStr for WaitAsOf {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "now" { Ok(Self::Now) } else { text.parse().map(Self::Position) }
    }
}

impl Core {
    /// Returns when the index has what was asked for; at once where the database itself serves lists.
    pub(crate) async fn wait_as_of(&self, wait: WaitAsOf) -> Result<()> {
        let wanted = match wait {
            WaitAsOf::Position(position) => position,
            WaitAsOf::Now => match self.ports.index.tip().await? {
                Some(tip) => tip,
                None => return Ok(()),
            },
        };
        let reached = reach(wanted, || self.ports.index.as_of());
        self.stopping.run_until_cancelled(reached).await.unwrap_or(Err(Error::Stopping))
    }
}

async fn reach<F>(wanted: IndexPosition, as_of: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<Option<IndexPosition>>>,
{
    let give_up = Instant::now() + Duration::from_millis(WAIT_AS_OF_MS_MAX);
    loop {
        if as_of().await?.is_none_or(|position| position >= wanted) {
            return Ok(());
        }
        let now = Instant::now();
        if now >= give_up {
            return Err(Error::IndexBehind);
        }
        sleep_until(give_up.min(now + LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    const WANTED: IndexPosition = IndexPosition { epoch: 1, lsn: 7 };

    /// Waits for an index that is up with the position after so many milliseconds; says how it went, and how long it took.
    async fn reached_after(ms: u64) -> (Result<()>, u64) {
        let start = Instant::now();
        let there = start + Duration::from_millis(ms);
        let behind = IndexPosition { epoch: 0, lsn: 1_000 };
        let reached = reach(WANTED, || ready(Ok(Some(if Instant::now() >= there { WANTED } else { behind })))).await;
        (reached, u64::try_from(start.elapsed().as_millis()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_look_that_finds_the_position_or_after_the_longest_wait() {
        for (at, took) in [(0, 0), (1, 20), (20, 20), (9_990, 10_000), (WAIT_AS_OF_MS_MAX, WAIT_AS_OF_MS_MAX)] {
            assert!(matches!(reached_after(at).await, (Ok(()), ms) if ms == took), "{at}");
        }
        let late = reached_after(WAIT_AS_OF_MS_MAX + 1).await;
        assert!(matches!(late, (Err(Error::IndexBehind), WAIT_AS_OF_MS_MAX)), "{late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_that_is_the_database_and_one_that_fails_are_not_waited_for() {
        assert!(reach(WANTED, || ready(Ok(None))).await.is_ok());
        let away = reach(WANTED, || ready(Err(Error::RunNotClaimed))).await;
        assert!(matches!(away, Err(Error::RunNotClaimed)), "{away:?}");
    }

    #[test]
    fn what_is_asked_for_is_now_or_a_position() {
        assert_eq!("now".parse::<WaitAsOf>().unwrap(), WaitAsOf::Now);
        assert_eq!(WANTED.to_string().parse::<WaitAsOf>().unwrap(), WaitAsOf::Position(WANTED));
        for text in ["", "Now", "now ", "latest", "1-"] {
            assert!(matches!(text.parse::<WaitAsOf>(), Err(Error::InvalidArgument(_))), "{text}");
        }
    }
}
