//! A snapshot of version 2, made to be read from its end.
//!
//! ```text
//! {"v":2,…}                                        head; not needed for a page
//! {"id":"m1","final":true,"message":{…}}           one line per message
//! {"ids":["m1"],"offsets":[57,102],…}              footer: where each line begins, and where the footer does
//! #tt2:0000000000000042                            trailer: 22 bytes with the end of line; bytes of the footer without its own
//! ```

use super::{Transcript, event_id, message_id, to_usize, window};
use continuo_domain::{Error, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

const TRAILER_PREFIX: &[u8] = b"#tt2:";
const TRAILER_BYTES: u64 = 22;

/// Where the footer is in a blob of this size with this end. `None` if it does not end as this form does.
pub(super) fn footer(end: &[u8], size: u64) -> Result<Option<Range<u64>>> {
    let Some(trailer) = end.last_chunk::<{ TRAILER_BYTES as usize }>() else { return Ok(None) };
    let Some(digits) = trailer.strip_prefix(TRAILER_PREFIX).and_then(|rest| rest.strip_suffix(b"\n")) else {
        return Ok(None);
    };
    let length =
        digits.iter().try_fold(0_u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')));
    let until = size.checked_sub(TRAILER_BYTES + 1);
    let range = length.and_then(|length| Some(until?.checked_sub(length)?..until?));
    range.map(Some).ok_or(Error::TranscriptUnreadable("the trailer of its snapshot is damaged"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Footer<'a> {
    #[serde(borrow)]
    ids: Vec<Id<'a>>,
    offsets: Vec<u64>,
    #[serde(borrow, default)]
    last_out_event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    last_in_event_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Id<'a>(#[serde(borrow)] Cow<'a, str>);

/// What to read for a page.
#[derive(Debug)]
pub(super) struct Plan {
    /// The lines.
    pub(super) bytes: Range<u64>,
    /// Bytes of each line, its end included.
    lengths: Vec<u64>,
    /// The page as far as the footer tells it.
    page: Transcript,
}

/// Which lines make the page. The footer begins at `footer_at`.
pub(super) fn plan(footer: &[u8], footer_at: u64, limit: u32, before: Option<&str>) -> Result<Plan> {
    let footer: Footer<'_> = serde_json::from_slice(footer).map_err(|_| damaged())?;
    let ends_meet = footer.offsets.len() == footer.ids.len() + 1 && footer.offsets.last() == Some(&footer_at);
    if !ends_meet || !footer.offsets.is_sorted_by(|a, b| a < b) {
        return Err(damaged());
    }
    let lengths: Vec<_> = footer.offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let shown = window(&lengths, limit, before.map(|asked| footer.ids.iter().position(|id| id.0 == asked)));
    let next_cursor = footer.ids.get(shown.start).filter(|_| shown.start > 0).map(|id| id.0.to_string());
    Ok(Plan {
        bytes: footer.offsets[shown.start]..footer.offsets[shown.end],
        lengths: lengths[shown].to_vec(),
        page: Transcript {
            messages: Vec::new(),
            last_out_event_id: footer.last_out_event_id.and_then(event_id),
            last_in_event_id: footer.last_in_event_id.and_then(event_id),
            next_cursor,
        },
    })
}

impl Plan {
    /// The page out of the bytes that were asked for.
    pub(super) fn page(mut self, mut window: &[u8]) -> Result<Transcript> {
        for length in self.lengths {
            let (line, rest) = window.split_at_checked(to_usize(length)).ok_or_else(damaged)?;
            self.page.messages.extend(message(line)?);
            window = rest;
        }
        Ok(self.page)
    }
}

/// The message of a line, if it can be shown.
fn message(line: &[u8]) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        message: &'a RawValue,
    }
    let line = line.strip_suffix(b"\n").ok_or_else(damaged)?;
    let entry: Entry<'_> = serde_json::from_slice(line).map_err(|_| damaged())?;
    Ok((message_id(entry.message) == Some(entry.id)).then(|| entry.message.get().to_owned()))
}

fn damaged() -> Error {
    Error::TranscriptUnreadable("the index of its snapshot does not fit")
}

#[cfg(test)]
mod tests;
