//! Opaque tokens of the server's own: prefix + base64url(payload) + `.` + base64url(MAC). What the payload says, and until when
//! it counts, is each kind's own business.

use crate::MasterKey;
use crate::master_key::hmac_sha256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// Signs and opens the tokens of one kind.
#[derive(Clone)]
pub(crate) struct Signed {
    prefix: &'static str,
    mac: Hmac<Sha256>,
}

impl Signed {
    /// With a key derived from the master key for this purpose, so that one kind of token is worth nothing as another.
    pub(crate) fn new(master_key: &MasterKey, purpose: &str, prefix: &'static str) -> Self {
        Self { prefix, mac: hmac_sha256(&master_key.derive(purpose)) }
    }

    /// The token of a payload.
    pub(crate) fn seal(&self, payload: &[u8]) -> String {
        let mac = self.mac.clone().chain_update(payload).finalize().into_bytes();
        format!("{}{}.{}", self.prefix, URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(mac))
    }

    /// The payload of a token that we signed; `None` for any other text.
    pub(crate) fn open(&self, token: &str) -> Option<Vec<u8>> {
        let (payload, mac) = token.strip_prefix(self.prefix)?.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.mac.clone().chain_update(&payload).verify_slice(&mac).ok()?;
        Some(payload)
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}..)", self.prefix)
    }
}

/// A text of a payload: a length byte and the text. Ids and names are shorter than that byte can say; a longer one, should it
/// ever be, makes a token that does not read and not one that lies.
pub(crate) fn push_text(payload: &mut Vec<u8>, text: &str) {
    payload.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    payload.extend(text.as_bytes());
}

/// Takes a text off the front of a payload.
pub(crate) fn take_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// What every kind of token is tested for: a flipped bit, a cut and a longer text are all refused.
#[cfg(test)]
pub(crate) fn assert_every_change_is_noticed(token: &str, is_refused: impl Fn(&str) -> bool) {
    for bit in 0..token.len() * 8 {
        let mut bytes = token.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(flipped) = String::from_utf8(bytes) {
            assert!(is_refused(&flipped), "bit {bit}");
        }
    }
    for length in 0..token.len() {
        assert!(is_refused(&token[..length]), "cut to {length}");
    }
    assert!(is_refused(&format!("{token}A")));
}
