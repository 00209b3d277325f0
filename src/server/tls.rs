//! TLS on the port: who the server is, and which protocol a connection speaks.

use crate::config::{Config, ConfigError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// How long a client may take from the first byte to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the settings ask for; nothing without a certificate. A file that cannot be used is named.
pub(super) fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ConfigError> {
    let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) else { return Ok(None) };
    let (chain, private_key) = (read_chain(cert)?, read_key(key)?);
    let unusable = |error| match error {
        Error::InconsistentKeys(_) => ConfigError::new(format!(
            "the key in {} is not that of the first certificate in {}: set CONTINUO_TLS_KEY to the file that was made \
             with it",
            key.display(),
            cert.display()
        )),
        error => ConfigError::new(format!("{} and {} cannot be used: {error}", cert.display(), key.display())),
    };
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|server| server.with_no_client_auth().with_single_cert(chain, private_key))
        .map_err(unusable)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// A connection that can be served, or nothing: what went wrong is its own affair.
pub(super) async fn handshake(acceptor: &TlsAcceptor, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            debug!(error = %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            debug!("a TLS handshake took too long");
            None
        }
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        ConfigError::new(format!(
            "{} holds no certificate in PEM: set CONTINUO_TLS_CERT to a file with BEGIN CERTIFICATE in it",
            path.display()
        ))
    })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        ConfigError::new(format!(
            "{} holds no private key in PEM: set CONTINUO_TLS_KEY to a file with BEGIN PRIVATE KEY in it; an encrypted \
             key has to be decrypted first",
            path.display()
        ))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::new(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use tokio::net::TcpListener;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut config = Config::defaults(Mode::Serve);
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (config.tls.cert, config.tls.key) = (Some(cert), Some(key));
        let acceptor = acceptor(&config).unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        assert!(handshake(&acceptor, socket).await.is_none());
    }
}
