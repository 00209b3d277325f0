//! Public tokens made by hand, the broken ones too.

use super::routes::World;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a good token says that may read and write the world's session.
pub(crate) async fn claims(world: &World) -> Value {
    let mut claims = world.json("POST", "/api/v1/auth/jwt/claims", "").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let more = json!({ "iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev", "iat": now, "exp": now + 900,
        "scopes": [format!("read:sessions:{}", world.session), format!("write:sessions:{}", world.session)] });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// Signed as clients sign for themselves.
pub(crate) fn signed(key: &str, claims: &Value) -> String {
    signed_as("HS256", key, claims)
}

/// The same signature, with this algorithm in the header.
pub(crate) fn signed_as(algorithm: &str, key: &str, claims: &Value) -> String {
    let text = format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// With `alg: none`, and nothing where the signature would be.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(claims))
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
