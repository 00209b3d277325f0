//! A run's own token: `tr_run_` + base64url(payload) + `.` + base64url(MAC), opaque to everyone but us.
//!
//! Signed with a key of the server and not of the environment, so that rotating a root key kills no run, and read without
//! any look-up, because every append of a run carries one.
//!
//! Payload: version (1 byte), expires_at ms (i64), run version (u64), lease (u64), all big-endian; then environment, run
//! and session, each as a length byte and its text; an absent session has length 0.

use crate::MasterKey;
use crate::signed::{Signed, push_text, take_text};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::RunClaim;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp};

/// What every run token starts with.
pub const PREFIX: &str = "tr_run_";
const PAYLOAD_VERSION: u8 = 1;

/// Signs and reads run tokens.
#[derive(Clone, Debug)]
pub struct RunTokens(Signed);

impl RunTokens {
    /// With a key derived from the master key.
    pub fn new(master_key: &MasterKey) -> Self {
        Self(Signed::new(master_key, "continuo run token v1", PREFIX))
    }

    /// Signs.
    pub fn sign(&self, environment: &EnvironmentId, claim: &RunClaim, expires_at: Timestamp) -> String {
        self.0.seal(&encode(environment, claim, expires_at))
    }

    /// Checks and reads. Forged, cut and expired are one answer.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(EnvironmentId, RunClaim)> {
        let payload = self.0.open(token).ok_or_else(invalid)?;
        let (environment, claim, expires_at) = decode(&payload).ok_or_else(invalid)?;
        if now < expires_at { Ok((environment, claim)) } else { Err(invalid()) }
    }
}

fn encode(environment: &EnvironmentId, claim: &RunClaim, expires_at: Timestamp) -> Vec<u8> {
    let mut payload = vec![PAYLOAD_VERSION];
    payload.extend(expires_at.0.to_be_bytes());
    payload.extend(claim.version.to_be_bytes());
    payload.extend(claim.lease.to_be_bytes());
    let session = claim.session.as_ref().map_or("", SessionId::as_str);
    for id in [environment.as_str(), claim.run.as_str(), session] {
        push_text(&mut payload, id);
    }
    payload
}

fn decode(payload: &[u8]) -> Option<(EnvironmentId, RunClaim, Timestamp)> {
    let rest = payload.strip_prefix(&[PAYLOAD_VERSION])?;
    let (expires_at, rest) = rest.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (lease, rest) = rest.split_first_chunk()?;
    let (environment, rest) = take_text(rest)?;
    let (run, rest) = take_text(rest)?;
    let (session, rest) = take_text(rest)?;
    let session = if session.is_empty() { None } else { Some(SessionId::parse(session).ok()?) };
    let claim = RunClaim {
        run: RunId::parse(run).ok()?,
        session,
        version: u64::from_be_bytes(*version),
        lease: u64::from_be_bytes(*lease),
    };
    let expires_at = Timestamp(i64::from_be_bytes(*expires_at));
    rest.is_empty().then_some((EnvironmentId::parse(environment).ok()?, claim, expires_at))
}

fn invalid() -> Error {
    Error::Unauthenticated(CredentialProblem::InvalidRunToken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::assert_every_change_is_noticed;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn tokens(byte: u8) -> RunTokens {
        RunTokens::new(&MasterKey::from_base64(&STANDARD.encode([byte; 32])).unwrap())
    }

    fn claim(session: Option<SessionId>) -> RunClaim {
        RunClaim { run: RunId::from_body("r1"), session, version: 3, lease: u64::MAX }
    }

    fn environment() -> EnvironmentId {
        EnvironmentId::from_body("e1")
    }

    fn is_refused(token: &str, now: Timestamp) -> bool {
        matches!(tokens(1).verify(token, now), Err(Error::Unauthenticated(CredentialProblem::InvalidRunToken)))
    }

    #[test]
    fn what_was_signed_reads_back() {
        for session in [None, Some(SessionId::from_body("s1"))] {
            let token = tokens(1).sign(&environment(), &claim(session.clone()), NOW.plus_ms(1));
            assert_eq!(tokens(1).verify(&token, NOW).unwrap(), (environment(), claim(session)));
        }
    }

    #[test]
    fn a_token_ends_on_the_millisecond() {
        let token = tokens(1).sign(&environment(), &claim(None), NOW);
        assert!(tokens(1).verify(&token, Timestamp(NOW.0 - 1)).is_ok());
        assert!(is_refused(&token, NOW));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let token = tokens(1).sign(&environment(), &claim(None), NOW.plus_ms(1_000));
        assert_every_change_is_noticed(&token, |changed| is_refused(changed, NOW));
    }

    #[test]
    fn another_servers_token_is_refused() {
        assert!(is_refused(&tokens(2).sign(&environment(), &claim(None), NOW.plus_ms(1_000)), NOW));
    }

    #[test]
    fn a_payload_is_read_whole_or_not_at_all() {
        let payload = encode(&environment(), &claim(Some(SessionId::from_body("s1"))), NOW);
        assert!(decode(&payload).is_some());
        for length in 0..payload.len() {
            assert!(decode(&payload[..length]).is_none(), "cut to {length}");
        }
        assert!(decode(&[&payload[..], &[0]].concat()).is_none());
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
