//! Snapshots and packets: a signed URL for who may, and the bytes for who holds one.
//!
//! A part of its own beside [`Core`], as administration is: nothing a session does needs a blob.

use crate::Core;
use crate::transcript::TRANSCRIPT_MIB_AT_ONCE;
use bytes::Bytes;
use continuo_domain::blob::{BlobGrant, BlobKey, BlobKind, BlobMethod, ContentType, PacketPath, STORED_TYPE, URL_MS};
use continuo_domain::channel::{ChannelKey, Direction, Fence};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{Action, Credential, Principal, Resource, Writer};
use continuo_domain::session::SessionRef;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp, Violation};
use continuo_ports::{Blob, BlobBody, UrlSigner};
use futures_util::{Stream, StreamExt, stream};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) core: Core,
    signer: Arc<dyn UrlSigner>,
    pub(crate) transcripts: Arc<Semaphore>,
}

/// A blob as a request names it.
#[derive(Clone, Debug)]
pub enum BlobTarget {
    /// The snapshot of a session.
    Snapshot(SessionRef),
    /// A packet.
    Packet(PacketPath),
    /// The packet that holds a value of a run.
    OfRun(RunId, RunValue),
}

/// What of a run can be too large to travel with it.
#[derive(Clone, Copy, Debug)]
pub enum RunValue {
    /// What it was triggered with.
    Payload,
    /// What it returned.
    Output,
}

/// A URL for a client.
#[derive(Clone, Debug)]
pub struct SignedUrl {
    /// Its token.
    pub token: String,
    /// Its end.
    pub expires_at: Timestamp,
    /// What names the packet, if it is one.
    pub packet: Option<PacketPath>,
}

/// A blob on its way in.
pub struct Upload {
    /// What the bytes are.
    pub content_type: ContentType,
    /// How many are said to come.
    pub size_bytes: Option<u64>,
    /// The bytes. A body that was cut ends with an error.
    pub body: BlobBody,
}

impl Blobs {
    /// Beside a core, on its store.
    pub fn new(core: Core, signer: Arc<dyn UrlSigner>) -> Self {
        Self { core, signer, transcripts: Arc::new(Semaphore::new(TRANSCRIPT_MIB_AT_ONCE)) }
    }

    /// A URL that is good for one method on one blob.
    pub async fn presign(&self, caller: &Principal, method: BlobMethod, target: BlobTarget) -> Result<SignedUrl> {
        let action = match method {
            BlobMethod::Put => Action::Write,
            BlobMethod::Get => Action::Read,
        };
        let (kind, run) = match target {
            BlobTarget::Snapshot(asked) => {
                let session = self.core.session_for(caller, action, &asked).await?;
                let run = match caller.writer(&session.id) {
                    Writer::Run(claim) if method == BlobMethod::Put => Some(claim.clone()),
                    _ => None,
                };
                (BlobKind::Snapshot(session.id), run)
            }
            BlobTarget::Packet(path) if may_packet(caller, action, &path) => (BlobKind::Packet(path), None),
            BlobTarget::Packet(_) => return Err(Error::PermissionDenied),
            BlobTarget::OfRun(run, value) => {
                (BlobKind::Packet(self.packet_of_run(caller, action, &run, value).await?), None)
            }
        };
        let packet = match &kind {
            BlobKind::Snapshot(_) => None,
            BlobKind::Packet(path) => Some(path.clone()),
        };
        let expires_at = self.core.now().plus_ms(URL_MS);
        let key = BlobKey { environment: caller.environment.clone(), kind };
        let token = self.signer.sign(&BlobGrant { method, key, run, expires_at });
        Ok(SignedUrl { token, expires_at, packet })
    }

    /// Who may look at a run may look at what was too large to travel with it.
    async fn packet_of_run(
        &self,
        caller: &Principal,
        action: Action,
        run: &RunId,
        value: RunValue,
    ) -> Result<PacketPath> {
        if action != Action::Read {
            return Err(Violation::new(
                "target.run",
                "can be fetched only; a run's payload and output are set with the run",
            )
            .into());
        }
        let run = self.core.get_run(caller, run).await?;
        let (text, content_type) = match value {
            RunValue::Payload => (Some(run.spec.payload.as_str()), Some(run.spec.payload_type.as_str())),
            RunValue::Output => (run.output.as_deref(), run.output_type.as_deref()),
        };
        match text {
            Some(path) if content_type == Some(STORED_TYPE) => PacketPath::parse(path).map_err(|_| Error::BlobNotFound),
            _ => Err(Error::BlobNotFound),
        }
    }

    /// What the holder of a URL's token may do with this method. Whoever comes with another credential that counts is known,
    /// and still not allowed.
    pub async fn granted(&self, bearer: &str, method: BlobMethod) -> Result<BlobGrant> {
        if let Ok(grant) = self.signer.verify(bearer) {
            return grant.for_method(method);
        }
        match self.core.authenticate(bearer).await {
            Ok(_) => Err(Error::PermissionDenied),
            Err(Error::Unauthenticated(_)) => Err(Error::Unauthenticated(CredentialProblem::InvalidUrl)),
            Err(other) => Err(other),
        }
    }

    /// Stores a blob. Of a session that is deleted meanwhile nothing stays behind, and what a run was granted counts as long as
    /// it owns its session: the last look at that comes after the last byte and before the blob is there.
    pub async fn put(&self, grant: BlobGrant, upload: Upload) -> Result<()> {
        let limit_bytes = grant.key.bytes_max();
        if upload.size_bytes.is_some_and(|size| size > limit_bytes) {
            return Err(Error::BlobTooLarge { limit_bytes });
        }
        self.check_owner(&grant).await?;
        let body =
            measured(upload.body, limit_bytes, upload.size_bytes).chain(self.clone().no_longer_owner(grant.clone()));
        tokio::select! {
            // A caller who sends slowly does not keep the node from stopping.
            () = self.core.stopping().cancelled() => return Err(Error::Stopping),
            stored = self.core.ports.blobs.put(&grant.key, &upload.content_type, body.boxed()) => stored?,
        }
        self.undo_if_deleted(&grant.key).await
    }

    /// The blob as it is now.
    pub async fn get(&self, key: &BlobKey) -> Result<Blob> {
        self.core.ports.blobs.get(key).await?.ok_or(Error::BlobNotFound)
    }

    /// The end of a body: an error, should the grant not count any more.
    fn no_longer_owner(self, grant: BlobGrant) -> impl Stream<Item = Result<Bytes>> + Send {
        stream::once(async move { self.check_owner(&grant).await }).filter_map(|owner| async { owner.err().map(Err) })
    }

    /// The session of a snapshot must be there, and the run that a grant was given to must own it, as its `.out` has it.
    async fn check_owner(&self, grant: &BlobGrant) -> Result<()> {
        let BlobKind::Snapshot(session) = &grant.key.kind else { return Ok(()) };
        self.check_there(&grant.key.environment, session).await?;
        let Some(claim) = &grant.run else { return Ok(()) };
        let out = ChannelKey::reserved(session.clone(), Direction::Out);
        let token = self.core.ports.channels.tail(&out).await?.fencing_token;
        let owner = Fence::of_token(&token);
        if (owner.version, owner.lease) == (claim.version, claim.lease) {
            return Ok(());
        }
        Err(Error::Fenced { fencing_token: token.as_str().to_owned() })
    }

    /// If the session of a snapshot is gone, so is what was just stored for it.
    async fn undo_if_deleted(&self, key: &BlobKey) -> Result<()> {
        let BlobKind::Snapshot(session) = &key.kind else { return Ok(()) };
        let there = self.check_there(&key.environment, session).await;
        if matches!(there, Err(Error::SessionNotFound)) {
            self.core.ports.blobs.delete_session(&key.environment, session).await?;
        }
        there
    }

    async fn check_there(&self, environment: &EnvironmentId, session: &SessionId) -> Result<()> {
        let row = self.core.ports.sessions.get(environment, &SessionRef::Id(session.clone())).await?;
        row.map(drop).ok_or(Error::SessionNotFound)
    }
}

/// A run carries payloads for its whole environment, since whoever triggered it chose their paths.
fn may_packet(caller: &Principal, action: Action, path: &PacketPath) -> bool {
    match &caller.credential {
        Credential::RunToken(_) => true,
        Credential::PublicToken { .. } | Credential::StreamToken(_) | Credential::WaitpointToken(_) => false,
        Credential::RootKey | Credential::AdditionalKey => {
            caller.may(action, &[Resource::one("packets", path.as_str()), Resource::all("packets")])
        }
    }
}

/// The body, as long as it keeps to the limit and, where its size was said, to its word.
fn measured(body: BlobBody, limit_bytes: u64, said_bytes: Option<u64>) -> BlobBody {
    stream::try_unfold((body, 0_u64), move |(mut body, so_far)| async move {
        let Some(chunk) = body.next().await.transpose()? else {
            return if said_bytes.is_none_or(|said| said == so_far) { Ok(None) } else { Err(another_size()) };
        };
        let so_far = so_far.saturating_add(chunk.len() as u64);
        if so_far > limit_bytes { Err(Error::BlobTooLarge { limit_bytes }) } else { Ok(Some((chunk, (body, so_far)))) }
    })
    .boxed()
}

fn another_size() -> Error {
    Violation::new("size_bytes", "is not how many bytes came").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::principal::{RunClaim, Scope};

    async fn sent(chunks: &[&'static str], limit_bytes: u64, said_bytes: Option<u64>) -> Result<usize> {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok(Bytes::from_static(c.as_bytes()))).collect();
        let mut body = measured(stream::iter(chunks).boxed(), limit_bytes, said_bytes);
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            bytes += chunk?.len();
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn a_body_keeps_to_its_limit_and_its_word() {
        assert_eq!(sent(&["ab", "cd"], 4, None).await.unwrap(), 4);
        assert_eq!(sent(&["ab", "cd"], 9, Some(4)).await.unwrap(), 4);
        assert_eq!(sent(&[], 0, Some(0)).await.unwrap(), 0);
        assert!(matches!(sent(&["ab", "cde"], 4, None).await, Err(Error::BlobTooLarge { limit_bytes: 4 })));
        for said in [3, 5] {
            assert!(matches!(sent(&["ab", "cd"], 9, Some(said)).await, Err(Error::InvalidArgument(_))), "{said}");
        }
    }

    #[test]
    fn packets_are_for_keys_and_runs() {
        let packet = PacketPath::parse("a/b").unwrap();
        let may = |credential, scopes: &[&str], action| {
            let scopes = scopes.iter().map(|s| Scope::parse(s).unwrap()).collect();
            let environment = EnvironmentId::from_body("e");
            may_packet(&Principal { environment, credential, scopes, expires_at: None }, action, &packet)
        };
        assert!(may(Credential::RootKey, &[], Action::Write));
        let run = RunClaim { run: RunId::from_body("r"), session: None, version: 1, lease: 1 };
        assert!(may(Credential::RunToken(run), &[], Action::Write));
        assert!(!may(Credential::PublicToken { session: None, one_time: None }, &["admin"], Action::Read));
        for (scope, read, write) in [
            ("admin", true, true),
            ("read:packets", true, false),
            ("write:packets:a/b", false, true),
            ("write:packets:a", false, false),
            ("read:sessions", false, false),
        ] {
            let found = [Action::Read, Action::Write].map(|action| may(Credential::AdditionalKey, &[scope], action));
            assert_eq!(found, [read, write], "{scope}");
        }
    }
}
