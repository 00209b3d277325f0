//! A run's token in the form that SDKs take from `TRIGGER_RUN_TOKEN`: a JWT of type `run+jwt` with the audience `trigger:api`,
//! `token_use` `run` and the scope `admin`. They look at those and at `exp`, and use a token of any other form not at all.
//!
//! Signed with a key of the server that signs nothing else; like the run tokens of the other form it survives a rotation of
//! root keys and is read without any look-up.

use crate::jwt::Seconds;
use crate::{MasterKey, hs256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::RunClaim;
use continuo_domain::{EnvironmentId, Error, Result, RunId, SessionId, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The one scope of such a token. SDKs refuse one without it.
pub const SCOPE: &str = "admin";
const TYPE: &str = "run+jwt";
const AUDIENCE: &str = "trigger:api";
const USE: &str = "run";

/// Signs and reads run tokens for SDKs.
#[derive(Clone)]
pub struct SdkRunTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    token_use: String,
    scopes: Vec<String>,
    sub: String,
    env: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ses: Option<String>,
    version: u64,
    lease: u64,
    exp: Seconds,
}

impl SdkRunTokens {
    /// With a key derived from the master key.
    pub fn new(master_key: &MasterKey) -> Self {
        let key = master_key.derive("continuo sdk run token v1");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["aud", "sub", "exp"]);
        validation.set_audience(&[AUDIENCE]);
        // Checked in `verify`, against the clock that is handed in.
        validation.validate_exp = false;
        Self { signing: EncodingKey::from_secret(&key), verifying: DecodingKey::from_secret(&key), validation }
    }

    /// Signs.
    pub fn sign(&self, environment: &EnvironmentId, claim: &RunClaim, expires_at: Timestamp) -> Result<String> {
        hs256::install();
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            token_use: USE.to_owned(),
            scopes: vec![SCOPE.to_owned()],
            sub: claim.run.as_str().to_owned(),
            env: environment.as_str().to_owned(),
            ses: claim.session.as_ref().map(|session| session.as_str().to_owned()),
            version: claim.version,
            lease: claim.lease,
            exp: Seconds::whole(expires_at),
        };
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(Error::internal)
    }

    /// Checks and reads. Forged, cut and expired are one answer.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(EnvironmentId, RunClaim, Timestamp)> {
        hs256::install();
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).map_err(|_| invalid())?;
        let claims = data.claims;
        if now >= claims.exp.timestamp() || claims.token_use != USE || data.header.crit.is_some() {
            return Err(invalid());
        }
        let session = claims.ses.as_deref().map(SessionId::parse).transpose().map_err(|_| invalid())?;
        let run = RunId::parse(&claims.sub).map_err(|_| invalid())?;
        let environment = EnvironmentId::parse(&claims.env).map_err(|_| invalid())?;
        let claim = RunClaim { run, session, version: claims.version, lease: claims.lease };
        Ok((environment, claim, claims.exp.timestamp()))
    }
}

impl fmt::Debug for SdkRunTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SdkRunTokens(..)")
    }
}

/// Does a bearer say of itself that it is one?
pub(crate) fn is_one(bearer: &str) -> bool {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default)]
        typ: String,
    }
    let header = bearer.split_once('.').and_then(|(header, _)| URL_SAFE_NO_PAD.decode(header).ok());
    let peek = header.and_then(|json| serde_json::from_slice::<Peek>(&json).ok());
    peek.is_some_and(|peek| peek.typ == TYPE)
}

fn invalid() -> Error {
    Error::Unauthenticated(CredentialProblem::InvalidRunToken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn tokens(byte: u8) -> SdkRunTokens {
        SdkRunTokens::new(&MasterKey::from_base64(&STANDARD.encode([byte; 32])).unwrap())
    }

    fn sign(session: Option<SessionId>, expires_at: Timestamp) -> (RunClaim, String) {
        let claim = RunClaim { run: RunId::from_body("r1"), session, version: 3, lease: u64::MAX };
        let token = tokens(1).sign(&EnvironmentId::from_body("e1"), &claim, expires_at).unwrap();
        (claim, token)
    }

    fn is_refused(token: &str, now: Timestamp) -> bool {
        matches!(tokens(1).verify(token, now), Err(Error::Unauthenticated(CredentialProblem::InvalidRunToken)))
    }

    #[test]
    fn what_was_signed_reads_back_until_it_ends() {
        for session in [None, Some(SessionId::from_body("s1"))] {
            let (claim, token) = sign(session, NOW.plus_ms(1_000));
            assert!(is_one(&token));
            let read = (EnvironmentId::from_body("e1"), claim, NOW.plus_ms(1_000));
            assert_eq!(tokens(1).verify(&token, NOW).unwrap(), read);
            assert!(is_refused(&token, NOW.plus_ms(1_000)));
            assert!(tokens(2).verify(&token, NOW).is_err());
        }
    }

    #[test]
    fn no_part_can_be_changed_or_left_out() {
        let (_, token) = sign(Some(SessionId::from_body("s1")), NOW.plus_ms(1_000));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last letter of a base64 text may carry bits that stand for nothing.
            let is_same = changed
                .split('.')
                .map(|p| URL_SAFE_NO_PAD.decode(p).ok())
                .eq(token.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).ok()));
            assert!(is_same || is_refused(&changed, NOW), "{at}");
            assert!(is_refused(&token[..at], NOW), "cut to {at}");
        }
        let (_, rest) = token.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"run+jwt"}"#);
        assert!(is_refused(&format!("{none}.{rest}"), NOW));
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String) {
            let _ = is_one(&text);
            prop_assert!(is_refused(&text, NOW));
        }
    }
}
