//! Snapshots and packets: a signed URL for who may, and the bytes for who holds one.
//!
//! A part of its own beside [`Core`], as administration is: nothing a session does needs a blob.

use crate::Core;
use continuo_domain::blob::{BlobGrant, BlobKey, BlobKind, BlobMethod, ContentType, PacketPath, URL_MS};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{Action, Credential, Principal, Resource};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result, Timestamp, Violation};
use continuo_ports::{Blob, BlobBody, BlobStore, UrlSigner};
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Snapshots read for transcripts at once; each may take [`continuo_domain::blob::SNAPSHOT_BYTES_MAX`] of memory.
const TRANSCRIPTS_AT_ONCE: usize = 2;

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) core: Core,
    pub(crate) store: Arc<dyn BlobStore>,
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
    /// Beside a core, on the ports it needs.
    pub fn new(core: Core, store: Arc<dyn BlobStore>, signer: Arc<dyn UrlSigner>) -> Self {
        Self { core, store, signer, transcripts: Arc::new(Semaphore::new(TRANSCRIPTS_AT_ONCE)) }
    }

    /// A URL that is good for one method on one blob.
    pub async fn presign(&self, caller: &Principal, method: BlobMethod, target: BlobTarget) -> Result<SignedUrl> {
        let action = match method {
            BlobMethod::Put => Action::Write,
            BlobMethod::Get => Action::Read,
        };
        let kind = match target {
            BlobTarget::Snapshot(asked) => BlobKind::Snapshot(self.core.session_for(caller, action, &asked).await?.id),
            BlobTarget::Packet(path) if may_packet(caller, action, &path) => BlobKind::Packet(path),
            BlobTarget::Packet(_) => return Err(Error::PermissionDenied),
        };
        let packet = match &kind {
            BlobKind::Snapshot(_) => None,
            BlobKind::Packet(path) => Some(path.clone()),
        };
        let expires_at = self.core.now().plus_ms(URL_MS);
        let key = BlobKey { environment: caller.environment.clone(), kind };
        let token = self.signer.sign(&BlobGrant { method, key, expires_at });
        Ok(SignedUrl { token, expires_at, packet })
    }

    /// The blob that the holder of a URL's token may put or get. Whoever comes with another credential that counts is known,
    /// and still not allowed.
    pub async fn granted(&self, bearer: &str, method: BlobMethod) -> Result<BlobKey> {
        if let Ok(grant) = self.signer.verify(bearer) {
            return grant.key_for(method);
        }
        match self.core.authenticate(bearer).await {
            Ok(_) => Err(Error::PermissionDenied),
            Err(Error::Unauthenticated(_)) => Err(Error::Unauthenticated(CredentialProblem::InvalidUrl)),
            Err(other) => Err(other),
        }
    }

    /// Stores a blob. Of a session that is deleted meanwhile nothing stays behind.
    pub async fn put(&self, key: BlobKey, upload: Upload) -> Result<()> {
        let limit_bytes = key.bytes_max();
        if upload.size_bytes.is_some_and(|size| size > limit_bytes) {
            return Err(Error::BlobTooLarge { limit_bytes });
        }
        self.check_owner(&key).await?;
        let body = measured(upload.body, limit_bytes, upload.size_bytes);
        tokio::select! {
            // A caller who sends slowly does not keep the node from stopping.
            () = self.core.stopping().cancelled() => return Err(Error::Stopping),
            stored = self.store.put(&key, &upload.content_type, body) => stored?,
        }
        self.check_owner(&key).await
    }

    /// The blob as it is now.
    pub async fn get(&self, key: &BlobKey) -> Result<Blob> {
        self.store.get(key).await?.ok_or(Error::BlobNotFound)
    }

    /// Deletes a session with everything it has, blobs included.
    pub async fn delete_session(&self, caller: &Principal, asked: &SessionRef) -> Result<()> {
        let session = self.core.session_for_key(caller, Action::Admin, asked).await?;
        // Before the row goes, so that a crash in between leaves a session that can be deleted again; and once more after it,
        // for an upload that was under way.
        self.store.delete_session(&session.tenant.environment, &session.id).await?;
        self.core.delete_session(caller, &SessionRef::Id(session.id.clone())).await?;
        self.store.delete_session(&session.tenant.environment, &session.id).await
    }

    /// The session of a snapshot must be there; if it is gone, so is what was just stored for it.
    async fn check_owner(&self, key: &BlobKey) -> Result<()> {
        let BlobKind::Snapshot(session) = &key.kind else { return Ok(()) };
        let asked = SessionRef::Id(session.clone());
        if self.core.ports.sessions.get(&key.environment, &asked).await?.is_some() {
            return Ok(());
        }
        self.store.delete_session(&key.environment, session).await?;
        Err(Error::SessionNotFound)
    }
}

/// A run carries payloads for its whole environment, since whoever triggered it chose their paths.
fn may_packet(caller: &Principal, action: Action, path: &PacketPath) -> bool {
    match &caller.credential {
        Credential::RunToken(_) => true,
        Credential::PublicToken { .. } | Credential::StreamToken(_) => false,
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
    use bytes::Bytes;
    use continuo_domain::principal::{RunClaim, Scope};
    use continuo_domain::{EnvironmentId, RunId};

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
            may_packet(&Principal { environment: EnvironmentId::from_body("e"), credential, scopes }, action, &packet)
        };
        assert!(may(Credential::RootKey, &[], Action::Write));
        let run = RunClaim { run: RunId::from_body("r"), session: None, version: 1, lease: 1 };
        assert!(may(Credential::RunToken(run), &[], Action::Write));
        assert!(!may(Credential::PublicToken { session: None }, &["admin"], Action::Read));
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
