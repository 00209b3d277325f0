//! When to try again, and how long to wait before.

use std::error::Error;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits that double from 100 ms to 5 s, each shortened by up to half at random so that workers do not come back at once.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST_WAIT }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST_WAIT;
    }

    pub(super) fn next_wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST_WAIT);
        full - full / 2 * (random() % 1_000) as u32 / 1_000
    }
}

/// Good enough to spread retries and to name a worker; no secret depends on it.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// May the same call work later? A status with a source was made here, by a broken connection.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::ResourceExhausted => true,
        _ => status.source().is_some(),
    }
}

/// What a run's call ends with once its lease is over.
pub(super) fn lease_is_over() -> Status {
    Status::aborted("the run's lease is over")
}

/// Repeats a call that may be repeated until it is answered or the lease is over, which bounds it.
pub(super) async fn until_answered<T, Fut>(
    revoked: &CancellationToken,
    mut call: impl FnMut() -> Fut,
) -> Result<T, Status>
where
    Fut: Future<Output = Result<T, Status>>,
{
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Err(status) if is_transient(&status) => pause(revoked, &mut backoff).await?,
            answer => return answer,
        }
    }
}

/// Waits before the next try, or fails because the lease ended.
pub(super) async fn pause(revoked: &CancellationToken, backoff: &mut Backoff) -> Result<(), Status> {
    tokio::select! {
        () = revoked.cancelled() => Err(lease_is_over()),
        () = tokio::time::sleep(backoff.next_wait()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_above_half_of_it() {
        let mut backoff = Backoff::new();
        for full_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let wait = backoff.next_wait();
            let full = Duration::from_millis(full_ms);
            assert!(wait <= full && wait >= full / 2, "{wait:?} of {full:?}");
        }
    }

    #[test]
    fn a_refusal_is_not_tried_again() {
        assert!(!is_transient(&Status::aborted("fenced")));
        assert!(!is_transient(&Status::permission_denied("no")));
        assert!(is_transient(&Status::unavailable("stopping")));
    }
}
