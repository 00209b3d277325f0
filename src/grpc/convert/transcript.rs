//! Transcripts.

use super::session;
use continuo_domain::{Result, Violation};
use continuo_proto::v1;
use continuo_usecases::{GetTranscript, TRANSCRIPT_LIMIT_DEFAULT, TRANSCRIPT_LIMIT_MAX, Transcript};

/// Reads which page is asked for.
pub(crate) fn parse(wire: v1::GetTranscriptRequest) -> Result<GetTranscript> {
    let session = session::parse_ref("session", &wire.session)?;
    let limit = match wire.limit {
        None => TRANSCRIPT_LIMIT_DEFAULT,
        Some(limit) => u32::try_from(limit).unwrap_or_default(),
    };
    if !(1..=TRANSCRIPT_LIMIT_MAX).contains(&limit) {
        return Err(Violation::new("limit", "must be 1 to 1000").into());
    }
    Ok(GetTranscript { session, limit, before: wire.before })
}

/// Prints a page.
pub(crate) fn print(page: Transcript) -> v1::GetTranscriptResponse {
    v1::GetTranscriptResponse {
        messages_json: page.messages,
        last_out_event_id: page.last_out_event_id,
        last_in_event_id: page.last_in_event_id,
        next_cursor: page.next_cursor,
    }
}
