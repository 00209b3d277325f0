//! The ports behind gates. Each call is named as its method is.

use super::Gates;
use async_trait::async_trait;
use continuo_domain::channel::{Append, Appended, ChannelKey, ChannelName, Debt, Direction, PartId, ReadFrom, Record};
use continuo_domain::channel::{SeqNum, Tail};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::id::{ApiKeyId, OrganizationId};
use continuo_domain::run::{Assignment, Attempt, MetadataUpdate, NewRun, Run, RunCommand};
use continuo_domain::session::{NewSession, Session, SessionPatch, SessionRef, SessionRun, TriggerConfig};
use continuo_domain::waitpoint::{Completion, Waitpoint};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp, WaitpointId};
use continuo_ports::environments::{ApiKey, Environment, KeyOwner, Revocation};
use continuo_ports::run_store::{Applied, DequeueRequest, LeaseRef, MadeOrFound, NewTrigger, Page, PageFrom, Renewed};
use continuo_ports::run_store::{Queues, RunFilter, Triggered, WaitpointCompleted, WaitpointFilter};
use continuo_ports::session_store::{BootEvent, Claim, ClaimRun, Closed, Created, NamedChannel, Probe, Upserted};
use continuo_ports::waitpoint_registry::WaitKey;
use continuo_ports::worker_store::{ConnectedWorker, WorkerPage, WorkerPosition};
use continuo_ports::{
    ChannelStore, Environments, OwedAppend, ReadEvent, RunStore, SessionStore, WaitpointRegistry, WorkerStore,
    WrittenChannel, WrittenPage,
};
use futures_util::stream::{BoxStream, StreamExt};
use std::sync::Arc;

/// A port behind gates.
pub(crate) struct Gated<P: ?Sized> {
    pub(crate) inner: Arc<P>,
    pub(crate) gates: Gates,
}

macro_rules! gated {
    ($port:ident { $( fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty; )* } $($passed:tt)*) => {
        #[async_trait]
        impl $port for Gated<dyn $port> {
            $(
                async fn $name(&self, $($arg: $type),*) -> Result<$out> {
                    let printed = format!("{:?}", ($(&$arg,)*));
                    self.gates.pass(stringify!($name), || printed, self.inner.$name($($arg),*)).await
                }
            )*
            $($passed)*
        }
    };
}

gated!(SessionStore {
    fn upsert(session: NewSession, now: Timestamp) -> Upserted;
    fn create(session: NewSession, first_run: NewRun, now: Timestamp) -> Created;
    fn probe(environment: &EnvironmentId, session: &SessionRef, claim: Option<NewClaim>) -> Option<Probe>;
    fn without_live_run(sessions: &[SessionId]) -> Vec<Session>;
    fn get(environment: &EnvironmentId, session: &SessionRef) -> Option<Session>;
    fn refresh_trigger_config(session: &SessionId, config: TriggerConfig, now: Timestamp) -> Session;
    fn update(session: &SessionId, patch: SessionPatch, now: Timestamp) -> Session;
    fn close(session: &SessionId, reason: Option<String>, now: Timestamp) -> Closed;
    fn finish_close(session: &SessionId) -> ();
    fn unfinished_closes(limit: u32) -> Vec<Session>;
    fn delete(session: &SessionId) -> bool;
    fn claim_run(claim: ClaimRun, now: Timestamp) -> Claim;
    fn session_runs(session: &SessionId) -> Vec<(SessionRun, Run)>;
    fn note_boot(session: &SessionId, event: BootEvent, now: Timestamp) -> Session;
    fn sessions_without_live_run(
        since: Timestamp,
        now: Timestamp,
        after: Option<&SessionId>,
        limit: u32
    ) -> Vec<Session>;
    fn register_channel(session: &SessionId, name: &ChannelName) -> bool;
    fn channels(session: &SessionId) -> Vec<ChannelName>;
    fn set_max_age(session: &SessionId, name: &ChannelName, max_age_seconds: u64) -> ();
    fn named_channels(only_aging: bool, after: Option<&NamedChannel>, limit: u32) -> Vec<NamedChannel>;
});

gated!(ChannelStore {
    fn append(channel: &ChannelKey, append: Append) -> Appended;
    fn read(channel: &ChannelKey, from: ReadFrom) -> (Vec<Record>, Tail);
    fn tail(channel: &ChannelKey) -> Tail;
    fn part(channel: &ChannelKey, part_id: &PartId) -> Option<SeqNum>;
    fn owed(before: Timestamp, limit: u32) -> Vec<OwedAppend>;
    fn delete(session: &SessionId) -> ();
}
    /// Each event passes as `followed`.
    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>> {
        let printed = format!("{:?}", (channel, from));
        let events = self.gates.pass("follow", || printed, self.inner.follow(channel, from)).await?;
        let gates = self.gates.clone();
        let pass = move |event: Result<ReadEvent>| {
            let (gates, printed) = (gates.clone(), format!("{event:?}"));
            async move { gates.pass("followed", || printed, async { event }).await }
        };
        Ok(events.then(pass).boxed())
    }

    fn claim(
        &self,
        session: Option<&SessionId>,
        name: Option<&ChannelName>,
        direction: Direction,
        append: &Append,
        now: Timestamp,
    ) -> Option<NewClaim> {
        self.inner.claim(session, name, direction, append, now)
    }

    fn abandon(&self, claimed: Claimed) {
        self.inner.abandon(claimed);
    }

    fn followed_up(&self, debt: Debt) {
        self.inner.followed_up(debt);
    }

    async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>> {
        let printed = format!("{session:?} {page:?}");
        self.gates.pass("written", || printed, self.inner.written(session, page)).await
    }

    fn basin(&self, organization: &OrganizationId) -> Option<String> {
        self.inner.basin(organization)
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
);

gated!(RunStore {
    fn trigger(trigger: NewTrigger, now: Timestamp) -> Triggered;
    fn get(environment: &EnvironmentId, run: &RunId) -> Option<Run>;
    fn list(environment: &EnvironmentId, filter: &RunFilter, from: &PageFrom<RunId>, size: u32) -> Page<Run>;
    fn attempts(run: &RunId) -> Vec<Attempt>;
    fn apply(environment: &EnvironmentId, run: &RunId, command: RunCommand, now: Timestamp) -> Applied;
    fn renew(
        environment: &EnvironmentId,
        leases: &[LeaseRef],
        link: Option<&str>,
        lease_until: Timestamp,
        now: Timestamp
    ) -> Vec<Result<Renewed>>;
    fn dequeue(request: DequeueRequest, now: Timestamp) -> Vec<Assignment>;
    fn due_runs(now: Timestamp, limit: u32) -> Vec<Run>;
    fn next_due(now: Timestamp) -> Option<Timestamp>;
    fn update_metadata(run: &RunId, update: MetadataUpdate, now: Timestamp) -> Run;
    fn add_tags(run: &RunId, tags: Vec<String>, now: Timestamp) -> Run;
    fn create_waitpoint(waitpoint: Waitpoint) -> MadeOrFound<Waitpoint>;
    fn get_waitpoint(environment: &EnvironmentId, waitpoint: &WaitpointId) -> Option<Waitpoint>;
    fn list_waitpoints(
        environment: &EnvironmentId,
        filter: &WaitpointFilter,
        from: &PageFrom<WaitpointId>,
        size: u32
    ) -> Page<Waitpoint>;
    fn complete_waitpoint(waitpoint: &WaitpointId, completion: Completion, now: Timestamp) -> WaitpointCompleted;
    fn open_waits(channel: &ChannelKey, seq_num: SeqNum) -> Vec<Waitpoint>;
    fn open_waits_on(channels: &[ChannelKey]) -> Vec<Waitpoint>;
    fn all_open_waits(after: Option<&WaitpointId>, limit: u32) -> Vec<Waitpoint>;
    fn timed_out_waitpoints(now: Timestamp, limit: u32) -> Vec<Waitpoint>;
    fn queues(environment: &EnvironmentId, limit: u32, now: Timestamp) -> Queues;
});

gated!(WorkerStore {
    fn connect_worker(worker: &ConnectedWorker, lost_before: Timestamp) -> ();
    fn note_worker(worker: &ConnectedWorker, lost_before: Timestamp) -> ();
    fn disconnect_worker(environment: &EnvironmentId, id: &str, link: &str) -> ();
    fn list_workers(
        environment: &EnvironmentId,
        seen_from: Timestamp,
        after: Option<&WorkerPosition>,
        size: u32
    ) -> WorkerPage;
    fn forget_workers(lost_before: Timestamp) -> u64;
    fn knows_task(environment: &EnvironmentId, task_identifier: &str) -> bool;
});

gated!(Environments {
    fn put(environment: Environment, now: Timestamp) -> ();
    fn all() -> Vec<Environment>;
    fn get(environment: &EnvironmentId) -> Option<Environment>;
    fn find_key(hash: &[u8], now: Timestamp) -> Option<KeyOwner>;
    fn add_key(key: ApiKey) -> ();
    fn keys(environment: &EnvironmentId) -> Vec<ApiKey>;
    fn revoke_key(environment: &EnvironmentId, key: &ApiKeyId, now: Timestamp) -> bool;
    fn revoke_tokens(environment: &EnvironmentId, session: Option<&SessionId>, not_before: Timestamp) -> ();
    fn session_tokens_not_before(session: &SessionId) -> Option<Timestamp>;
    fn revocations(since: Timestamp, now: Timestamp) -> Vec<Revocation>;
});

gated!(WaitpointRegistry {
    fn register(key: &WaitKey, waitpoint: &WaitpointId, until: Timestamp) -> ();
    fn remove(key: &WaitKey, waitpoint: &WaitpointId) -> ();
    fn drain(key: &WaitKey, now: Timestamp) -> Vec<WaitpointId>;
});
