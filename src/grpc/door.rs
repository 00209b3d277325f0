//! The one door: who is calling. Nothing but the bearer token is believed.

use crate::status::of_error;
use continuo_domain::Error;
use continuo_domain::error::CredentialProblem;
use continuo_domain::principal::Principal;
use continuo_usecases::{Core, Standing};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

const SCHEME: &str = "bearer ";

/// The caller of a request. Absent means UNAUTHENTICATED, never a default.
pub(crate) async fn principal<T>(core: &Core, request: &Request<T>) -> Result<Principal, Status> {
    let bearer = bearer(request.metadata()).map_err(of_error)?;
    core.authenticate(bearer).await.map_err(of_error)
}

/// The caller of a request whose answer may stay open, and how its credential stands from here on.
pub(crate) async fn principal_of_stream<T>(core: &Core, request: &Request<T>) -> Result<(Principal, Standing), Status> {
    let bearer = bearer(request.metadata()).map_err(of_error)?;
    core.authenticate_stream(bearer).await.map_err(of_error)
}

/// The bearer token. The scheme is taken off if it is there; some clients of the REST surface send the token alone.
pub(crate) fn bearer(metadata: &MetadataMap) -> continuo_domain::Result<&str> {
    let missing = || Error::Unauthenticated(CredentialProblem::Missing);
    let value = metadata.get("authorization").ok_or_else(missing)?;
    let text = value.to_str().map_err(|_| Error::Unauthenticated(CredentialProblem::UnknownKey))?.trim();
    let bearer = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token.trim(),
        _ if text.eq_ignore_ascii_case(SCHEME.trim_end()) => "",
        _ => text,
    };
    if bearer.is_empty() { Err(missing()) } else { Ok(bearer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_optional_and_in_any_case() {
        for text in ["Bearer tr_dev_a", "bearer tr_dev_a", "BEARER  tr_dev_a ", "tr_dev_a"] {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", text.parse().unwrap());
            assert_eq!(bearer(&metadata).unwrap(), "tr_dev_a", "{text}");
        }
    }

    #[test]
    fn nothing_is_not_somebody() {
        for text in [None, Some(""), Some("Bearer"), Some("Bearer   ")] {
            let mut metadata = MetadataMap::new();
            if let Some(text) = text {
                metadata.insert("authorization", text.parse().unwrap());
            }
            metadata.insert("x-principal", "env_a".parse().unwrap());
            assert!(matches!(bearer(&metadata), Err(Error::Unauthenticated(CredentialProblem::Missing))), "{text:?}");
        }
    }
}
