//! The way between the signals of this replica and those of the others.

use crate::Core;
use continuo_ports::Hint;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::Notify;

/// Hints that wait to be sent. Beyond them they are dropped, and found by the clocks of those they were for.
const OUTBOX_MAX: usize = 4_096;
/// The first hint after a pause goes at once; those that come within this time after it go together, each once.
const GATHER: Duration = Duration::from_millis(5);

/// What the other replicas are to hear: each thing once, however often it happened meanwhile.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<HashSet<Hint>>,
    filled: Notify,
}

impl Outbox {
    /// Returns at once.
    pub(crate) fn put(&self, hint: Hint) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < OUTBOX_MAX {
            waiting.insert(hint);
            self.filled.notify_one();
        }
    }

    /// All of it.
    pub(crate) fn take(&self) -> Vec<Hint> {
        std::mem::take(&mut *self.waiting.lock()).into_iter().collect()
    }

    async fn next(&self) -> Vec<Hint> {
        loop {
            self.filled.notified().await;
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
        }
    }
}

impl Core {
    /// Tells the other replicas what happens here, and wakes whoever waits here for what happens there. Runs until stopping.
    pub async fn run_hints(self) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.send_hints() => {}
            () = self.receive_hints() => {}
        }
    }

    async fn send_hints(&self) {
        loop {
            let batch = self.signals.outbox().next().await;
            self.ports.hints.send(batch).await;
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn receive_hints(&self) {
        let mut heard = self.ports.hints.receive();
        while let Some(hint) = heard.next().await {
            self.signals.hear(hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::RunId;

    #[test]
    fn a_burst_of_equal_hints_is_one_and_a_flood_is_cut() {
        let outbox = Outbox::default();
        (0..1_000).for_each(|_| outbox.put(Hint::Timers));
        assert_eq!(outbox.take(), [Hint::Timers]);
        let run = |n: usize| Hint::RunChanged(RunId::from_body(&n.to_string()));
        (0..2 * OUTBOX_MAX).for_each(|n| outbox.put(run(n)));
        assert_eq!(outbox.take().len(), OUTBOX_MAX);
        assert_eq!(outbox.take(), []);
    }
}
