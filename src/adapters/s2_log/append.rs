//! Appends. One without a claim goes to S2 as it is. One with a claim follows the rule of the crate's first page: learn the
//! token, own the claim, then append naming that token.

use crate::log::{Inner, Landed};
use crate::record;
use crate::refusal::position;
use crate::stream::{Sent, Stream};
use continuo_domain::channel::{Append, Appended, ChannelKey, FencingToken, PartId, Position, SeqNum};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_ports::append_claims::Settled;
use tracing::warn;

/// How often an append that races with fences, or with others for its claim, starts anew.
const ROUNDS_MAX: u32 = 16;

/// What a claimed append wants.
pub(crate) struct Wanted {
    pub(crate) part_id: PartId,
    pub(crate) is_servers: bool,
    pub(crate) digest: [u8; 32],
    /// No record can carry the mark: they are known by their place and digest.
    pub(crate) bare: Option<usize>,
}

struct Given<'a> {
    inner: &'a Inner,
    claimed: Option<Claimed>,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.claimed.iter().for_each(|claimed| self.inner.abandon(claimed));
    }
}

/// What someone else's claim means for an append.
pub(crate) enum Met {
    /// The record is there; this is its answer.
    Repeat(Appended),
    /// The old record will never be: the claim is ours now, since that moment.
    Ours(Claim, u64),
    /// The claim has changed; look again.
    Again,
}

impl Inner {
    pub(crate) async fn append(&self, channel: &ChannelKey, mut append: Append) -> Result<Appended> {
        // A claim that comes along is used or given up, whatever happens.
        let given = Given { inner: self, claimed: append.claimed.take().map(|claimed| *claimed) };
        append.check()?;
        let stream = self.stream(channel).await?;
        if !record::wants_claim(record::is_input(channel), &append) {
            return plain(&stream, &append).await;
        }
        self.append_claimed(&stream, &append, given.claimed.clone()).await
    }

    async fn append_claimed(&self, stream: &Stream, append: &Append, given: Option<Claimed>) -> Result<Appended> {
        let mut given = given.filter(|claimed| claim_of(claimed).channel == stream.key);
        let given_part_id = given.as_ref().map(|claimed| claim_of(claimed).part_id.clone());
        let wanted = Wanted {
            is_servers: append.part_id.is_none(),
            part_id: append.part_id.clone().or(given_part_id).map_or_else(|| self.own_part_id(), Ok)?,
            digest: record::digest(&append.records),
            bare: (!record::has_room(&append.records)).then_some(append.records.len()),
        };
        given = given.filter(|claimed| claim_of(claimed).part_id == wanted.part_id);
        for _ in 0..ROUNDS_MAX {
            // A fresh claim says that there is no outcome.
            let is_fresh = matches!(given, Some(Claimed::Fresh(_)));
            if !is_fresh && let Some(repeat) = self.remembered_repeat(stream, &wanted).await? {
                return Ok(repeat);
            }
            let (claim, owned_since) = match given.take() {
                Some(Claimed::Fresh(claim)) => {
                    let since = self.spend(&claim.mark);
                    (claim, since)
                }
                Some(Claimed::Known(claim)) => match self.meet(stream, claim, &wanted).await? {
                    Met::Repeat(repeat) => return Ok(repeat),
                    Met::Ours(claim, since) => (claim, Some(since)),
                    Met::Again => continue,
                },
                None => {
                    let (claimed, since) = self.claim_now(stream, append, &wanted).await?;
                    match claimed {
                        Claimed::Fresh(claim) => (claim, Some(since)),
                        known => {
                            given = Some(known);
                            continue;
                        }
                    }
                }
            };
            if let Some(appended) = self.write(stream, claim, owned_since, append, &wanted).await? {
                return Ok(appended);
            }
        }
        Err(Error::Unavailable(Cause::new("a part id changes hands again and again")))
    }

    fn own_part_id(&self) -> Result<PartId> {
        PartId::parse(&format!("server:{}", self.fresh_mark().0))
    }

    /// A claim of its own, for a caller that made none.
    async fn claim_now(&self, stream: &Stream, append: &Append, wanted: &Wanted) -> Result<(Claimed, u64)> {
        if append.fencing_token.is_none() && stream.known.lock().token().is_none() {
            stream.learn().await?;
        }
        let (new, since) = self.new_claim(stream, wanted, None);
        Ok((self.claims.claim(&stream.key.session, new).await?, since))
    }

    /// The moment is taken before the database is asked: what was learned until now was learned before the claim is owned.
    pub(crate) fn new_claim(&self, stream: &Stream, wanted: &Wanted, pinned: Option<SeqNum>) -> (NewClaim, u64) {
        let (mark, since) = self.fresh_mark();
        let known_tail = stream.known.lock().tail().unwrap_or_default().seq_num;
        let new = NewClaim {
            name: stream.key.name.clone(),
            direction: stream.key.direction,
            part_id: wanted.part_id.clone(),
            is_servers: wanted.is_servers,
            digest: wanted.digest,
            mark: wanted.bare.map_or(mark.clone(), |records| record::bare_mark(&mark, records)),
            from: Some((stream.key.session.clone(), pinned.unwrap_or(known_tail))),
            claimed_at: self.clock.now(),
        };
        (new, since)
    }

    /// Writes under a claim of ours. `None` if the claim is no longer ours.
    async fn write(
        &self,
        stream: &Stream,
        mut claim: Claim,
        mut owned_since: Option<u64>,
        append: &Append,
        wanted: &Wanted,
    ) -> Result<Option<Appended>> {
        let mut named = append.fencing_token.clone();
        for _ in 0..ROUNDS_MAX {
            let pinned = match wanted.bare {
                None => None,
                Some(_) => Some(match append.match_seq_num {
                    Some(seq_num) => seq_num,
                    None => stream.check_tail().await?.unwrap_or_default().seq_num,
                }),
            };
            let token = match &named {
                Some(token) => token.clone(),
                None => stream.known.lock().token().cloned().unwrap_or_default(),
            };
            if !self.may_append(stream, &claim, owned_since, wanted, &token, pinned) {
                let (new, since) = self.new_claim(stream, wanted, pinned);
                let ours = new.clone().of(&stream.key.session);
                if !self.claims.take_over(&claim, new).await? {
                    return Ok(None);
                }
                (claim, owned_since) = (ours, Some(since));
            }
            let _writing = self.writing(&claim.mark);
            let mark = wanted.bare.is_none().then_some(claim.mark.as_str());
            let match_seq_num = append.match_seq_num.or(pinned);
            let refusal = match stream.send(&append.records, mark, Some(&token), match_seq_num).await {
                Sent::Acked(ack) => {
                    let (start, end) = (position(ack.start), position(ack.end));
                    let debt = Some(self.landed(&claim, start, false));
                    let tail = position(ack.tail);
                    return Ok(Some(Appended { start, end, tail, repeated: false, debt }));
                }
                Sent::Fenced(in_force)
                    if append.fencing_token.as_ref().is_none_or(|own| in_force.says_the_same(own)) =>
                {
                    named = named.and(Some(in_force));
                    continue;
                }
                Sent::Mismatch(_) if append.match_seq_num.is_none() => continue,
                Sent::Fenced(token) => Error::Fenced { fencing_token: token.as_str().to_owned() },
                Sent::Mismatch(tail_seq_num) => Error::SeqNumMismatch { tail_seq_num },
                Sent::Nothing(error) => error,
                Sent::Unknown(cause) => match self.find_out(stream, &claim).await {
                    Ok(Some(at)) => return Ok(Some(self.found(stream, &claim, append, at))),
                    Ok(None) => match self.renewed(stream, named.as_ref()) {
                        Ok(renewed) => {
                            named = renewed;
                            continue;
                        }
                        Err(fenced) => fenced,
                    },
                    Err(error) => {
                        warn!(channel = %stream.key, cause = ?error.cause(), "an append stays in doubt");
                        return Err(Error::OutcomeUnknown(cause));
                    }
                },
            };
            self.release(&claim).await;
            return Err(refusal);
        }
        self.release(&claim).await;
        Err(owner_changes())
    }

    /// Is this the order that makes an append safe: the token was learned before the claim was owned, and the claim says
    /// truly from where to look for the record, and by what?
    fn may_append(
        &self,
        stream: &Stream,
        claim: &Claim,
        owned_since: Option<u64>,
        wanted: &Wanted,
        token: &FencingToken,
        pinned: Option<SeqNum>,
    ) -> bool {
        let Some(since) = owned_since else { return false };
        let known = stream.known.lock();
        let from_is_right = match pinned {
            Some(seq_num) => claim.from_seq_num == seq_num && record::bare_records(&claim.mark) == wanted.bare,
            None => claim.from_seq_num <= known.tail().unwrap_or_default().seq_num,
        };
        from_is_right && claim.digest == wanted.digest && known.learned_before(token, since)
    }

    /// After our own fence: the token to name is the renewed one, if that says the same as the one the caller named.
    fn renewed(&self, stream: &Stream, named: Option<&FencingToken>) -> Result<Option<FencingToken>> {
        let Some(named) = named else { return Ok(None) };
        let in_force = stream.known.lock().token().cloned().unwrap_or_default();
        if in_force.says_the_same(named) {
            return Ok(Some(in_force));
        }
        Err(Error::Fenced { fencing_token: in_force.as_str().to_owned() })
    }

    /// The answer for a record that was found after its acknowledgement was lost.
    fn found(&self, stream: &Stream, claim: &Claim, append: &Append, at: Position) -> Appended {
        // What was found carries the mark; commands may stand before it.
        let before = if record::has_room(&append.records) { record::leading_commands(&append.records) } else { 0 };
        let start = Position { seq_num: at.seq_num - before, ..at };
        let debt = Some(self.landed(claim, start, false));
        let end = Position { seq_num: start.seq_num + append.records.len() as u64, ..start };
        let tail = stream.known.lock().tail().filter(|tail| tail.seq_num >= end.seq_num).unwrap_or(end);
        Appended { start, end, tail, repeated: false, debt }
    }

    /// Remembers where a record stands, and that it is owed for.
    pub(crate) fn landed(&self, claim: &Claim, at: Position, is_settled: bool) -> continuo_domain::channel::Debt {
        if !claim.is_servers {
            let landed = Landed { mark: claim.mark.clone(), digest: claim.digest, at, is_settled };
            self.landed.lock().insert((claim.channel.clone(), claim.part_id.clone()), landed);
        }
        self.owe(claim, at)
    }

    pub(crate) fn owe(&self, claim: &Claim, at: Position) -> continuo_domain::channel::Debt {
        self.debts.owe(Settled {
            channel: claim.channel.clone(),
            part_id: claim.part_id.clone(),
            mark: claim.mark.clone(),
            at,
        })
    }

    /// Gives up a claim whose record is not there and never will be. One that cannot be given up now is found by the sweep.
    pub(crate) async fn release(&self, claim: &Claim) {
        if let Err(error) = self.claims.release(&claim.channel, &claim.part_id, &claim.mark).await {
            warn!(channel = %claim.channel, cause = ?error.cause(), "a claim is left for the sweep");
        }
    }
}

/// Nobody else knows this record, so nothing can be found out about it: what S2 says is the answer.
async fn plain(stream: &Stream, append: &Append) -> Result<Appended> {
    let mut token = append.fencing_token.clone();
    for _ in 0..ROUNDS_MAX {
        return match stream.send(&append.records, None, token.as_ref(), append.match_seq_num).await {
            Sent::Acked(ack) => Ok(Appended {
                start: position(ack.start),
                end: position(ack.end),
                tail: position(ack.tail),
                repeated: false,
                debt: None,
            }),
            // A take-over has renewed it, which says nothing of the owner.
            Sent::Fenced(in_force) if token.as_ref().is_some_and(|own| in_force.says_the_same(own)) => {
                token = Some(in_force);
                continue;
            }
            Sent::Fenced(token) => Err(Error::Fenced { fencing_token: token.as_str().to_owned() }),
            Sent::Mismatch(tail_seq_num) => Err(Error::SeqNumMismatch { tail_seq_num }),
            Sent::Nothing(error) => Err(error),
            Sent::Unknown(cause) => Err(Error::OutcomeUnknown(cause)),
        };
    }
    Err(owner_changes())
}

fn owner_changes() -> Error {
    Error::LimitExceeded { what: "the channel's owner keeps changing, which", retry_after_ms: 100 }
}

fn claim_of(claimed: &Claimed) -> &Claim {
    match claimed {
        Claimed::Fresh(claim) | Claimed::Known(claim) => claim,
    }
}
