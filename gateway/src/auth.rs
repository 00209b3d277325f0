//! Who calls. The gateway only asks: the services decide, and authenticate the call that follows once more. Of what came
//! in from outside, a service sees the bearer token and nothing else.

use axum::extract::FromRequestParts;
use continuo_proto::{
    Api,
    v1::{AuthenticateRequest, CredentialKind},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
};

use crate::{
    Gateway,
    error::{Failure, Route},
};

const BRANCH: &str = "x-trigger-branch";

/// An authenticated caller. As an extractor it comes first, so that nothing is read for somebody unknown.
pub(crate) struct Caller {
    authorization: MetadataValue<Ascii>,
    kind: CredentialKind,
    /// The caller's environment.
    pub(crate) environment_id: String,
}

impl<A: Api> FromRequestParts<Gateway<A>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<A>) -> Result<Self, Failure> {
        let caller = Self::identify(&parts.headers, gateway).await?;
        check_branch(&caller.authorization, &parts.headers)?;
        Ok(caller)
    }
}

/// Why nobody is known to call. Each surface words it in its own form.
pub(crate) enum Unknown {
    /// There is no token.
    Missing,
    /// The token cannot be one.
    Unreadable,
    /// The services do not take it.
    Refused(Status),
}

impl From<Unknown> for Failure {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Missing => Self::missing_api_key(),
            Unknown::Unreadable => Self::invalid_api_key(),
            Unknown::Refused(status) => Self::of(&status, Route::Tokens),
        }
    }
}

/// The header selects a branch of an environment whose keys may name one, and no environment here has branches: what is
/// meant for one must not reach another. Keys of other environments name none, whatever the header says.
fn check_branch(authorization: &MetadataValue<Ascii>, headers: &HeaderMap) -> Result<(), Failure> {
    let token = authorization.to_str().unwrap_or_default().trim_start_matches("Bearer ");
    let text = match branch(headers) {
        None if token.starts_with("tr_preview_") => "x-trigger-branch header required for preview env",
        Some(_) if token.starts_with("tr_preview_") => "No matching branch env",
        Some(branch) if token.starts_with("tr_dev_") && branch != b"default" => "No matching branch env",
        _ => return Ok(()),
    };
    Err(Failure::error(StatusCode::UNAUTHORIZED, text))
}

/// A caller on a route that takes no public tokens: there one is looked up as a key, and not found.
pub(crate) struct KeyHolder(pub(crate) Caller);

impl<A: Api> FromRequestParts<Gateway<A>> for KeyHolder {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<A>) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, gateway).await?;
        if caller.is_public() { Err(Failure::invalid_api_key()) } else { Ok(Self(caller)) }
    }
}

/// Who may ask for a session to be made: a key, and with `create_allow_jwt` a public token too.
pub(crate) struct Creator(pub(crate) Caller);

impl<A: Api> FromRequestParts<Gateway<A>> for Creator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<A>) -> Result<Self, Failure> {
        if gateway.options.create_allow_jwt {
            return Caller::from_request_parts(parts, gateway).await.map(Self);
        }
        KeyHolder::from_request_parts(parts, gateway).await.map(|KeyHolder(caller)| Self(caller))
    }
}

impl Caller {
    /// Who sends these headers.
    pub(crate) async fn identify<A: Api>(headers: &HeaderMap, gateway: &Gateway<A>) -> Result<Self, Unknown> {
        let authorization = bearer(headers)?;
        let request = with_authorization(&authorization, AuthenticateRequest {});
        let who = gateway.api.authenticate(request).await.map_err(Unknown::Refused)?.into_inner();
        Ok(Self { authorization, kind: who.kind(), environment_id: who.environment_id })
    }

    /// A call in this caller's name.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        with_authorization(&self.authorization, message)
    }

    /// Is this a browser or another holder of a public token?
    pub(crate) fn is_public(&self) -> bool {
        matches!(self.kind, CredentialKind::PublicToken | CredentialKind::Unspecified)
    }
}

/// A call in the name of whoever holds a signed URL: its token is all there is, and the services judge it.
pub(crate) fn url_bearer(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    format!("Bearer {token}").parse().map_err(|_| Failure::invalid_url())
}

pub(crate) fn with_authorization<T>(authorization: &MetadataValue<Ascii>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", authorization.clone());
    request
}

/// The branch of an environment that is asked for.
pub(crate) fn branch(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(BRANCH).map(|value| value.as_bytes().trim_ascii()).filter(|branch| !branch.is_empty())
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<MetadataValue<Ascii>, Unknown> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Unknown::Missing)?;
    let text = header.to_str().map_err(|_| Unknown::Unreadable)?.trim();
    let token = match text.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer ") => text[7..].trim(),
        _ if text.eq_ignore_ascii_case("bearer") => "",
        _ => text,
    };
    if token.is_empty() {
        return Err(Unknown::Missing);
    }
    format!("Bearer {token}").parse().map_err(|_| Unknown::Unreadable)
}
