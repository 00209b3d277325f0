//! Read the conversation out of a session's snapshot. The one place that looks into a blob, and only to cut it in pages:
//! every message leaves as the text it came in.

use crate::Blobs;
use crate::access::is_secret_for;
use continuo_domain::blob::{BlobKey, BlobKind};
use continuo_domain::error::Violation;
use continuo_domain::principal::{Action, Principal};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, Result};
use continuo_ports::Blob;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Most messages of a page.
pub const TRANSCRIPT_LIMIT_MAX: u32 = 1_000;
/// Messages of a page that does not say.
pub const TRANSCRIPT_LIMIT_DEFAULT: u32 = 100;
/// Most bytes of a page, so that it fits into a message every client takes; one message alone may be more.
const PAGE_BYTES_MAX: usize = 3 << 20;
/// The one form of a snapshot that is read.
const SNAPSHOT_VERSION: u32 = 1;

/// Which page of whose conversation.
#[derive(Clone, Debug)]
pub struct GetTranscript {
    /// Whose.
    pub session: SessionRef,
    /// 1 to [`TRANSCRIPT_LIMIT_MAX`].
    pub limit: u32,
    /// Only messages before the one with this id.
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
        let Ok(_place) = self.transcripts.acquire().await else { return Err(Error::Stopping) };
        let Some(blob) = self.store.get(&key).await? else { return Ok(Transcript::default()) };
        let snapshot = whole(blob).await?;
        // Tens of milliseconds for the largest snapshot: too long for a thread that others wait for.
        let page = move || page(&snapshot, get.limit, get.before.as_deref());
        tokio::task::spawn_blocking(page).await.map_err(Error::internal)?
    }
}

async fn whole(mut blob: Blob) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(blob.size_bytes).unwrap_or_default());
    while let Some(chunk) = blob.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a> {
    version: u32,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    last_out_event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    last_in_event_id: Option<&'a RawValue>,
}

fn page(snapshot: &[u8], limit: u32, before: Option<&str>) -> Result<Transcript> {
    let snapshot: Snapshot<'_> =
        serde_json::from_slice(snapshot).map_err(|_| Error::TranscriptUnreadable("its snapshot has another form"))?;
    if snapshot.version != SNAPSHOT_VERSION {
        return Err(Error::TranscriptUnreadable("its snapshot has another version"));
    }
    let end = match before {
        None => snapshot.messages.len(),
        Some(id) => position(&snapshot.messages, id)?,
    };
    let start = start_of_page(&snapshot.messages[..end], limit);
    let page = &snapshot.messages[start..end];
    Ok(Transcript {
        messages: page.iter().map(|message| message.get().to_owned()).collect(),
        last_out_event_id: snapshot.last_out_event_id.and_then(event_id),
        last_in_event_id: snapshot.last_in_event_id.and_then(event_id),
        next_cursor: if start == 0 { None } else { Some(cursor(page)?) },
    })
}

/// Where the message with this id stands. The first one, should an id be there twice: so a walk back always ends.
fn position(messages: &[&RawValue], id: &str) -> Result<usize> {
    let found = messages.iter().position(|message| message_id(message).as_deref() == Some(id));
    found.ok_or_else(|| Violation::new("before", "names no message").into())
}

/// The page is the end of what is there, and never empty while something is there.
fn start_of_page(messages: &[&RawValue], limit: u32) -> usize {
    let mut bytes = 0;
    let fits = messages.iter().rev().take(limit as usize).take_while(|message| {
        let is_first = bytes == 0;
        bytes += message.get().len();
        is_first || bytes <= PAGE_BYTES_MAX
    });
    messages.len() - fits.count()
}

/// A page that cannot be gone on from would hide what is older.
fn cursor(page: &[&RawValue]) -> Result<String> {
    let id = page.first().and_then(|message| message_id(message));
    id.map(Cow::into_owned).ok_or(Error::TranscriptUnreadable("a message has no id"))
}

fn message_id(message: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    serde_json::from_str::<Message<'_>>(message.get()).ok().map(|message| message.id)
}

/// The content of a string, the text of a number.
fn event_id(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(messages: &[&str]) -> Vec<u8> {
        let messages = messages.join(" ,\n");
        format!(r#"{{"version":1,"savedAt":5,"messages":[{messages}],"lastOutEventId":"7","lastInEventId":3}}"#).into()
    }

    fn ids(page: &Transcript) -> Vec<String> {
        page.messages.iter().map(|m| message_id(&RawValue::from_string(m.clone()).unwrap()).unwrap().into()).collect()
    }

    fn numbered(count: usize) -> Vec<u8> {
        let messages: Vec<String> = (0..count).map(|i| format!(r#"{{"id":"m{i}","n":{i}.0}}"#)).collect();
        snapshot(&messages.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn pages_walk_back_to_the_beginning() {
        let bytes = numbered(5);
        let newest = page(&bytes, 2, None).unwrap();
        assert_eq!(newest.messages, [r#"{"id":"m3","n":3.0}"#, r#"{"id":"m4","n":4.0}"#], "verbatim");
        assert_eq!((newest.last_out_event_id.as_deref(), newest.last_in_event_id.as_deref()), (Some("7"), Some("3")));
        assert_eq!(newest.next_cursor.as_deref(), Some("m3"));
        let middle = page(&bytes, 2, newest.next_cursor.as_deref()).unwrap();
        assert_eq!((ids(&middle), middle.next_cursor.as_deref()), (vec!["m1".into(), "m2".into()], Some("m1")));
        let oldest = page(&bytes, 2, middle.next_cursor.as_deref()).unwrap();
        assert_eq!((ids(&oldest), oldest.next_cursor), (vec!["m0".into()], None));
        assert_eq!(page(&bytes, 5, None).unwrap().next_cursor, None, "all of it");
        assert!(page(&bytes, 5, Some("m0")).unwrap().messages.is_empty());
        assert!(page(&snapshot(&[]), 5, None).unwrap().messages.is_empty());
    }

    #[test]
    fn a_cursor_that_names_nothing_is_refused() {
        assert!(matches!(page(&numbered(3), 2, Some("m9")), Err(Error::InvalidArgument(v)) if v[0].field == "before"));
    }

    #[test]
    fn a_page_ends_at_its_size_and_is_never_empty() {
        let large = |id: &str| format!(r#"{{"id":"{id}","text":"{}"}}"#, "x".repeat(2 << 20));
        let (a, b, huge) = (large("a"), large("b"), format!(r#"{{"id":"h","t":"{}"}}"#, "x".repeat(4 << 20)));
        let bytes = snapshot(&[&a, &b, &huge]);
        let mut before = None;
        for expected in ["h", "b", "a"] {
            let page = page(&bytes, 100, before.as_deref()).unwrap();
            assert_eq!(ids(&page), [expected]);
            before = page.next_cursor;
        }
        assert_eq!(before, None);
    }

    #[test]
    fn repeated_ids_do_not_loop() {
        let bytes = snapshot(&[r#"{"id":"x"}"#, r#"{"id":"a"}"#, r#"{"id":"a"}"#]);
        assert_eq!(page(&bytes, 1, None).unwrap().next_cursor.as_deref(), Some("a"));
        let before_both = page(&bytes, 1, Some("a")).unwrap();
        assert_eq!((ids(&before_both), before_both.next_cursor), (vec!["x".into()], None));
    }

    #[test]
    fn odd_messages_are_messages() {
        let bytes = snapshot(&["1", "null", r#"{"id":5}"#, r#"{"ID":"x"}"#, r#"{"id":"\u0061","\ud800":1}"#]);
        assert_eq!(page(&bytes, 5, None).unwrap().messages.len(), 5);
        assert!(matches!(page(&bytes, 2, None), Err(Error::TranscriptUnreadable(_))), "no cursor to go on with");
    }

    #[test]
    fn what_is_no_snapshot_is_unreadable() {
        for bad in
            ["", "x", "[]", "{}", r#"{"version":2,"messages":[]}"#, r#"{"version":1,"messages":{}}"#, "{\"v\":2}\n{}"]
        {
            assert!(matches!(page(bad.as_bytes(), 1, None), Err(Error::TranscriptUnreadable(_))), "{bad}");
        }
    }
}
