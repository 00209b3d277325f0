//! Gates: a test says which call of which port is to stop where, or to fail, and then decides when it goes on.

use continuo_domain::{Error, Result};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// All gates of a world.
#[derive(Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    plans: Vec<Plan>,
    calls: HashMap<&'static str, usize>,
}

struct Plan {
    call: &'static str,
    /// Texts that the arguments, printed for debugging, must all hold.
    with: Vec<String>,
    when: When,
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
}

enum Then {
    Pause { reached: oneshot::Sender<()>, released: oneshot::Receiver<()> },
    Fail(Error),
}

/// A call that is held, or will be. Dropping it lets the call go.
pub(crate) struct Gate {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Gate {
    /// The call stands at the gate.
    pub(crate) async fn reached(&mut self) {
        super::soon(&mut self.reached).await.expect("the gate is gone");
    }

    /// The call goes on.
    pub(crate) fn release(self) {
        let _ = self.release.send(());
    }
}

impl Gates {
    /// Holds the next such call before its adapter sees it.
    pub(crate) fn pause_before(&self, call: &'static str, with: &[&str]) -> Gate {
        self.pause(call, with, When::Before)
    }

    /// Holds the next such call when its adapter has done its work, before the caller hears of it.
    pub(crate) fn pause_after(&self, call: &'static str, with: &[&str]) -> Gate {
        self.pause(call, with, When::After)
    }

    /// The next such call fails and its adapter never sees it.
    pub(crate) fn fail_before(&self, call: &'static str, with: &[&str], error: Error) {
        self.plan(call, with, When::Before, Then::Fail(error));
    }

    /// The next such call does its work, and the caller hears of a failure.
    pub(crate) fn fail_after(&self, call: &'static str, with: &[&str], error: Error) {
        self.plan(call, with, When::After, Then::Fail(error));
    }

    /// How often a call was made so far.
    pub(crate) fn calls(&self, call: &'static str) -> usize {
        self.0.lock().calls.get(call).copied().unwrap_or_default()
    }

    /// How often each call was made so far.
    pub(crate) fn all_calls(&self) -> BTreeMap<&'static str, usize> {
        self.0.lock().calls.iter().map(|(call, count)| (*call, *count)).collect()
    }

    fn pause(&self, call: &'static str, with: &[&str], when: When) -> Gate {
        let (reached, is_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.plan(call, with, when, Then::Pause { reached, released });
        Gate { reached: is_reached, release }
    }

    fn plan(&self, call: &'static str, with: &[&str], when: When, then: Then) {
        let with = with.iter().map(|text| (*text).to_owned()).collect();
        self.0.lock().plans.push(Plan { call, with, when, then });
    }

    /// Takes a call through its gates.
    pub(super) async fn pass<T>(
        &self,
        call: &'static str,
        arguments: impl FnOnce() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (before, after) = self.take(call, arguments);
        stand_at(before).await?;
        let outcome = work.await;
        stand_at(after).await?;
        outcome
    }

    fn take(&self, call: &'static str, arguments: impl FnOnce() -> String) -> (Option<Then>, Option<Then>) {
        let mut state = self.0.lock();
        *state.calls.entry(call).or_default() += 1;
        if !state.plans.iter().any(|p| p.call == call) {
            return (None, None);
        }
        let arguments = arguments();
        let mut first = |when| {
            let is_it = |p: &Plan| p.call == call && p.when == when && p.with.iter().all(|t| arguments.contains(t));
            let at = state.plans.iter().position(is_it)?;
            Some(state.plans.remove(at).then)
        };
        (first(When::Before), first(When::After))
    }
}

async fn stand_at(gate: Option<Then>) -> Result<()> {
    match gate {
        None => Ok(()),
        Some(Then::Fail(error)) => Err(error),
        Some(Then::Pause { reached, released }) => {
            let _ = reached.send(());
            // A dropped gate is an open one.
            let _ = released.await;
            Ok(())
        }
    }
}
