//! API keys as texts: how they look, how they are made, what is stored of them.
//!
//! `tr_dev_…`, `tr_stg_…`, `tr_prod_…`, `tr_preview_…` are root keys; `tr_dev_sk_…` and its like are additional keys.
//! `tr_pat_…` is a person's own token, which is no key of any environment.

use crate::random;
use continuo_domain::Result;
use continuo_domain::session::EnvironmentType;
use sha2::{Digest, Sha256};

/// What is stored of a key: what a bearer is looked up by.
pub type KeyHash = [u8; 32];

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY_CHARS: usize = 24;
const KEY_CHARS_MAX: usize = 128;

/// A new root key: 24 random letters and digits, 142 bits.
pub fn new_root_key(environment_type: EnvironmentType) -> Result<String> {
    Ok(format!("tr_{}_{}", environment_type.slug(), body()?))
}

/// A new additional key.
pub fn new_additional_key(environment_type: EnvironmentType) -> Result<String> {
    Ok(format!("tr_{}_sk_{}", environment_type.slug(), body()?))
}

/// A new name of a token: as hard to guess as a key.
pub(crate) fn new_token_id() -> Result<String> {
    body()
}

/// A new personal token.
pub fn new_personal_token() -> Result<String> {
    Ok(format!("tr_pat_{}", body()?))
}

/// SHA-256 of a key. No salt and no stretching: keys are random, and a lookup by hash must be one index read.
pub fn hash(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

/// Could this be a key at all? Keeps whatever else comes in from costing a look into the database.
pub fn is_key(text: &str) -> bool {
    let kinds =
        [EnvironmentType::Development, EnvironmentType::Staging, EnvironmentType::Production, EnvironmentType::Preview];
    let body = text.strip_prefix("tr_").and_then(|rest| {
        kinds.iter().find_map(|kind| rest.strip_prefix(kind.slug()).and_then(|rest| rest.strip_prefix('_')))
    });
    let is_plain = |body: &str| !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.len() <= KEY_CHARS_MAX && body.is_some_and(is_plain)
}

/// Every character equally likely: bytes past the last whole multiple of 62 are thrown away.
fn body() -> Result<String> {
    const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;
    let mut body = String::with_capacity(BODY_CHARS);
    while body.len() < BODY_CHARS {
        let fair = random::bytes::<BODY_CHARS>()?.into_iter().filter(|&byte| byte < FAIR);
        body.extend(fair.take(BODY_CHARS - body.len()).map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_look_as_clients_expect() {
        let root = new_root_key(EnvironmentType::Staging).unwrap();
        let body = root.strip_prefix("tr_stg_").unwrap();
        assert!(body.len() == 24 && body.bytes().all(|b| b.is_ascii_alphanumeric()));
        let additional = new_additional_key(EnvironmentType::Preview).unwrap();
        let body = additional.strip_prefix("tr_preview_sk_").unwrap();
        assert!(body.len() == 24 && body.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(is_key(&root) && is_key(&additional));
        let personal = new_personal_token().unwrap();
        assert!(personal.starts_with("tr_pat_") && personal.len() == 31);
        assert!(!is_key(&personal), "it opens no environment");
    }

    #[test]
    fn keys_differ_and_use_the_whole_alphabet() {
        let keys: HashSet<_> = (0..500).map(|_| new_root_key(EnvironmentType::Development).unwrap()).collect();
        assert_eq!(keys.len(), 500);
        let used: HashSet<_> = keys.iter().flat_map(|key| key["tr_dev_".len()..].bytes()).collect();
        assert_eq!(used.len(), 62);
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let long = format!("tr_dev_{}", "a".repeat(200));
        for text in
            ["", "tr_", "tr_dev_", "tr_dev", "tr_run_abc.def", "tr_test_abc", "Bearer tr_dev_a", "tr_dev_a b", &long]
        {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn the_hash_is_plain_sha_256() {
        let hex: String = hash("abc").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
