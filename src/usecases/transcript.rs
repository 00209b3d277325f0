//! Read the conversation out of a session's snapshot. The one place that looks into a blob, and only to cut it in pages:
//! every message leaves as the text it came in.
//!
//! Two forms are read. [`document`] is one JSON object and must be read whole; [`lines`] ends with an index, of which a page
//! needs the end of the blob and the lines the index points to, whatever its size. Both are as the Trigger.dev SDK writes them, and
//! what it would not show is not shown: an entry whose message is no object with a matching, non-empty `id`.

mod document;
mod lines;

use crate::Blobs;
use crate::access::is_secret_for;
use bytes::Bytes;
use continuo_domain::blob::{BlobKey, BlobKind};
use continuo_domain::error::Cause;
use continuo_domain::principal::{Action, Principal};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result};
use continuo_ports::HeldBlob;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;
use tokio::sync::SemaphorePermit;

/// Most messages of a page.
pub const TRANSCRIPT_LIMIT_MAX: u32 = 1_000;
/// Messages of a page that does not say.
pub const TRANSCRIPT_LIMIT_DEFAULT: u32 = 100;
/// Most bytes of a page, so that it fits into a message every client takes; one message alone may be more.
const PAGE_BYTES_MAX: u64 = 3 << 20;
/// The end of a blob that is looked at first: a trailer, and the index of most conversations.
const END_BYTES: u64 = 64 << 10;
/// How often a snapshot may be replaced under a reader.
const ROUNDS_MAX: u32 = 3;
/// What all transcripts that are read at once may hold of their snapshots.
pub(crate) const TRANSCRIPT_MIB_AT_ONCE: usize = 128;

/// Which page of whose conversation.
#[derive(Clone, Debug)]
pub struct GetTranscript {
    /// Whose.
    pub session: SessionRef,
    /// 1 to [`TRANSCRIPT_LIMIT_MAX`].
    pub limit: u32,
    /// Only messages before the one with this id. None, if no message has it any longer.
    pub before: Option<String>,
}

/// A page, in the order of the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Each as it was stored.
    pub messages: Vec<String>,
    /// How far `.out` was written.
    pub last_out_event_id: Option<String>,
    /// How far `.in` was read.
    pub last_in_event_id: Option<String>,
    /// The id of the first message, if there are older ones.
    pub next_cursor: Option<String>,
}

impl Blobs {
    /// A page of the conversation, the newest messages before `before`. Empty if no snapshot was stored.
    pub async fn transcript(&self, caller: &Principal, get: GetTranscript) -> Result<Transcript> {
        if !caller.has_secret_key() && caller.run().is_none() {
            return Err(Error::PermissionDenied);
        }
        let session = self.core.session_for(caller, Action::Read, &get.session).await?;
        if !is_secret_for(caller, Some(&session)) {
            return Err(Error::PermissionDenied);
        }
        let key = BlobKey { environment: session.tenant.environment, kind: BlobKind::Snapshot(session.id) };
        for _ in 0..ROUNDS_MAX {
            let Some(held) = self.core.ports.blobs.hold(&key).await? else { return Ok(Transcript::default()) };
            if let Some(page) = self.page(&*held, get.limit, get.before.clone()).await? {
                return Ok(page);
            }
        }
        Err(Error::Unavailable(Cause::new("a snapshot was replaced again and again while it was read")))
    }

    /// `None` if the snapshot was replaced meanwhile.
    async fn page(&self, held: &dyn HeldBlob, limit: u32, before: Option<String>) -> Result<Option<Transcript>> {
        let size = held.size_bytes();
        let end_at = size.saturating_sub(END_BYTES);
        let Some(end) = held.read(end_at..size).await? else { return Ok(None) };
        let Some(footer) = lines::footer(&end, size)? else {
            let _room = self.room(size).await?;
            let Some(whole) = held.read(0..size).await? else { return Ok(None) };
            return apart(move || document::page(&whole, limit, before.as_deref())).await.map(Some);
        };
        let Some(plan) = self.plan(held, footer, (end_at, end), limit, before).await? else { return Ok(None) };
        let _room = self.room(plan.bytes.end - plan.bytes.start).await?;
        let Some(window) = held.read(plan.bytes.clone()).await? else { return Ok(None) };
        apart(move || plan.page(&window)).await.map(Some)
    }

    async fn plan(
        &self,
        held: &dyn HeldBlob,
        footer: Range<u64>,
        (end_at, end): (u64, Bytes),
        limit: u32,
        before: Option<String>,
    ) -> Result<Option<lines::Plan>> {
        let _room = self.room(footer.end - footer.start).await?;
        let text = match footer.start.checked_sub(end_at) {
            Some(from) => end.slice(to_usize(from)..to_usize(footer.end - end_at)),
            None => match held.read(footer.clone()).await? {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        apart(move || lines::plan(&text, footer.start, limit, before.as_deref())).await.map(Some)
    }

    async fn room(&self, bytes: u64) -> Result<SemaphorePermit<'_>> {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).min(TRANSCRIPT_MIB_AT_ONCE as u32);
        self.transcripts.acquire_many(mib).await.map_err(|_| Error::Stopping)
    }
}

/// Tens of milliseconds for the largest snapshot: too long for a thread that others wait for.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What may be shown of what is there: the last `limit` before `before`, as far as the bytes go, and never none while there
/// are some. `lengths` has one item per message. Of an id that is there twice the first counts: so a walk back always ends.
fn window(lengths: &[u64], limit: u32, before: Option<Option<usize>>) -> Range<usize> {
    let end = match before {
        None => lengths.len(),
        Some(Some(position)) => position,
        Some(None) => 0,
    };
    let mut bytes: u64 = 0;
    let fits = lengths[..end].iter().rev().take(limit as usize).take_while(|length| {
        let is_first = bytes == 0;
        bytes = bytes.saturating_add(**length);
        is_first || bytes <= PAGE_BYTES_MAX
    });
    end - fits.count()..end
}

/// The id of a message that can be shown.
fn message_id(message: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    // A list would do for such a struct as well.
    let message = message.get().starts_with('{').then(|| serde_json::from_str::<Message<'_>>(message.get()).ok())??;
    (!message.id.is_empty()).then_some(message.id)
}

/// The content of a string, the text of a number.
fn event_id(raw: &RawValue) -> Option<String> {
    match raw.get() {
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => Some(text.to_owned()),
        _ => None,
    }
}
