//! Credentials.

use super::{session, time};
use continuo_domain::error::Violations;
use continuo_domain::principal::{Credential, Principal, Scope};
use continuo_domain::session::Json;
use continuo_domain::{Error, Result};
use continuo_proto::v1;
use continuo_usecases::NewToken;

/// Reads a token that is asked for.
pub(crate) fn parse_new(wire: v1::CreatePublicTokenRequest) -> Result<NewToken> {
    let mut found = Violations::new();
    let scopes = found.take(parse_scopes(&wire.scopes))?.unwrap_or_default();
    let expires_at = found.take(time::parse("expires_at", wire.expires_at))?.flatten();
    let realtime = wire.realtime_json.map(|text| Json::parse_object("realtime_json", text)).transpose();
    let realtime = found.take(realtime)?.flatten();
    let session = wire.session.map(|text| session::parse_ref("session", &text)).transpose();
    let session = found.take(session)?.flatten();
    found.finish()?;
    Ok(NewToken { scopes, expires_at, one_time_use: wire.one_time_use, realtime, session })
}

/// Reads scopes.
pub(crate) fn parse_scopes(texts: &[String]) -> Result<Vec<Scope>> {
    texts.iter().map(|text| Scope::parse(text).map_err(Error::from)).collect()
}

/// Prints who is calling.
pub(crate) fn print_principal(caller: &Principal) -> v1::AuthenticateResponse {
    let (kind, run, session) = match &caller.credential {
        Credential::RootKey => (v1::CredentialKind::RootKey, None, None),
        Credential::AdditionalKey => (v1::CredentialKind::AdditionalKey, None, None),
        Credential::PublicToken { session, .. } => (v1::CredentialKind::PublicToken, None, session.as_ref()),
        Credential::RunToken(claim) => (v1::CredentialKind::RunToken, Some(&claim.run), claim.session.as_ref()),
        Credential::WaitpointToken(_) => (v1::CredentialKind::WaitpointToken, None, None),
        Credential::StreamToken(stream) => (v1::CredentialKind::StreamToken, None, Some(&stream.channel.session)),
    };
    v1::AuthenticateResponse {
        kind: kind.into(),
        environment_id: caller.environment.as_str().to_owned(),
        scopes: caller.scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        run_id: run.map(|r| r.as_str().to_owned()),
        session_id: session.map(|s| s.as_str().to_owned()),
    }
}
