//! Public tokens: HS256 JWTs signed with an environment's root key, by us or by a client on its own.
//!
//! The time is always an argument. The crate's own check of `exp` reads the system's clock and forgives a minute; ours
//! forgives nothing.

use crate::hs256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use continuo_domain::error::CredentialProblem;
use continuo_domain::{Error, Result, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Issuer of every public token, whatever our host is called: clients sign with this literal.
pub const ISSUER: &str = "https://id.trigger.dev";
/// Audience of every public token.
pub const AUDIENCE: &str = "https://api.trigger.dev";

/// What a checked token says.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// Environment id.
    pub sub: String,
    /// Text, never a list of issuers.
    iss: String,
    /// What it may do; absent is nothing.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// When it was signed.
    #[serde(default)]
    pub iat: Option<Seconds>,
    /// Its end.
    pub exp: Seconds,
    /// Its beginning.
    #[serde(default)]
    pub nbf: Option<Seconds>,
    /// It is consumed by its first trigger.
    #[serde(default)]
    pub otu: Option<bool>,
    /// Options of the client's realtime library; carried, not read.
    #[serde(default)]
    pub realtime: Option<Value>,
    /// On whose behalf; carried, not read.
    #[serde(default)]
    pub act: Option<Value>,
    /// The one session it is bound to.
    #[serde(default)]
    pub ses: Option<String>,
}

/// What we write into a token.
#[derive(Clone, Debug, Serialize)]
pub struct NewClaims<'a> {
    /// Environment id.
    pub sub: &'a str,
    /// What it may do.
    pub scopes: Vec<&'a str>,
    /// When it was signed.
    pub iat: Seconds,
    /// Its end.
    pub exp: Seconds,
    /// It is consumed by its first trigger.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub otu: bool,
    /// Tells it from a token with the same claims: two that count once must not be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Options of the client's realtime library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime: Option<Box<RawValue>>,
    /// The one session it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ses: Option<&'a str>,
}

/// A `NumericDate`: seconds since the epoch, whole ones almost always.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Seconds(f64);

impl Seconds {
    /// The whole second a moment lies in.
    pub fn whole(at: Timestamp) -> Self {
        Self(at.0.div_euclid(1_000) as f64)
    }

    /// The moment to the millisecond.
    pub fn exact(at: Timestamp) -> Self {
        Self(at.0 as f64 / 1_000.0)
    }

    /// The moment.
    pub fn timestamp(self) -> Timestamp {
        Timestamp((self.0 * 1_000.0).round() as i64)
    }
}

impl Serialize for Seconds {
    // A whole second is an integer on the wire: many readers take no other.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 { serializer.serialize_i64(self.0 as i64) } else { serializer.serialize_f64(self.0) }
    }
}

/// What a bearer claims before anything is checked: enough to find the key to check it with.
#[derive(Debug)]
pub struct Unverified {
    /// `sub`, if it is there and a text.
    pub sub: Option<String>,
}

/// Does this look like a public token: three parts, the second one JSON with `pub: true`? Everything else is a key or
/// nothing.
pub fn peek(bearer: &str) -> Option<Unverified> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default, rename = "pub")]
        is_public: Value,
        #[serde(default)]
        sub: Value,
    }
    let mut parts = bearer.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let peek: Peek = serde_json::from_slice(&json).ok()?;
    (peek.is_public == Value::Bool(true)).then(|| Unverified { sub: peek.sub.as_str().map(str::to_owned) })
}

/// Checks signature, issuer, audience and life of a token. Which check failed is not told: it would help a forger only.
pub fn verify(token: &str, key: &DecodingKey, now: Timestamp) -> Result<Claims> {
    static VALIDATION: LazyLock<Validation> = LazyLock::new(validation);
    hs256::install();
    let data = jsonwebtoken::decode::<Claims>(token, key, &VALIDATION).map_err(|_| invalid())?;
    let is_alive = now < data.claims.exp.timestamp() && data.claims.nbf.is_none_or(|nbf| nbf.timestamp() <= now);
    // Extensions a token marks as critical must be understood, and we understand none.
    let is_plain = data.header.crit.is_none() && data.claims.iss == ISSUER;
    if is_alive && is_plain { Ok(data.claims) } else { Err(invalid()) }
}

/// What tells a checked token from every other one: the digest of what was signed. Not of the signature, which can be
/// spelled in more than one way.
pub fn identity(token: &str) -> String {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    URL_SAFE_NO_PAD.encode(Sha256::digest(signed))
}

/// Signs a token.
pub fn sign(claims: &NewClaims<'_>, key: &EncodingKey) -> Result<String> {
    #[derive(Serialize)]
    struct Whole<'a> {
        iss: &'static str,
        aud: &'static str,
        #[serde(rename = "pub")]
        is_public: bool,
        #[serde(flatten)]
        claims: &'a NewClaims<'a>,
    }
    hs256::install();
    let whole = Whole { iss: ISSUER, aud: AUDIENCE, is_public: true, claims };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &whole, key).map_err(Error::internal)
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    // Checked in `verify`, against the clock that is handed in.
    validation.validate_exp = false;
    validation
}

pub(crate) fn invalid() -> Error {
    Error::Unauthenticated(CredentialProblem::InvalidToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_where_they_can_be() {
        let text = |s: Seconds| serde_json::to_string(&s).unwrap();
        assert_eq!(text(Seconds::whole(Timestamp(1_700_000_000_999))), "1700000000");
        assert_eq!(text(Seconds::exact(Timestamp(1_700_000_000_123))), "1700000000.123");
        assert_eq!(Seconds::exact(Timestamp(1_700_000_000_123)).timestamp(), Timestamp(1_700_000_000_123));
    }

    #[test]
    fn only_public_tokens_look_like_public_tokens() {
        let token = |payload: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(peek(&token(r#"{"pub":true,"sub":"env_a"}"#)).unwrap().sub.as_deref(), Some("env_a"));
        assert_eq!(peek(&token(r#"{"pub":true,"sub":7}"#)).unwrap().sub, None);
        for payload in [r#"{"sub":"env_a"}"#, r#"{"pub":"true"}"#, r#"{"pub":false}"#, "[]", "7", "", "{"] {
            assert!(peek(&token(payload)).is_none(), "{payload}");
        }
        assert!(peek("a.b").is_none() && peek("a.b.c.d").is_none() && peek("..").is_none());
    }
}
