//! Every path, once, and the reading of its parameters.
//!
//! The raw path is split on `/` first and each segment decoded afterwards: an external id may itself hold `/`, `:`, spaces
//! or any other character, and arrives percent-encoded in one segment.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, MatchedPath};
use continuo_proto::v1::{ChannelRef, Direction};
use http::request::Parts;

use crate::{
    error::Failure,
    validate::{Issue, Step, unexpected},
};

pub(crate) const SESSIONS: &str = "/api/v1/sessions";
pub(crate) const SESSION: &str = "/api/v1/sessions/{session}";
pub(crate) const SESSION_CLOSE: &str = "/api/v1/sessions/{session}/close";
pub(crate) const SESSION_END_AND_CONTINUE: &str = "/api/v1/sessions/{session}/end-and-continue";
pub(crate) const SESSION_RUNS: &str = "/api/v1/sessions/{session}/runs";
pub(crate) const SESSION_SNAPSHOT_URL: &str = "/api/v1/sessions/{session}/snapshot-url";
pub(crate) const SESSION_TRANSCRIPT: &str = "/api/v1/sessions/{session}/transcript";

/// The reserved pair and the named ones have the same four routes.
pub(crate) const CHANNELS: [&str; 2] =
    ["/realtime/v1/sessions/{session}/{io}", "/realtime/v1/sessions/{session}/channels/{channel}/{io}"];
pub(crate) const APPENDS: [&str; 2] =
    ["/realtime/v1/sessions/{session}/{io}/append", "/realtime/v1/sessions/{session}/channels/{channel}/{io}/append"];
pub(crate) const RECORDS: [&str; 2] =
    ["/realtime/v1/sessions/{session}/{io}/records", "/realtime/v1/sessions/{session}/channels/{channel}/{io}/records"];

pub(crate) const RUNS: &str = "/api/v1/runs";
pub(crate) const RUN: &str = "/api/v3/runs/{run}";
pub(crate) const RUN_CANCEL: &str = "/api/v2/runs/{run}/cancel";
pub(crate) const RUN_RESCHEDULE: &str = "/api/v1/runs/{run}/reschedule";
pub(crate) const RUN_REPLAY: &str = "/api/v1/runs/{run}/replay";
pub(crate) const RUN_METADATA: &str = "/api/v1/runs/{run}/metadata";
pub(crate) const RUN_TAGS: &str = "/api/v1/runs/{run}/tags";
pub(crate) const RUN_PACKET: &str = "/api/v1/runs/{run}/packets/{field}";
pub(crate) const RUN_WAIT_CHANNEL: &str = "/api/v1/runs/{run}/session-streams/wait";
pub(crate) const RUN_WAIT_TOKEN: &str = "/engine/v1/runs/{run}/waitpoints/tokens/{waitpoint}/wait";
pub(crate) const RUN_WAIT_DURATION: &str = "/engine/v1/runs/{run}/wait/duration";
pub(crate) const TASK_TRIGGER: &str = "/api/v1/tasks/{task}/trigger";

pub(crate) const WAITPOINTS: &str = "/api/v1/waitpoints/tokens";
pub(crate) const WAITPOINT: &str = "/api/v1/waitpoints/tokens/{waitpoint}";
pub(crate) const WAITPOINT_COMPLETE: &str = "/api/v1/waitpoints/tokens/{waitpoint}/complete";
/// Where whoever was given a waitpoint's URL completes it; the token in it is the only credential.
pub(crate) const WAITPOINT_CALLBACK: &str = "/api/v1/waitpoints/tokens/{waitpoint}/callback/{token}";

/// A packet's path may itself hold slashes. The two versions are what today's clients ask for.
pub(crate) const PACKET_PUT: &str = "/api/v2/packets/{*packet}";
pub(crate) const PACKET_GET: &str = "/api/v1/packets/{*packet}";
/// Below [`continuo_proto::BLOBS_PATH`].
pub(crate) const BLOB: &str = "/blobs/{token}";

/// The stream API. A stream's name is one segment, its slashes encoded.
pub(crate) const STREAMS: &str = "/v1";
pub(crate) const STREAM_RECORDS: &str = "/v1/streams/{stream}/records";
pub(crate) const STREAM_TAIL: &str = "/v1/streams/{stream}/records/tail";
pub(crate) const STREAMS_REST: &str = "/v1/{*rest}";

pub(crate) const CLAIMS: &str = "/api/v1/auth/jwt/claims";
pub(crate) const PUBLIC_TOKENS: &str = "/api/v1/auth/public-tokens";

/// With a personal access token.
pub(crate) const WHOAMI: &str = "/api/v2/whoami";
pub(crate) const PROJECT_TOKENS: &str = "/api/v1/projects/{project}/{environment}/jwt";

/// What all of this is, for whoever asks.
pub(crate) const OPENAPI: &str = "/openapi.json";

/// The parameters of the matched path, still encoded: they are decoded only after authentication and the size check.
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pattern = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        Ok(Self::of(pattern, parts.uri.path()))
    }
}

impl Params {
    fn of(pattern: &str, path: &str) -> Self {
        let name = |segment: &str| Some(segment.strip_prefix('{')?.strip_suffix('}')?.to_owned());
        if let Some((head, rest)) = pattern.split_once("{*") {
            // The wildcard is last, and takes what is left with its slashes.
            let skipped: usize = path.split('/').take(head.matches('/').count()).map(|segment| segment.len() + 1).sum();
            return Self(vec![(rest.trim_end_matches('}').to_owned(), path.get(skipped..).unwrap_or("").to_owned())]);
        }
        let pairs = pattern.split('/').zip(path.split('/'));
        Self(pairs.filter_map(|(segment, value)| Some((name(segment)?, value.to_owned()))).collect())
    }

    /// The decoded value of a parameter.
    pub(crate) fn get(&self, name: &'static str) -> Result<String, Failure> {
        self.decoded(name)
            .map_err(|problem| Failure::params(vec![Issue::new("custom", vec![Step::key(name)], problem)]))
    }

    /// The decoded value of a parameter, or what is wrong with how it is written.
    pub(crate) fn decoded(&self, name: &str) -> Result<String, &'static str> {
        decode(self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str()))
    }

    /// The session, as its id or as the caller's own name for it.
    pub(crate) fn session(&self) -> Result<String, Failure> {
        self.get("session")
    }

    /// The channel.
    pub(crate) fn channel(&self) -> Result<ChannelRef, Failure> {
        let session = self.session()?;
        let name = self.channel_name()?;
        let direction = match self.get("io")?.as_str() {
            "in" => Direction::In,
            "out" => Direction::Out,
            other => {
                let message = unexpected("'in' | 'out'", other);
                return Err(Failure::params(vec![Issue::new("invalid_enum_value", vec![Step::key("io")], message)]));
            }
        };
        Ok(ChannelRef { session, name, direction: direction.into() })
    }

    /// Empty for the reserved pair. A segment that is there and empty must not be taken for it.
    fn channel_name(&self) -> Result<String, Failure> {
        if !self.0.iter().any(|(n, _)| n == "channel") {
            return Ok(String::new());
        }
        let name = self.get("channel")?;
        if name.is_empty() {
            return Err(Failure::params(vec![Issue::new("too_small", vec![Step::key("channel")], "is empty")]));
        }
        Ok(name)
    }
}

/// Percent-decodes one segment. Malformed escapes are refused rather than passed on, as `decodeURIComponent` does.
fn decode(raw: &str) -> Result<String, &'static str> {
    let bytes = raw.as_bytes();
    let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(i, b)| *b == b'%' && !(hex(i + 1) && hex(i + 2))) {
        return Err("Malformed percent-encoding");
    }
    let text = percent_encoding::percent_decode(bytes).decode_utf8().map_err(|_| "Not valid UTF-8")?;
    if text.contains('\0') { Err("NUL is not allowed") } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_survives_the_path(name in "[^\0]{1,300}") {
            let path = format!("/realtime/v1/sessions/{}/in/append", utf8_percent_encode(&name, NON_ALPHANUMERIC));
            let params = Params::of(APPENDS[0], &path);
            prop_assert_eq!(params.session().ok(), Some(name));
            prop_assert_eq!(params.channel().ok().map(|c| c.direction), Some(Direction::In.into()));
        }

        #[test]
        fn decoding_never_panics(raw in "[%0-9a-fA-F\\PC]{0,60}") {
            let _ = decode(&raw);
        }
    }

    #[test]
    fn a_packet_keeps_its_slashes() {
        let packet = |path: &str| Params::of(PACKET_PUT, path).get("packet").ok();
        assert_eq!(packet("/api/v2/packets/run_1/a%2Fb/c%20d").as_deref(), Some("run_1/a/b/c d"));
        assert_eq!(packet("/api/v2/packets//a/").as_deref(), Some("/a/"));
        assert_eq!(packet("/api/v2/packets/a%zz"), None);
    }

    #[test]
    fn blobs_are_where_their_urls_say() {
        assert_eq!(BLOB, format!("{}{{token}}", continuo_proto::BLOBS_PATH));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        assert!(decode("%").is_err() && decode("%2").is_err() && decode("%zz").is_err());
        assert!(decode("%ff").is_err() && decode("a%00b").is_err());
        assert_eq!(decode("a%2Fb%25").as_deref(), Ok("a/b%"));
        assert_eq!(decode("+").as_deref(), Ok("+"));
    }
}
