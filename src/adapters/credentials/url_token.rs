//! The token of a signed URL: `tr_blob_` + base64url(payload) + `.` + base64url(MAC), opaque to everyone but us.
//!
//! Signed with a key of the server that signs nothing else, so that it is worth nothing as another kind of token, nor another
//! kind as this one; read without any look-up.
//!
//! Payload: version (1 byte), method (1 byte: 0 get, 1 put), expires_at ms (i64), the run it is bound to, then the key's text. The run
//! is its id as a length byte and text, its version (u64) and lease (u64), of length 0 and nothing more if it is bound to none.
//! Numbers are big-endian.

use crate::MasterKey;
use crate::signed::Signed;
use continuo_domain::blob::{BlobGrant, BlobKey, BlobMethod};
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::RunClaim;
use continuo_domain::{Error, Result, RunId, Timestamp};

/// What the token of every signed URL starts with.
pub const PREFIX: &str = "tr_blob_";
const PAYLOAD_VERSION: u8 = 2;
const GET: u8 = 0;
const PUT: u8 = 1;

/// Signs and reads the tokens of URLs.
#[derive(Clone, Debug)]
pub struct UrlTokens(Signed);

impl UrlTokens {
    /// With a key derived from the master key.
    pub fn new(master_key: &MasterKey) -> Self {
        Self(Signed::new(master_key, "continuo blob url v1", PREFIX))
    }

    /// Signs.
    pub fn sign(&self, grant: &BlobGrant) -> String {
        self.0.seal(&encode(grant))
    }

    /// Checks and reads. Forged, cut and expired are one answer.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<BlobGrant> {
        let grant = self.0.open(token).and_then(|payload| decode(&payload));
        grant.filter(|grant| now < grant.expires_at).ok_or(Error::Unauthenticated(CredentialProblem::InvalidUrl))
    }
}

fn encode(grant: &BlobGrant) -> Vec<u8> {
    let method = match grant.method {
        BlobMethod::Get => GET,
        BlobMethod::Put => PUT,
    };
    let mut payload = vec![PAYLOAD_VERSION, method];
    payload.extend(grant.expires_at.0.to_be_bytes());
    match &grant.run {
        None => payload.push(0),
        Some(claim) => {
            // Ids are at most 64 bytes; a longer one, should it ever be, makes a token that does not read and not one that lies.
            payload.push(u8::try_from(claim.run.as_str().len()).unwrap_or(u8::MAX));
            payload.extend(claim.run.as_str().as_bytes());
            payload.extend(claim.version.to_be_bytes());
            payload.extend(claim.lease.to_be_bytes());
        }
    }
    payload.extend(grant.key.to_string().into_bytes());
    payload
}

fn decode(payload: &[u8]) -> Option<BlobGrant> {
    let (&method, rest) = payload.strip_prefix(&[PAYLOAD_VERSION])?.split_first()?;
    let method = match method {
        GET => BlobMethod::Get,
        PUT => BlobMethod::Put,
        _ => return None,
    };
    let (expires_at, rest) = rest.split_first_chunk()?;
    let (run, key) = take_run(rest)?;
    let key = BlobKey::parse(std::str::from_utf8(key).ok()?).ok()?;
    let run = run.map(|(run, version, lease)| RunClaim { run, session: key.session().cloned(), version, lease });
    Some(BlobGrant { method, key, run, expires_at: Timestamp(i64::from_be_bytes(*expires_at)) })
}

type Run = (RunId, u64, u64);

fn take_run(bytes: &[u8]) -> Option<(Option<Run>, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    if length == 0 {
        return Some((None, rest));
    }
    let (run, rest) = rest.split_at_checked(usize::from(length))?;
    let (version, rest) = rest.split_first_chunk()?;
    let (lease, rest) = rest.split_first_chunk()?;
    let run = RunId::parse(std::str::from_utf8(run).ok()?).ok()?;
    Some((Some((run, u64::from_be_bytes(*version), u64::from_be_bytes(*lease))), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_token::RunTokens;
    use crate::signed::assert_every_change_is_noticed;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use continuo_domain::blob::{BlobKind, PacketPath};
    use continuo_domain::{EnvironmentId, SessionId};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn master_key(byte: u8) -> MasterKey {
        MasterKey::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    fn tokens(byte: u8) -> UrlTokens {
        UrlTokens::new(&master_key(byte))
    }

    fn grant(kind: BlobKind) -> BlobGrant {
        let key = BlobKey { environment: EnvironmentId::from_body("e1"), kind };
        BlobGrant { method: BlobMethod::Put, key, run: None, expires_at: NOW.plus_ms(1) }
    }

    fn snapshot() -> BlobGrant {
        grant(BlobKind::Snapshot(SessionId::from_body("s1")))
    }

    fn is_refused(token: &str, now: Timestamp) -> bool {
        matches!(tokens(1).verify(token, now), Err(Error::Unauthenticated(CredentialProblem::InvalidUrl)))
    }

    #[test]
    fn what_was_signed_reads_back() {
        let packet = grant(BlobKind::Packet(PacketPath::parse("run_1/ü b.json").unwrap()));
        let get = BlobGrant { method: BlobMethod::Get, ..snapshot() };
        let session = Some(SessionId::from_body("s1"));
        let claim = RunClaim { run: RunId::from_body("r1"), session, version: 3, lease: u64::MAX };
        let of_run = BlobGrant { run: Some(claim), ..snapshot() };
        for grant in [snapshot(), packet, get, of_run] {
            let token = tokens(1).sign(&grant);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)), "{token}");
            assert_eq!(tokens(1).verify(&token, NOW).unwrap(), grant);
        }
    }

    #[test]
    fn a_url_ends_on_the_millisecond() {
        let token = tokens(1).sign(&snapshot());
        assert!(tokens(1).verify(&token, NOW).is_ok());
        assert!(is_refused(&token, NOW.plus_ms(1)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let token = tokens(1).sign(&snapshot());
        assert_every_change_is_noticed(&token, |changed| is_refused(changed, NOW));
    }

    #[test]
    fn no_other_key_and_no_other_kind_of_token_counts() {
        assert!(is_refused(&tokens(2).sign(&snapshot()), NOW));
        let claim = RunClaim { run: RunId::from_body("r"), session: None, version: 1, lease: 1 };
        let run_tokens = RunTokens::new(&master_key(1));
        let run = run_tokens.sign(&EnvironmentId::from_body("e1"), &claim, NOW.plus_ms(1));
        assert!(is_refused(&run.replace(crate::run_token::PREFIX, PREFIX), NOW));
        let url = tokens(1).sign(&snapshot()).replace(PREFIX, crate::run_token::PREFIX);
        assert!(run_tokens.verify(&url, NOW).is_err());
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
