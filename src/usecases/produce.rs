//! A stream of appends to one channel. What has queued up while one append was under way goes into the log as one append,
//! so that order is kept and a fast writer pays for one sync and not for a thousand.

use crate::held_claim::HeldClaim;
use crate::{AppendRequest, Boot, ChannelTarget, Core};
use continuo_domain::channel::{
    APPEND_METERED_BYTES_MAX, APPEND_RECORDS_MAX, Append, Appended, CONTROL_HEADER, NewRecord, Position,
};
use continuo_domain::principal::Principal;
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result};
use continuo_ports::session_store::Probe;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How old the row may be that the writer's rights were checked on.
const CHECKED_FOR: Duration = Duration::from_secs(1);

/// One append of a stream.
#[derive(Clone, Debug)]
pub struct StreamAppend {
    /// What.
    pub append: Append,
    /// May it start a run?
    pub boot: Boot,
}

/// A writer of one channel whose rights were checked.
#[derive(Clone)]
pub struct Producer {
    core: Core,
    caller: Principal,
    channel: ChannelTarget,
    checked: Arc<Mutex<(Probe, Instant)>>,
}

impl Core {
    /// Opens a stream of appends. From here on the channel is the row's, whatever its name becomes.
    pub async fn open_producer(&self, caller: &Principal, mut channel: ChannelTarget) -> Result<Producer> {
        let found = self.writable(caller, &channel).await?;
        channel.session = SessionRef::Id(found.session.id.clone());
        let checked = Arc::new(Mutex::new((found, Instant::now())));
        Ok(Producer { core: self.clone(), caller: caller.clone(), channel, checked })
    }

    async fn writable(&self, caller: &Principal, channel: &ChannelTarget) -> Result<Probe> {
        let (found, _) = self.probe(caller, channel, None).await?;
        Self::check_write(caller, channel, found.as_ref().map(|found| &found.session))?;
        found.ok_or(Error::SessionNotFound)
    }
}

impl Producer {
    /// Durable on return; one answer for each append of the batch, in order. An error refuses the whole batch.
    pub async fn append(&self, batch: Batch) -> Result<Vec<Appended>> {
        batch.append.check()?;
        let mut found = self.found().await?;
        let had_run = found.is_run_alive;
        let request = AppendRequest { channel: self.channel.clone(), append: batch.append, boot: batch.boot };
        let held = HeldClaim::none(&self.core.ports.channels);
        let appended = self.core.append_to(&self.caller, &mut found, request, held).await?;
        if found.is_run_alive && !had_run {
            self.checked.lock().0.is_run_alive = true;
        }
        Ok(split(appended, &batch.record_counts))
    }

    /// A run that has ended since is made good by the follow-up of the append.
    async fn found(&self) -> Result<Probe> {
        let (found, checked_at) = self.checked.lock().clone();
        if checked_at.elapsed() < CHECKED_FOR {
            return Ok(found);
        }
        let found = self.core.writable(&self.caller, &self.channel).await?;
        *self.checked.lock() = (found.clone(), Instant::now());
        Ok(found)
    }
}

/// Appends that go into the log as one, because nobody can tell the difference.
#[derive(Clone, Debug)]
pub struct Batch {
    append: Append,
    boot: Boot,
    record_counts: Vec<usize>,
    metered_bytes: usize,
    is_open: bool,
}

impl Batch {
    /// A batch of one.
    pub fn of(first: StreamAppend) -> Self {
        Self {
            is_open: is_plain(&first.append),
            metered_bytes: metered_bytes(&first.append),
            record_counts: vec![first.append.records.len()],
            boot: first.boot,
            append: first.append,
        }
    }

    /// Can this append go along? Only plain data can: a condition, a part id, a command, a control record or a broken limit
    /// has an outcome of its own, which must not become its neighbours'.
    pub fn takes(&self, next: &StreamAppend) -> bool {
        self.is_open
            && self.boot == next.boot
            && self.append.records.len() + next.append.records.len() <= APPEND_RECORDS_MAX
            && self.metered_bytes + metered_bytes(&next.append) <= APPEND_METERED_BYTES_MAX
            && is_plain(&next.append)
    }

    /// Adds an append that the batch takes.
    pub fn add(&mut self, next: StreamAppend) {
        self.metered_bytes += metered_bytes(&next.append);
        self.record_counts.push(next.append.records.len());
        self.append.records.extend(next.append.records);
    }
}

fn metered_bytes(append: &Append) -> usize {
    append.records.iter().map(NewRecord::metered_bytes).sum()
}

fn is_plain(append: &Append) -> bool {
    let is_data = |record: &NewRecord| {
        let is_control = record.headers.first().is_some_and(|h| h.name == CONTROL_HEADER.as_bytes());
        !is_control && matches!(record.command(), Ok(None))
    };
    append.part_id.is_none()
        && append.match_seq_num.is_none()
        && append.fencing_token.is_none()
        && append.check().is_ok()
        && append.records.iter().all(is_data)
}

/// What each append did, out of what the batch did. The records of one append arrive at one moment.
fn split(whole: Appended, record_counts: &[usize]) -> Vec<Appended> {
    if record_counts.len() == 1 {
        return vec![whole];
    }
    let mut next = whole.start;
    let each = record_counts.iter().map(|&count| {
        let start = next;
        next = Position { seq_num: start.seq_num + count as u64, timestamp: whole.end.timestamp };
        Appended { start, end: next, tail: whole.tail, repeated: false, debt: None }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::Timestamp;
    use continuo_domain::channel::{Header, PartId};

    fn data(body: &str) -> StreamAppend {
        StreamAppend { append: Append::one(NewRecord::data(body.to_owned())), boot: Boot::Default }
    }

    #[test]
    fn plain_data_goes_together() {
        let mut batch = Batch::of(data("a"));
        assert!(batch.takes(&data("b")));
        batch.add(data("b"));
        assert_eq!((batch.append.records.len(), batch.record_counts.as_slice()), (2, [1, 1].as_slice()));
    }

    #[test]
    fn what_has_its_own_outcome_goes_alone() {
        let with = |change: fn(&mut StreamAppend)| {
            let mut special = data("x");
            change(&mut special);
            special
        };
        let specials = [
            with(|a| a.append.part_id = PartId::parse("p").ok()),
            with(|a| a.append.match_seq_num = Some(0)),
            with(|a| a.append.fencing_token = Some(Default::default())),
            with(|a| a.append.records[0].headers = vec![Header::new("trigger-control", "turn-complete")]),
            with(|a| a.append.records[0] = NewRecord::trim(1)),
            with(|a| a.append.records.clear()),
            with(|a| a.append.records[0].body = vec![0; 2 << 20].into()),
            with(|a| a.boot = Boot::Never),
        ];
        for special in specials {
            assert!(!Batch::of(data("a")).takes(&special), "{special:?}");
            assert!(!Batch::of(special).takes(&data("a")));
        }
    }

    #[test]
    fn a_batch_stays_an_append() {
        let mut batch = Batch::of(data("x"));
        while batch.takes(&data("x")) {
            batch.add(data("x"));
        }
        assert_eq!(batch.append.records.len(), APPEND_RECORDS_MAX);
        let half = "h".repeat(APPEND_METERED_BYTES_MAX / 2);
        assert!(!Batch::of(data(&half)).takes(&data(&half)));
    }

    #[test]
    fn each_append_learns_its_own_numbers() {
        let at = |seq_num| Position { seq_num, timestamp: Timestamp(7) };
        let whole = Appended { start: at(10), end: at(16), tail: at(16), repeated: false, debt: None };
        let each = split(whole, &[1, 3, 2]);
        assert_eq!(
            each.iter().map(|a| (a.start.seq_num, a.end.seq_num)).collect::<Vec<_>>(),
            [(10, 11), (11, 14), (14, 16)]
        );
    }
}
