//! What became of a claimed record: by looking, by waiting, and in the end by shutting its writer out.

use crate::append::{Met, Wanted};
use crate::log::{Inner, Landed};
use crate::record;
use crate::stream::{Page, Stream};
use continuo_domain::channel::{Appended, PartId, Position, SeqNum};
use continuo_domain::claim::Claim;
use continuo_domain::{Error, Result, Timestamp};
use continuo_ports::OwedAppend;
use continuo_ports::channel_store::READ_BATCH_RECORDS_MAX;
use futures_util::{StreamExt, stream};
use s2_sdk::types::{ReadFrom, SequencedRecord};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

const LOOK_PAUSE: Duration = Duration::from_millis(2);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Claims that are looked into at the same time.
const OWED_AT_ONCE: usize = 8;

/// What is known of someone else's claim in the end.
enum Outcome {
    /// Its record stands there.
    Landed(Landed),
    /// Its record is not there and never will be.
    Never,
    /// It is not that claim any more.
    Changed,
}

impl Inner {
    /// The first outcome of a part id, if this process knows it and the record is still there.
    pub(crate) async fn remembered_repeat(&self, stream: &Stream, wanted: &Wanted) -> Result<Option<Appended>> {
        let Some(landed) = self.outcome_of(stream, &wanted.part_id) else { return Ok(None) };
        if !stream.has(landed.at).await? {
            return Ok(None);
        }
        self.repeat(stream, &landed, wanted).await.map(Some)
    }

    fn outcome_of(&self, stream: &Stream, part_id: &PartId) -> Option<Landed> {
        self.landed.lock().get(&(stream.key.clone(), part_id.clone()))
    }

    /// The answer to a repeat; the debt too, if the first one may not have been followed up.
    async fn repeat(&self, stream: &Stream, landed: &Landed, wanted: &Wanted) -> Result<Appended> {
        if landed.digest != wanted.digest {
            return Err(Error::PartIdReused { seq_num: landed.at.seq_num });
        }
        let start = landed.at;
        let end = Position { seq_num: start.seq_num + 1, ..start };
        let tail = stream.check_tail().await?.filter(|tail| tail.seq_num >= end.seq_num).unwrap_or(end);
        let settled = continuo_ports::append_claims::Settled {
            channel: stream.key.clone(),
            part_id: wanted.part_id.clone(),
            mark: landed.mark.clone(),
            at: start,
        };
        let debt = (!landed.is_settled).then(|| self.debts.owe(settled));
        Ok(Appended { start, end, tail, repeated: true, debt })
    }

    /// What a claim that was there before means for this append.
    pub(crate) async fn meet(&self, stream: &Stream, claim: Claim, wanted: &Wanted) -> Result<Met> {
        match self.outcome(stream, &claim).await? {
            Outcome::Changed => return Ok(Met::Again),
            Outcome::Landed(landed) if stream.has(landed.at).await? => {
                return self.repeat(stream, &landed, wanted).await.map(Met::Repeat);
            }
            // Trimmed away, and its part id free again.
            Outcome::Landed(_) | Outcome::Never => {}
        }
        let (new, since) = self.new_claim(stream, wanted, None);
        let ours = new.clone().of(&stream.key.session);
        if !self.claims.take_over(&claim, new).await? {
            return Ok(Met::Again);
        }
        self.landed.lock().remove(&(stream.key.clone(), wanted.part_id.clone()));
        Ok(Met::Ours(ours, since))
    }

    /// Where the record of a part id stands.
    pub(crate) async fn part(&self, stream: &Stream, part_id: &PartId) -> Result<Option<SeqNum>> {
        if let Some(landed) = self.outcome_of(stream, part_id)
            && stream.has(landed.at).await?
        {
            return Ok(Some(landed.at.seq_num));
        }
        loop {
            let Some(claim) = self.claims.claim_of(&stream.key, part_id).await? else { return Ok(None) };
            match self.outcome(stream, &claim).await? {
                Outcome::Landed(landed) => return Ok(stream.has(landed.at).await?.then_some(landed.at.seq_num)),
                Outcome::Never => {
                    self.release(&claim).await;
                    return Ok(None);
                }
                Outcome::Changed => {}
            }
        }
    }

    /// Waits for the writer while that may still be at it; then shuts it out and looks one last time.
    async fn outcome(&self, stream: &Stream, claim: &Claim) -> Result<Outcome> {
        if let Some(at) = claim.settled_at {
            return Ok(Outcome::Landed(self.note(claim, at, true)));
        }
        let patience =
            if self.given_up_at(claim) < self.clock.now() { Duration::ZERO } else { self.options.repeat_patience };
        let until = Instant::now() + patience;
        let (mut from, mut pause) = (claim.from_seq_num, LOOK_PAUSE);
        loop {
            if let Some(landed) = self.outcome_of(stream, &claim.part_id).filter(|landed| landed.mark == claim.mark) {
                return Ok(Outcome::Landed(landed));
            }
            // Whoever writes in this process says so in the end.
            if !self.is_writing(&claim.mark) {
                if let Some(at) = find(stream, claim, &mut from, SeqNum::MAX).await? {
                    return Ok(Outcome::Landed(self.note(claim, at, false)));
                }
                match self.claims.claim_of(&claim.channel, &claim.part_id).await? {
                    Some(now) if now.mark != claim.mark => return Ok(Outcome::Changed),
                    None => return Ok(Outcome::Changed),
                    Some(Claim { settled_at: Some(at), .. }) => return Ok(Outcome::Landed(self.note(claim, at, true))),
                    Some(_) if Instant::now() >= until => break,
                    Some(_) => {}
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
        }
        Ok(match self.shut_out(stream, claim, from).await? {
            Some(at) => Outcome::Landed(self.note(claim, at, false)),
            None => Outcome::Never,
        })
    }

    /// When its writer, had it begun at once, has given up waiting for S2.
    fn given_up_at(&self, claim: &Claim) -> Timestamp {
        claim.claimed_at.plus_ms(u64::try_from(self.options.append_timeout.as_millis()).unwrap_or(0))
    }

    fn note(&self, claim: &Claim, at: Position, is_settled: bool) -> Landed {
        let landed = Landed { mark: claim.mark.clone(), digest: claim.digest, at, is_settled };
        self.landed.lock().insert((claim.channel.clone(), claim.part_id.clone()), landed.clone());
        landed
    }

    /// Raises the fence, so that the record is below it or nowhere, and looks there.
    async fn shut_out(&self, stream: &Stream, claim: &Claim, mut from: SeqNum) -> Result<Option<Position>> {
        let fence = stream.renew().await?;
        find(stream, claim, &mut from, fence).await
    }

    /// As an append whose acknowledgement was lost finds out what became of it, through a short absence of S2. `None`: nothing
    /// was written, and nothing will be.
    pub(crate) async fn find_out(&self, stream: &Stream, claim: &Claim) -> Result<Option<Position>> {
        let until = Instant::now() + self.options.append_timeout;
        let mut from = claim.from_seq_num;
        loop {
            let found = match find(stream, claim, &mut from, SeqNum::MAX).await {
                Ok(Some(at)) => return Ok(Some(at)),
                Ok(None) => self.shut_out(stream, claim, from).await,
                Err(error) => Err(error),
            };
            match found {
                Err(Error::Unavailable(_)) if Instant::now() < until => sleep(RETRY_PAUSE).await,
                found => return found,
            }
        }
    }

    /// Old claims that nobody settled: what became of each.
    pub(crate) async fn owed(&self, before: Timestamp, limit: u32) -> Result<Vec<OwedAppend>> {
        let claims = self.claims.unsettled(before, limit).await?;
        let looked = stream::iter(claims).map(|claim| self.owed_for(claim, before)).buffer_unordered(OWED_AT_ONCE);
        Ok(looked.filter_map(|owed| async { owed }).collect().await)
    }

    /// One that cannot be looked into now must not keep the others. A writer is shut out only when it has had the time of a
    /// request besides: where S2 is slow, a fence for each append that takes its time would make all of them begin anew.
    async fn owed_for(&self, claim: Claim, before: Timestamp) -> Option<OwedAppend> {
        if self.is_writing(&claim.mark) {
            return None;
        }
        let stream = match self.stream(&claim.channel).await {
            Ok(stream) => stream,
            Err(Error::SessionNotFound) => {
                self.release(&claim).await;
                return None;
            }
            Err(error) => {
                warn!(channel = %claim.channel, cause = ?error.cause(), "a claim waits for the next sweep");
                return None;
            }
        };
        let found = if self.given_up_at(&claim) < before {
            self.find_out(&stream, &claim).await
        } else {
            match find(&stream, &claim, &mut { claim.from_seq_num }, SeqNum::MAX).await {
                Ok(None) => return None,
                found => found,
            }
        };
        match found {
            Ok(Some(at)) => {
                Some(OwedAppend { channel: claim.channel.clone(), at, debt: self.landed(&claim, at, false) })
            }
            Ok(None) => {
                self.release(&claim).await;
                None
            }
            Err(error) => {
                warn!(channel = %claim.channel, cause = ?error.cause(), "a claim waits for the next sweep");
                None
            }
        }
    }
}

impl Stream {
    /// Is the record that once stood there still there?
    async fn has(&self, at: Position) -> Result<bool> {
        Ok(self.earliest().await?.is_some_and(|earliest| earliest <= at.seq_num))
    }
}

/// Looks for the claim's record from `next` up to `end`, and moves `next` past what was looked at.
async fn find(stream: &Stream, claim: &Claim, next: &mut SeqNum, end: SeqNum) -> Result<Option<Position>> {
    if let Some(records) = record::bare_records(&claim.mark) {
        return find_bare(stream, claim, records).await;
    }
    while *next < end {
        let Page::Records(records) = stream.page(ReadFrom::SeqNum(*next), READ_BATCH_RECORDS_MAX).await? else {
            return Ok(None);
        };
        let is_ours = |record: &&SequencedRecord| record::mark(record) == Some(claim.mark.as_bytes());
        if let Some(found) = records.iter().find(is_ours) {
            // An append of several records carries its mark on the first that is no command.
            return Ok(Some(Position { seq_num: found.seq_num, timestamp: record::timestamp(found.timestamp) }));
        }
        *next = records.last().map_or(end, |last| last.seq_num + 1);
    }
    Ok(None)
}

/// Records without a mark stand where their claim says, or nowhere.
async fn find_bare(stream: &Stream, claim: &Claim, count: usize) -> Result<Option<Position>> {
    let Page::Records(records) = stream.page(ReadFrom::SeqNum(claim.from_seq_num), count).await? else {
        return Ok(None);
    };
    if records.iter().any(|record| record::mark(record).is_some()) {
        return Ok(None);
    }
    let records: Vec<_> = records.into_iter().map(record::from_s2).collect();
    let Some(first) = records.first().filter(|first| first.seq_num == claim.from_seq_num) else { return Ok(None) };
    Ok((record::digest_read(&records) == claim.digest).then(|| first.position()))
}
