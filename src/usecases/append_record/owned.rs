//! What a run writes to its `.out`, and what is left to one that was superseded.

use super::FENCE_ROUNDS_MAX;
use crate::Core;
use crate::held_claim::HeldClaim;
use continuo_domain::channel::{
    Append, Appended, CONTROL_HEADER, ChannelKey, Command, Fence, FencingToken, Header, NewRecord, TURN_COMPLETE,
};
use continuo_domain::principal::{Principal, RunClaim};
use continuo_domain::run::RunStatus;
use continuo_domain::{Error, Result};

/// Control records a superseded run may still write until its successor's first record.
const FAREWELLS: [&str; 4] = ["upgrade-required", "pending-version", TURN_COMPLETE, "session-closed"];
/// Last header of a control record that a superseded run wrote: what tells it from one of the owner's. Readers ignore it.
const SUPERSEDED_HEADER: &str = "continuo-superseded";

impl Core {
    /// A run writes under its lease, also while the session closes; a newer owner's fence ends that.
    pub(super) async fn append_as_run(
        &self,
        caller: &Principal,
        channel: &ChannelKey,
        claim: &RunClaim,
        append: Append,
        held: &mut HeldClaim,
    ) -> Result<Appended> {
        let mut own = Fence { version: claim.version, lease: claim.lease, closed: false };
        let mut fencing_token = own.to_token();
        for _ in 0..FENCE_ROUNDS_MAX {
            let attempt = Append { fencing_token: Some(fencing_token.clone()), ..append.clone() };
            let current = match self.write(channel, attempt, held).await {
                Err(Error::Fenced { fencing_token }) => fencing_token,
                outcome => return outcome,
            };
            let in_force = FencingToken::parse(&current)?;
            let fence = Fence::of_token(&in_force);
            // Closed, or renewed: the owner is the same.
            if (fence.version, fence.lease) == (own.version, own.lease) {
                fencing_token = in_force;
            } else if fence.version == own.version && self.has_only_slept(caller, claim, fence.lease).await? {
                own = fence;
                fencing_token = in_force;
            } else if fence.version > own.version && self.may_say_farewell(caller, claim).await? {
                return self.append_farewell(channel, append, current, held).await;
            } else {
                return Err(Error::Fenced { fencing_token: current });
            }
        }
        Err(Error::Fenced { fencing_token: fencing_token.as_str().to_owned() })
    }

    /// Clients keep a stream token while their run sleeps, and go on with it under the lease that it woke with. Within one attempt
    /// no lease ends in another way.
    async fn has_only_slept(&self, caller: &Principal, claim: &RunClaim, lease: u64) -> Result<bool> {
        if !caller.writes_directly() || lease <= claim.lease {
            return Ok(false);
        }
        let run = self.ports.runs.get(&caller.environment, &claim.run).await?;
        Ok(run.is_some_and(|run| {
            let is_awake = run.status == RunStatus::Executing && run.lease.is_some_and(|held| held.number == lease);
            is_awake && run.attempt_lease <= claim.lease
        }))
    }

    /// A run that goes on, or that ended well. One that was canceled or crashed has nothing more to say.
    async fn may_say_farewell(&self, caller: &Principal, claim: &RunClaim) -> Result<bool> {
        let run = self.ports.runs.get(&caller.environment, &claim.run).await?;
        Ok(run.is_some_and(|run| run.is_alive() || run.status == RunStatus::CompletedSuccessfully))
    }

    /// A superseded run's last control records pass until its successor has written: at the tail that was checked, or not.
    async fn append_farewell(
        &self,
        channel: &ChannelKey,
        mut append: Append,
        current: String,
        held: &mut HeldClaim,
    ) -> Result<Appended> {
        let is_farewell = |r: &NewRecord| {
            r.headers.first().is_some_and(|h| {
                h.name == CONTROL_HEADER.as_bytes() && FAREWELLS.iter().any(|f| h.value == f.as_bytes())
            })
        };
        let refusal = Error::Fenced { fencing_token: current };
        if !append.records.iter().all(is_farewell) || append.match_seq_num.is_some() {
            return Err(refusal);
        }
        // A repeat by part id compares records, so one with a part id stays as it came.
        if append.part_id.is_none() {
            append.records.iter_mut().for_each(|r| r.headers.push(Header::new(SUPERSEDED_HEADER, "true")));
        }
        for _ in 0..FENCE_ROUNDS_MAX {
            let tail = self.ports.channels.tail(channel).await?;
            let fence = Fence::of_token(&tail.fencing_token);
            if self.owner_has_written(channel, fence.version, tail.position.seq_num).await? {
                return Err(refusal);
            }
            let attempt = Append {
                fencing_token: Some(tail.fencing_token),
                match_seq_num: Some(tail.position.seq_num),
                ..append.clone()
            };
            match self.write(channel, attempt, held).await {
                Err(Error::SeqNumMismatch { .. } | Error::Fenced { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(refusal)
    }

    /// Has anything but commands and farewells been written since the fence of this version went up?
    async fn owner_has_written(&self, channel: &ChannelKey, version: u64, tail: u64) -> Result<bool> {
        let newest = self.walk_back(channel, tail, |record| match record.command() {
            Some(Command::Fence(token)) => {
                let fence = Fence::of_token(&token);
                fence.version < version || (fence.lease == 0 && !token.is_renewed())
            }
            Some(Command::Trim(_)) => false,
            None => record.header(SUPERSEDED_HEADER).is_none(),
        });
        Ok(newest.await?.is_some_and(|record| !record.is_command()))
    }
}
