//! Streams that are open, and the end of each when its credential ends: at its expiry, and within a second of its revocation.
//!
//! A stream costs an entry, no timer and no look-up. One task of the node sleeps until the next expiry, another asks the
//! database for what was revoked lately, and a third authenticates once more the bearers of streams that this concerns.

use crate::Core;
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{Credential, Principal, StreamWriter};
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::environments::{Revocation, Revoked};
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often the database is asked, while streams are open. With the answer, less than a second.
const LOOK_EVERY: Duration = Duration::from_millis(750);
/// A revocation is dated before it is committed, by another replica's clock: each look goes back so far before the last one.
/// Longer than all tries of a write together, and than clocks of replicas may differ.
const LOOK_BACK_MS: u64 = 600_000;
/// Where revocations come one after another, one look is for several.
const GATHER: Duration = Duration::from_millis(20);
/// Longest sleep of who waits for an expiry: the clock may be set.
const NAP_MAX: Duration = Duration::from_secs(1);
/// Bearers that are authenticated once more at the same time.
const AT_ONCE_MAX: usize = 16;

/// All of this node.
#[derive(Default)]
pub(crate) struct OpenStreams {
    open: Mutex<Open>,
    /// A stream was opened that ends before all others.
    sooner: Notify,
    /// Somebody knows of a revocation, or the first stream was opened.
    look: Notify,
    /// There are bearers to be authenticated once more.
    doubts: Notify,
    seen: tokio::sync::Mutex<Seen>,
}

#[derive(Default)]
struct Open {
    newest: u64,
    streams: HashMap<u64, Stream>,
    by_end: BTreeSet<(Timestamp, u64)>,
    /// Those whose bearers are to be authenticated once more.
    doubtful: HashSet<u64>,
    /// Raised with each revocation that is seen.
    seen: u64,
}

struct Stream {
    bearer: Box<str>,
    environment: EnvironmentId,
    credential: Credential,
    expires_at: Option<Timestamp>,
    end: Arc<End>,
}

#[derive(Default)]
struct End {
    why: OnceLock<CredentialProblem>,
    is_here: CancellationToken,
}

/// Revocations as far as they were looked at.
#[derive(Default)]
struct Seen {
    /// When the last look began that was answered.
    looked_at: Option<Timestamp>,
    told: HashSet<Revocation>,
}

/// How the credential of an open stream stands. The stream counts as open until the last copy is dropped.
#[derive(Clone)]
pub struct Standing(Option<Arc<Place>>);

struct Place {
    id: u64,
    end: Arc<End>,
    streams: Arc<OpenStreams>,
}

impl Standing {
    /// Ends when the credential does.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let end = self.0.as_ref().map(|place| place.end.is_here.clone());
        async move {
            match end {
                Some(end) => end.cancelled_owned().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Why it ended, if it has.
    pub fn problem(&self) -> Option<Error> {
        let problem = self.0.as_ref()?.end.why.get()?;
        Some(Error::Unauthenticated(*problem))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.open.lock().remove(self.id);
    }
}

impl Open {
    fn remove(&mut self, id: u64) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if let Some(at) = stream.expires_at {
            self.by_end.remove(&(at, id));
        }
        self.doubtful.remove(&id);
        Some(stream)
    }

    fn end(&mut self, id: u64, why: impl FnOnce(&Credential) -> CredentialProblem) {
        if let Some(stream) = self.remove(id) {
            // Once: it is removed with it.
            let _ = stream.end.why.set(why(&stream.credential));
            stream.end.is_here.cancel();
        }
    }
}

impl OpenStreams {
    /// How many revocations were seen so far.
    fn seen(&self) -> u64 {
        self.open.lock().seen
    }

    /// A stream of this caller, whose bearer was authenticated when so many revocations were seen.
    fn add(self: &Arc<Self>, bearer: &str, caller: &Principal, seen: u64) -> Standing {
        let end = Arc::new(End::default());
        let stream = Stream {
            bearer: bearer.into(),
            environment: caller.environment.clone(),
            credential: caller.credential.clone(),
            expires_at: caller.expires_at,
            end: end.clone(),
        };
        let mut open = self.open.lock();
        open.newest += 1;
        let id = open.newest;
        if open.seen != seen {
            open.doubtful.insert(id);
            self.look.notify_one();
        }
        if let Some(at) = caller.expires_at {
            if open.by_end.first().is_none_or(|(first, _)| at < *first) {
                self.sooner.notify_one();
            }
            open.by_end.insert((at, id));
        }
        if open.streams.is_empty() {
            self.look.notify_one();
        }
        open.streams.insert(id, stream);
        Standing(Some(Arc::new(Place { id, end, streams: self.clone() })))
    }

    /// Something was revoked in this process.
    pub(crate) fn look_now(&self) {
        self.look.notify_one();
    }

    fn is_empty(&self) -> bool {
        self.open.lock().streams.is_empty()
    }

    /// Ends what is past its time. Says when the next one is.
    fn end_expired(&self, now: Timestamp) -> Option<Timestamp> {
        let mut open = self.open.lock();
        loop {
            match open.by_end.first() {
                Some(&(at, id)) if at <= now => open.end(id, expired),
                next => return next.map(|(at, _)| *at),
            }
        }
    }

    fn doubt(&self, revocations: &[Revocation]) {
        let mut open = self.open.lock();
        open.seen += 1;
        let ends = Ends::of(revocations);
        let Open { streams, doubtful, .. } = &mut *open;
        doubtful.extend(streams.iter().filter(|(_, stream)| ends.concern(stream)).map(|(id, _)| *id));
    }

    fn doubtful(&self) -> Vec<(u64, Box<str>)> {
        let open = self.open.lock();
        let bearer = |id: &u64| open.streams.get(id).map(|stream| (*id, stream.bearer.clone()));
        open.doubtful.iter().filter_map(bearer).collect()
    }
}

/// Revocations by environment.
#[derive(Default)]
struct Ends<'a>(HashMap<&'a EnvironmentId, EndsHere<'a>>);

/// What was revoked in one environment.
#[derive(Default)]
struct EndsHere<'a> {
    root_key: bool,
    keys: bool,
    tokens: bool,
    tokens_of: HashSet<&'a SessionId>,
}

impl<'a> Ends<'a> {
    fn of(revocations: &'a [Revocation]) -> Self {
        let mut ends = Self::default();
        for revocation in revocations {
            let here = ends.0.entry(&revocation.environment).or_default();
            match &revocation.what {
                Revoked::Tokens(None) => here.tokens = true,
                Revoked::Tokens(Some(session)) => drop(here.tokens_of.insert(session)),
                Revoked::Key(_) => here.keys = true,
                Revoked::RootKey => here.root_key = true,
            }
        }
        ends
    }

    /// May the stream's credential be among them, as far as can be said without its bearer?
    fn concern(&self, stream: &Stream) -> bool {
        let Some(here) = self.0.get(&stream.environment) else { return false };
        match &stream.credential {
            Credential::RootKey => here.root_key,
            Credential::AdditionalKey => here.keys,
            Credential::PublicToken { session, .. } => {
                let is_its = session.as_ref().is_some_and(|session| here.tokens_of.contains(session));
                is_its || here.tokens || here.root_key
            }
            Credential::StreamToken(claim) => {
                let is_its = here.tokens_of.contains(&claim.channel.session);
                claim.writer == StreamWriter::Public && (is_its || here.tokens)
            }
            Credential::RunToken(_) | Credential::WaitpointToken(_) => false,
        }
    }
}

/// What authenticating the bearer would say now.
fn expired(credential: &Credential) -> CredentialProblem {
    match credential {
        Credential::PublicToken { .. } => CredentialProblem::InvalidToken,
        Credential::StreamToken(_) => CredentialProblem::InvalidStreamToken,
        Credential::RunToken(_) => CredentialProblem::InvalidRunToken,
        Credential::WaitpointToken(_) => CredentialProblem::InvalidWaitpointToken,
        Credential::RootKey | Credential::AdditionalKey => CredentialProblem::UnknownKey,
    }
}

impl Core {
    /// Whose bearer this is, and how it stands from here on. A run's own token stands for good: it is renewed while the run has
    /// its lease, and leases and fences say what the run may still do. The form for SDKs, which opens more than the run's own
    /// session, stands until it expires.
    pub async fn authenticate_stream(&self, bearer: &str) -> Result<(Principal, Standing)> {
        let seen = self.streams.seen();
        let caller = self.authenticate(bearer).await?;
        let standing = match caller.credential {
            Credential::RunToken(_) | Credential::WaitpointToken(_) if caller.expires_at.is_none() => Standing(None),
            _ => self.streams.add(bearer, &caller, seen),
        };
        Ok((caller, standing))
    }

    /// Ends streams whose credentials end. Runs until stopping.
    pub async fn run_open_streams(self) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.end_expired_streams() => {}
            () = self.look_for_revocations() => {}
            () = self.settle_doubts_for_ever() => {}
        }
    }

    async fn end_expired_streams(&self) {
        loop {
            let now = self.now();
            match self.streams.end_expired(now) {
                None => self.streams.sooner.notified().await,
                Some(next) => {
                    let nap = Duration::from_millis(next.ms_since(now).max(1)).min(NAP_MAX);
                    tokio::select! {
                        () = self.streams.sooner.notified() => {}
                        () = sleep(nap) => {}
                    }
                }
            }
        }
    }

    async fn look_for_revocations(&self) {
        loop {
            while self.streams.is_empty() {
                *self.streams.seen.lock().await = Seen::default();
                self.streams.look.notified().await;
            }
            self.look().await;
            sleep(GATHER).await;
            tokio::select! {
                () = self.streams.look.notified() => {}
                () = self.ports.tokens.changed() => {}
                () = sleep(LOOK_EVERY - GATHER) => {}
            }
        }
    }

    /// One round at `now`: ends what is past its time, and what was revoked since the round before.
    pub async fn end_streams(&self, now: Timestamp) {
        self.streams.end_expired(now);
        self.look().await;
        self.settle_doubts().await;
    }

    async fn look(&self) {
        let mut seen = self.streams.seen.lock().await;
        if let Err(error) = self.hear_revocations(&mut seen).await {
            warn!(error = %error, cause = ?error.cause(), "what was revoked will be asked again");
        }
        self.streams.doubts.notify_one();
    }

    /// Beside the looks: many streams of one environment in doubt hold up no look for another one.
    async fn settle_doubts_for_ever(&self) {
        loop {
            self.streams.doubts.notified().await;
            self.settle_doubts().await;
        }
    }

    async fn settle_doubts(&self) {
        let doubtful = stream::iter(self.streams.doubtful());
        doubtful.for_each_concurrent(AT_ONCE_MAX, |(id, bearer)| self.settle_doubt(id, bearer)).await;
    }

    /// Nothing is missed while there is no answer: the next look goes back to before the last one that was answered.
    async fn hear_revocations(&self, seen: &mut Seen) -> Result<()> {
        let now = self.now();
        let since = seen.looked_at.unwrap_or(now).min(now).minus_ms(LOOK_BACK_MS);
        let found = self.ports.environments.revocations(since, now).await?;
        let fresh: Vec<_> = found.iter().filter(|r| !seen.told.contains(r)).cloned().collect();
        if !fresh.is_empty() {
            // First: who authenticates from here on must not meet an answer from before.
            self.ports.tokens.forget();
            self.streams.doubt(&fresh);
        }
        *seen = Seen { looked_at: Some(now), told: found.into_iter().collect() };
        Ok(())
    }

    async fn settle_doubt(&self, id: u64, bearer: Box<str>) {
        match self.ports.tokens.authenticate(&bearer).await {
            Ok(_) => drop(self.streams.open.lock().doubtful.remove(&id)),
            Err(Error::Unauthenticated(problem)) => self.streams.open.lock().end(id, |_| problem),
            Err(error) => debug!(error = %error, cause = ?error.cause(), "an open stream stays in doubt"),
        }
    }
}
