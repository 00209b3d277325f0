//! The credential of one channel: `tr_stream_` + base64url(payload) + `.` + base64url(MAC), opaque to everyone but us.
//!
//! Signed with a key of the server that signs nothing else, and read without any look-up: every direct write carries one.
//!
//! Payload: version (1 byte), writer (1 byte: 0 key, 1 run, 2 holder of a public token), issued_at and expires_at ms (i64);
//! for a run its version and lease (u64); all big-endian. Then, each as a length byte and its text: environment, session,
//! channel name (length 0 for the reserved pair), direction, and for a run its id.

use crate::MasterKey;
use crate::signed::{Signed, push_text, take_text};
use continuo_domain::channel::{ChannelKey, ChannelName, Direction};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::{RunClaim, StreamClaim, StreamWriter};
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp};

/// What every stream token starts with.
pub const PREFIX: &str = "tr_stream_";
const PAYLOAD_VERSION: u8 = 1;
const KEY: u8 = 0;
const RUN: u8 = 1;
const PUBLIC: u8 = 2;

/// What a stream token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamToken {
    /// Whose.
    pub environment: EnvironmentId,
    /// For what.
    pub claim: StreamClaim,
    /// Since when; a revocation refuses older ones.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Signs and reads stream tokens.
#[derive(Clone, Debug)]
pub struct StreamTokens(Signed);

impl StreamTokens {
    /// With a key derived from the master key.
    pub fn new(master_key: &MasterKey) -> Self {
        Self(Signed::new(master_key, "continuo stream token v1", PREFIX))
    }

    /// Signs.
    pub fn sign(&self, token: &StreamToken) -> String {
        self.0.seal(&encode(token))
    }

    /// Checks and reads. Forged, cut and expired are one answer.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<StreamToken> {
        let token = self.0.open(token).and_then(|payload| decode(&payload));
        let live = token.filter(|token| now < token.expires_at);
        live.ok_or(Error::Unauthenticated(CredentialProblem::InvalidStreamToken))
    }
}

fn encode(token: &StreamToken) -> Vec<u8> {
    let StreamClaim { channel, writer } = &token.claim;
    let kind = match writer {
        StreamWriter::Key => KEY,
        StreamWriter::Run(_) => RUN,
        StreamWriter::Public => PUBLIC,
    };
    let mut payload = vec![PAYLOAD_VERSION, kind];
    payload.extend(token.issued_at.0.to_be_bytes());
    payload.extend(token.expires_at.0.to_be_bytes());
    if let StreamWriter::Run(run) = writer {
        payload.extend(run.version.to_be_bytes());
        payload.extend(run.lease.to_be_bytes());
    }
    let name = channel.name.as_ref().map_or("", ChannelName::as_str);
    for text in [token.environment.as_str(), channel.session.as_str(), name, channel.direction.as_str()] {
        push_text(&mut payload, text);
    }
    if let StreamWriter::Run(run) = writer {
        push_text(&mut payload, run.run.as_str());
    }
    payload
}

fn decode(payload: &[u8]) -> Option<StreamToken> {
    let (&kind, rest) = payload.strip_prefix(&[PAYLOAD_VERSION])?.split_first()?;
    let (issued_at, rest) = take_number(rest)?;
    let (expires_at, rest) = take_number(rest)?;
    let (numbers, rest) = if kind == RUN { take_numbers(rest)? } else { ((0, 0), rest) };
    let (environment, rest) = take_text(rest)?;
    let (session, rest) = take_text(rest)?;
    let (name, rest) = take_text(rest)?;
    let (direction, rest) = take_text(rest)?;
    let session = SessionId::parse(session).ok()?;
    let (writer, rest) = match kind {
        KEY => (StreamWriter::Key, rest),
        PUBLIC => (StreamWriter::Public, rest),
        RUN => {
            let (run, rest) = take_text(rest)?;
            let (version, lease) = numbers;
            let run = RunId::parse(run).ok()?;
            (StreamWriter::Run(RunClaim { run, session: Some(session.clone()), version, lease }), rest)
        }
        _ => return None,
    };
    let name = if name.is_empty() { None } else { Some(ChannelName::parse(name).ok()?) };
    let direction = [Direction::In, Direction::Out].into_iter().find(|d| d.as_str() == direction)?;
    let token = StreamToken {
        environment: EnvironmentId::parse(environment).ok()?,
        claim: StreamClaim { channel: ChannelKey { session, name, direction }, writer },
        issued_at: Timestamp(issued_at as i64),
        expires_at: Timestamp(expires_at as i64),
    };
    rest.is_empty().then_some(token)
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn take_numbers(bytes: &[u8]) -> Option<((u64, u64), &[u8])> {
    let (first, rest) = take_number(bytes)?;
    let (second, rest) = take_number(rest)?;
    Some(((first, second), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::assert_every_change_is_noticed;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn tokens(byte: u8) -> StreamTokens {
        StreamTokens::new(&MasterKey::from_base64(&STANDARD.encode([byte; 32])).unwrap())
    }

    fn all() -> Vec<StreamToken> {
        let session = SessionId::from_body("s1");
        let run = RunClaim { run: RunId::from_body("r1"), session: Some(session.clone()), version: 3, lease: u64::MAX };
        let names = [None, ChannelName::parse(&"n".repeat(128)).ok()];
        let writers = [StreamWriter::Key, StreamWriter::Run(run), StreamWriter::Public];
        let mut all = Vec::new();
        for (name, direction) in names.into_iter().zip([Direction::Out, Direction::In]) {
            for writer in writers.clone() {
                let channel = ChannelKey { session: session.clone(), name: name.clone(), direction };
                let claim = StreamClaim { channel, writer };
                let environment = EnvironmentId::from_body("e1");
                all.push(StreamToken { environment, claim, issued_at: NOW, expires_at: NOW.plus_ms(1) });
            }
        }
        all
    }

    fn is_refused(token: &str, now: Timestamp) -> bool {
        matches!(tokens(1).verify(token, now), Err(Error::Unauthenticated(CredentialProblem::InvalidStreamToken)))
    }

    #[test]
    fn what_was_signed_reads_back_until_it_ends() {
        for token in all() {
            let signed = tokens(1).sign(&token);
            assert!(signed.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)), "{signed}");
            assert_eq!(tokens(1).verify(&signed, NOW).unwrap(), token);
            assert!(is_refused(&signed, NOW.plus_ms(1)));
            assert!(is_refused(&tokens(2).sign(&token), NOW));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let signed = tokens(1).sign(&all()[1]);
        assert_every_change_is_noticed(&signed, |changed| is_refused(changed, NOW));
    }

    #[test]
    fn a_payload_is_read_whole_or_not_at_all() {
        for token in all() {
            let payload = encode(&token);
            for length in 0..payload.len() {
                assert!(decode(&payload[..length]).is_none(), "cut to {length}");
            }
            assert!(decode(&[&payload[..], &[0]].concat()).is_none());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(payload: Vec<u8>, text: String) {
            let _ = decode(&payload);
            let token = format!("{PREFIX}{text}");
            prop_assert!(is_refused(&token, NOW));
        }
    }
}
