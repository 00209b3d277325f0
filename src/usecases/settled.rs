//! Is the turn over? Decided by walking back from a tail over any number of command records.

use crate::Core;
use crate::body::object;
use continuo_domain::Result;
use continuo_domain::channel::{
    ChannelKey, Command, Fence, FencingToken, ReadFrom, Record, SeqNum, TURN_COMPLETE, Tail,
};
use continuo_domain::session::Session;
use serde_json::value::RawValue;

const WALK_RECORDS: u64 = 32;

impl Core {
    /// The tail under which `.out` is settled: its newest record that is not a command completes a turn, and no newer run
    /// has claimed the session since. `None` if it is not.
    pub(crate) async fn settled(&self, session: &Session, out: &ChannelKey) -> Result<Option<Tail>> {
        let tail = self.ports.channels.tail(out).await?;
        let fence = Fence::of_token(&tail.fencing_token);
        // A claim whose fence is not in the log yet counts as well.
        if session.current_run_version > fence.version && fence.version > 0 {
            return Ok(None);
        }
        let mut claimed_since = false;
        let newest = self.walk_back(out, tail.position.seq_num, |record| match record.command() {
            Some(Command::Fence(token)) => {
                claimed_since |= is_claim(&token);
                false
            }
            Some(Command::Trim(_)) => false,
            None => true,
        });
        let newest = newest.await?;
        let is_over = newest.is_some_and(|record| completes_turn(&record));
        Ok((is_over && !claimed_since).then_some(tail))
    }

    /// The number from which on a channel has `count` records that are not commands: where a reader starts that wants the
    /// newest ones.
    pub(crate) async fn nth_newest(&self, channel: &ChannelKey, count: u64) -> Result<SeqNum> {
        let tail = self.ports.channels.tail(channel).await?;
        let mut left = count;
        let found = self.walk_back(channel, tail.position.seq_num, |record| {
            left = left.saturating_sub(u64::from(!record.is_command()));
            left == 0
        });
        let earliest = tail.earliest_seq_num;
        Ok(if count == 0 { tail.position.seq_num } else { found.await?.map_or(earliest, |r| r.seq_num) })
    }

    /// The newest record below `end` that satisfies `is_it`.
    pub(crate) async fn walk_back(
        &self,
        channel: &ChannelKey,
        mut end: SeqNum,
        mut is_it: impl FnMut(&Record) -> bool + Send,
    ) -> Result<Option<Record>> {
        while end > 0 {
            let start = end.saturating_sub(WALK_RECORDS);
            let mut window = Vec::new();
            let mut next = start;
            while next < end {
                let (records, _) = self.ports.channels.read(channel, ReadFrom::seq_num(next)).await?;
                let Some(last) = records.last().map(|r| r.seq_num) else { break };
                window.extend(records.into_iter().filter(|r| r.seq_num < end));
                next = last + 1;
            }
            let earliest = window.first().map_or(end, |r| r.seq_num);
            if let Some(found) = window.into_iter().rev().find(|r| is_it(r)) {
                return Ok(Some(found));
            }
            if earliest > start {
                return Ok(None);
            }
            end = start;
        }
        Ok(None)
    }
}

/// A claim raises the fence to lease 0 of a new version; a lease, a close and a renewal keep the version.
fn is_claim(token: &FencingToken) -> bool {
    let fence = Fence::of_token(token);
    fence.version > 0 && fence.lease == 0 && !fence.closed && !token.is_renewed()
}

/// A control record, or a data record of an older writer that says the same, as an object or as its JSON text.
fn completes_turn(record: &Record) -> bool {
    if record.control().is_some() {
        return record.control() == Some(TURN_COMPLETE);
    }
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    #[derive(serde::Deserialize)]
    struct Data {
        r#type: String,
    }
    let Some(Envelope { data }) = object(&record.body) else { return false };
    let text = serde_json::from_str::<String>(data.get());
    let data: Option<Data> = object(text.as_deref().unwrap_or(data.get()).as_bytes());
    data.is_some_and(|d| d.r#type == "trigger:turn-complete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::Timestamp;
    use continuo_domain::channel::Header;

    fn record(headers: Vec<Header>, body: &str) -> Record {
        Record { seq_num: 0, timestamp: Timestamp(0), headers, body: body.to_owned().into() }
    }

    #[test]
    fn both_spellings_complete_a_turn() {
        assert!(completes_turn(&record(vec![Header::new("trigger-control", "turn-complete")], "")));
        assert!(!completes_turn(&record(vec![Header::new("trigger-control", "upgrade-required")], "")));
        assert!(completes_turn(&record(vec![], r#"{"data":{"type":"trigger:turn-complete"},"id":"x"}"#)));
        assert!(completes_turn(&record(vec![], r#"{"data":"{\"type\":\"trigger:turn-complete\"}","id":"x"}"#)));
        for other in [
            r#"{"data":{"type":"text-delta"}}"#,
            r#"{"data":"trigger:turn-complete"}"#,
            "",
            "turn-complete",
            r#"{"data":["trigger:turn-complete"]}"#,
        ] {
            assert!(!completes_turn(&record(vec![], other)), "{other}");
        }
    }
}
