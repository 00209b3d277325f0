//! Under which address a caller reaches this server.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use crate::Gateway;

/// The address we were told, else the one the caller used.
pub(crate) struct BaseUrl(String);

impl<A: Sync> FromRequestParts<Gateway<A>> for BaseUrl {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway<A>) -> Result<Self, Infallible> {
        if let Some(base) = &gateway.options.public_base_url {
            return Ok(Self(base.trim_end_matches('/').to_owned()));
        }
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has the host in the request line.
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
        let scheme = if gateway.options.is_tls { "https" } else { "http" };
        Ok(Self(format!("{scheme}://{host}")))
    }
}

impl BaseUrl {
    /// The address of a path, which begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}
