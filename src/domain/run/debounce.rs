//! Debounce: triggers with one key that follow each other closely are one run.

use super::{NewRun, Run, RunStatus};
use crate::text::bounded;
use crate::time::Timestamp;
use crate::{Result, error::Violations};

/// Longest debounce key, in characters.
pub const DEBOUNCE_KEY_CHARS_MAX: usize = 512;
/// Shortest delay.
pub const DEBOUNCE_MS_MIN: u64 = 1_000;

/// How a trigger is debounced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// One delayed run per task and key.
    pub key: String,
    /// The run starts so long after the last trigger.
    pub delay_ms: u64,
    /// The last trigger says what it runs with, not the first.
    pub is_trailing: bool,
    /// It is not put off further than so long after the first trigger; a trigger that would gets a run of its own.
    pub max_delay_ms: Option<u64>,
}

impl Debounce {
    pub(super) fn check(&self, found: &mut Violations) -> Result<()> {
        found.take(bounded("debounce.key", &self.key, DEBOUNCE_KEY_CHARS_MAX))?;
        if self.delay_ms < DEBOUNCE_MS_MIN {
            found.add("debounce.delay", "must be a duration of at least one second");
        }
        Ok(())
    }
}

impl Run {
    /// Takes in a trigger that is debounced by the key this run was made with. False if it cannot any more: it is on its
    /// way, or would be put off for too long. A run that took it starts no earlier than it would have.
    pub fn absorb(&mut self, newer: &NewRun, now: Timestamp) -> bool {
        let Some(debounce) = &newer.debounce else { return false };
        let start = now.plus_ms(debounce.delay_ms);
        let latest = debounce.max_delay_ms.map(|max| self.created_at.plus_ms(max));
        let is_put_off = self.spec.delay_until.is_some_and(|at| at > now) && self.status == RunStatus::Delayed;
        if !is_put_off || latest.is_some_and(|latest| start > latest) {
            return false;
        }
        let start = self.spec.delay_until.map_or(start, |at| at.max(start));
        (self.spec.delay_until, self.available_at) = (Some(start), Some(start));
        if debounce.is_trailing {
            self.spec.payload.clone_from(&newer.payload);
            self.spec.payload_type.clone_from(&newer.payload_type);
            self.spec.metadata.clone_from(&newer.metadata);
            self.spec.tags.clone_from(&newer.tags);
            self.spec.max_attempts = newer.max_attempts;
            self.spec.max_duration_s = newer.max_duration_s;
            self.spec.machine.clone_from(&newer.machine);
        }
        self.snapshot += 1;
        self.updated_at = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EnvironmentId, RunId};

    const T0: Timestamp = Timestamp(1_000_000);

    fn new(payload: &str, now: Timestamp, is_trailing: bool) -> NewRun {
        let debounce = Debounce { key: "k".into(), delay_ms: 5_000, is_trailing, max_delay_ms: Some(12_000) };
        NewRun {
            delay_until: Some(now.plus_ms(debounce.delay_ms)),
            debounce: Some(debounce),
            ..NewRun::of_task(RunId::from_body("a"), EnvironmentId::from_body("e"), "task", payload.into())
        }
    }

    #[test]
    fn each_trigger_puts_the_run_off_until_the_limit() {
        let mut run = Run::new(new("1", T0, false), 0, T0);
        let at = |ms| T0.plus_ms(ms);
        assert!(run.absorb(&new("2", at(4_000), false), at(4_000)));
        assert_eq!((run.spec.delay_until, run.available_at), (Some(at(9_000)), Some(at(9_000))));
        assert_eq!(run.spec.payload, "1", "the first one leads");
        assert!(!run.absorb(&new("3", at(7_001), false), at(7_001)), "beyond the limit");
        assert!(run.absorb(&new("3", at(7_000), true), at(7_000)));
        assert_eq!((run.spec.payload.as_str(), run.spec.delay_until), ("3", Some(at(12_000))));
        let mut sooner = new("4", at(8_000), true);
        sooner.debounce.as_mut().unwrap().delay_ms = 1_000;
        assert!(run.absorb(&sooner, at(8_000)));
        assert_eq!(run.spec.delay_until, Some(at(12_000)), "never earlier");
    }

    #[test]
    fn a_run_whose_time_has_come_takes_nothing_in() {
        let mut run = Run::new(new("1", T0, false), 0, T0);
        assert!(!run.absorb(&new("2", T0.plus_ms(5_000), true), T0.plus_ms(5_000)));
        assert_eq!(run.spec.payload, "1");
    }
}
