//! How a client knows the server it reaches over TLS.

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Error};

/// Makes an https endpoint trust the authorities of the system and those in `ca_pem`; any other stays as it is. Fails if there
/// is nobody to trust.
pub fn with_tls(endpoint: Endpoint, ca_pem: Option<&str>) -> Result<Endpoint, Error> {
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    // A certificate names an IPv6 address without the brackets of a URL.
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let mut tls = ClientTlsConfig::new().domain_name(host);
    if let Some(pem) = ca_pem {
        tls = tls.ca_certificate(Certificate::from_pem(pem));
    }
    let with_system = endpoint.clone().tls_config(tls.clone().with_native_roots());
    match ca_pem {
        // A machine without any authorities can still be told one.
        Some(_) => with_system.or_else(|_| endpoint.tls_config(tls)),
        None => with_system,
    }
}
