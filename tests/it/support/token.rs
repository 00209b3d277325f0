//! Public tokens made by hand, as clients sign them that hold a root key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// The development environment, which `super::KEY` is the root key of.
pub(crate) const ENVIRONMENT: &str = "env_dev";

/// A token of the development environment that counts for the next ten minutes.
pub(crate) fn scoped<S: AsRef<str>>(scopes: &[S]) -> String {
    good_for(scopes, 600)
}

/// The same, ten minutes too late.
pub(crate) fn expired<S: AsRef<str>>(scopes: &[S]) -> String {
    good_for(scopes, -600)
}

fn good_for<S: AsRef<str>>(scopes: &[S], ends_in_s: i64) -> String {
    signed(super::KEY, &claims(scopes, ends_in_s))
}

/// What a token of the development environment says.
pub(crate) fn claims<S: AsRef<str>>(scopes: &[S], ends_in_s: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let scopes: Vec<_> = scopes.iter().map(AsRef::as_ref).collect();
    json!({
        "sub": ENVIRONMENT, "pub": true, "scopes": scopes, "iat": now + ends_in_s.min(0) - 1, "exp": now + ends_in_s,
        "iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev",
    })
}

/// Whatever it says, signed as clients sign.
pub(crate) fn signed(key: &str, claims: &Value) -> String {
    signed_as("HS256", key, claims)
}

/// The same signature, with this algorithm in the header.
pub(crate) fn signed_as(algorithm: &str, key: &str, claims: &Value) -> String {
    let text = format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// With `alg: none`, and nothing where the signature would be.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(claims))
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}
