//! The token in a waitpoint's URL: `tr_wait_` + base64url(payload) + `.` + base64url(MAC), opaque to everyone but us. It has no
//! end of its own: it completes one waitpoint, once, and whoever was given the URL may come after days.
//!
//! Payload: version (1 byte), then environment and waitpoint as texts.

use crate::MasterKey;
use crate::signed::{Signed, push_text, take_text};
use continuo_domain::error::CredentialProblem;
use continuo_domain::{EnvironmentId, Error, Result, WaitpointId};

/// What every such token starts with.
pub const PREFIX: &str = "tr_wait_";
const PAYLOAD_VERSION: u8 = 1;

/// Signs and reads the tokens of waitpoints.
#[derive(Clone, Debug)]
pub struct WaitpointTokens(Signed);

impl WaitpointTokens {
    /// With a key derived from the master key.
    pub fn new(master_key: &MasterKey) -> Self {
        Self(Signed::new(master_key, "continuo waitpoint token v1", PREFIX))
    }

    /// Signs.
    pub fn sign(&self, environment: &EnvironmentId, waitpoint: &WaitpointId) -> String {
        let mut payload = vec![PAYLOAD_VERSION];
        push_text(&mut payload, environment.as_str());
        push_text(&mut payload, waitpoint.as_str());
        self.0.seal(&payload)
    }

    /// Checks and reads.
    pub fn verify(&self, token: &str) -> Result<(EnvironmentId, WaitpointId)> {
        let read = self.0.open(token).and_then(|payload| decode(&payload));
        read.ok_or(Error::Unauthenticated(CredentialProblem::InvalidWaitpointToken))
    }
}

fn decode(payload: &[u8]) -> Option<(EnvironmentId, WaitpointId)> {
    let (environment, rest) = take_text(payload.strip_prefix(&[PAYLOAD_VERSION])?)?;
    let (waitpoint, rest) = take_text(rest)?;
    let ids = (EnvironmentId::parse(environment).ok()?, WaitpointId::parse(waitpoint).ok()?);
    rest.is_empty().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    fn tokens(byte: u8) -> WaitpointTokens {
        WaitpointTokens::new(&MasterKey::from_base64(&STANDARD.encode([byte; 32])).unwrap())
    }

    fn ids() -> (EnvironmentId, WaitpointId) {
        (EnvironmentId::from_body("e"), WaitpointId::from_body("w"))
    }

    #[test]
    fn what_was_signed_reads_back_and_nothing_else_does() {
        let (environment, waitpoint) = ids();
        let token = tokens(1).sign(&environment, &waitpoint);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)), "{token}");
        assert_eq!(tokens(1).verify(&token).unwrap(), ids());
        assert!(tokens(2).verify(&token).is_err(), "another server's");
        for bit in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(flipped) = String::from_utf8(bytes) {
                assert!(tokens(1).verify(&flipped).is_err(), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(payload: Vec<u8>, text: String) {
            let _ = decode(&payload);
            let token = format!("{PREFIX}{text}");
            prop_assert!(tokens(1).verify(&token).is_err());
        }
    }
}
