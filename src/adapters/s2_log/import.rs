//! A channel of another log, taken over as it is: with its numbers, its times and its commands.
//!
//! Numbers in S2 begin at 0. Where the other log has trimmed its first records away, as many empty ones take their numbers
//! here, and are trimmed away too. Every append names the number it must get, so that an import that was broken off goes on where it
//! stopped, and two at a time cannot mix.

use crate::log::S2Log;
use crate::names;
use crate::record;
use crate::refusal::{self, Refusal, unavailable};
use crate::stream::{Page, Stream};
use continuo_domain::channel::{
    APPEND_RECORDS_MAX, ChannelKey, Command, FencingToken, NewRecord, ReadFrom, Record, SeqNum, Tail,
};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Timestamp, Violation};
use continuo_ports::ChannelStore;
use s2_sdk::types::{AppendInput, ReadFrom as S2ReadFrom};
use std::time::Duration;
use tokio::time::sleep;

/// How often one append is tried while S2 does not answer.
const TRIES_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);

impl S2Log {
    /// Copies a channel of `source` into its stream in this basin; nobody may write to either meanwhile. `progress` is told how
    /// many numbers were taken, those that an earlier try took first. A stream that holds other records is refused.
    pub async fn import(
        &self,
        source: &dyn ChannelStore,
        channel: &ChannelKey,
        basin: &str,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let basin = names::parse(basin).ok_or_else(|| Error::internal(format!("no valid basin: {basin}")))?;
        let stream = Stream::new(channel.clone(), basin, self.inner.common.clone())?;
        let tail = source.tail(channel).await?;
        let mut at = match stream.check_tail().await? {
            Some(there) => there.seq_num,
            None => {
                stream.create().await?;
                0
            }
        };
        check_there(source, &stream, &tail, at).await?;
        progress(at);
        while at < tail.position.seq_num {
            let records = match at < tail.earliest_seq_num {
                true => filler(source, channel, &tail, at).await?,
                false => source.read(channel, ReadFrom::seq_num(at)).await?.0,
            };
            if records.first().is_none_or(|first| first.seq_num != at) {
                return Err(Error::Damaged(Cause::new(format!("{channel}: record {at} is missing"))));
            }
            put(&stream, &records).await?;
            at += records.len() as u64;
            progress(records.len() as u64);
        }
        Ok(())
    }

    /// Has S2 taken away what lies below `earliest`? It does so in its own time after the trim, and until then others read it.
    pub async fn has_trimmed(&self, channel: &ChannelKey, basin: &str, earliest: SeqNum) -> Result<bool> {
        let basin = names::parse(basin).ok_or_else(|| Error::internal(format!("no valid basin: {basin}")))?;
        let stream = Stream::new(channel.clone(), basin, self.inner.common.clone())?;
        Ok(stream.earliest().await?.is_none_or(|first| first >= earliest))
    }

    /// What tells a repeat of this record from another one, as claims keep it.
    pub fn digest(record: &Record) -> [u8; 32] {
        record::digest_read(std::slice::from_ref(record))
    }
}

/// An earlier try left what it left; anything else is somebody else's.
async fn check_there(source: &dyn ChannelStore, stream: &Stream, tail: &Tail, at: SeqNum) -> Result<()> {
    let holds_others = || Error::from(Violation::new("channel", format!("{} holds other records already", stream.key)));
    if at > tail.position.seq_num {
        return Err(holds_others());
    }
    if at <= tail.earliest_seq_num {
        return Ok(());
    }
    let last = at - 1;
    let ours = source.read(&stream.key, ReadFrom::seq_num(last)).await?.0.into_iter().next();
    let theirs = match stream.page(S2ReadFrom::SeqNum(last), 1).await? {
        Page::Records(records) => records.into_iter().next().map(record::from_s2),
        Page::At(_) | Page::Missing => None,
    };
    if ours == theirs { Ok(()) } else { Err(holds_others()) }
}

/// Records in the place of trimmed ones, from `at` on, one append of them. The last ones set what the trimmed ones had set: the
/// fencing token, as far as no kept record sets it, and the trim itself.
async fn filler(source: &dyn ChannelStore, channel: &ChannelKey, tail: &Tail, at: SeqNum) -> Result<Vec<Record>> {
    let end = tail.earliest_seq_num;
    let timestamp = match source.read(channel, ReadFrom::seq_num(end)).await?.0.first() {
        Some(first) => first.timestamp,
        None => tail.position.timestamp,
    };
    let token = &tail.fencing_token;
    let fence = (*token != FencingToken::default()).then(|| NewRecord::fence(token));
    // With a single place: a fence there was trimmed by a record that is kept, or the one there trimmed itself.
    let only = match &fence {
        Some(fence) if end == 1 && keeps_a_trim(source, channel, end).await? => Some(fence.clone()),
        _ => None,
    };
    let place = |seq_num: SeqNum| match (&fence, &only) {
        (_, Some(only)) => only.clone(),
        _ if seq_num + 1 == end => NewRecord::trim(end),
        (Some(fence), None) if seq_num + 2 == end => fence.clone(),
        _ => NewRecord::default(),
    };
    let last = end.min(at + APPEND_RECORDS_MAX as u64);
    Ok((at..last).map(|seq_num| at_place(place(seq_num), seq_num, timestamp)).collect())
}

fn at_place(record: NewRecord, seq_num: SeqNum, timestamp: Timestamp) -> Record {
    Record { seq_num, timestamp, headers: record.headers, body: record.body }
}

async fn keeps_a_trim(source: &dyn ChannelStore, channel: &ChannelKey, mut next: SeqNum) -> Result<bool> {
    loop {
        let (records, _) = source.read(channel, ReadFrom::seq_num(next)).await?;
        let Some(last) = records.last() else { return Ok(false) };
        next = last.seq_num + 1;
        if records.iter().any(|record| matches!(record.command(), Some(Command::Trim(_)))) {
            return Ok(true);
        }
    }
}

/// Appends them at their numbers, also if the answer of a try is lost.
async fn put(stream: &Stream, records: &[Record]) -> Result<()> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
    let mut cause = None;
    for _ in 0..TRIES_MAX {
        let input = AppendInput::new(record::to_s2_at(records)?).with_match_seq_num(first.seq_num);
        match stream.s2.append(input).await.map_err(refusal::of_append) {
            Ok(_) => return Ok(()),
            Err(Refusal::Mismatch(tail)) if tail == last.seq_num + 1 && cause.is_some() => return Ok(()),
            Err(Refusal::Mismatch(tail)) => {
                let problem = format!("{} is written to by somebody else: it ends at {tail}", stream.key);
                return Err(Violation::new("channel", problem).into());
            }
            Err(Refusal::Nothing(error) | Refusal::Unknown(error)) => cause = Some(error),
            Err(Refusal::Fenced(_) | Refusal::Missing) => {
                return Err(Error::internal("a stream went while it was imported"));
            }
        }
        sleep(PAUSE).await;
    }
    Err(cause.map_or_else(|| unavailable(std::io::Error::other("no answer")), Error::Unavailable))
}
