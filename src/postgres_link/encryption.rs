//! TLS to Postgres, as `sslmode` asks for it.

use continuo_domain::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nothing: the connection is encrypted, with whomever.
    #[default]
    Nothing,
    /// A known issuer.
    Issuer,
    /// A known issuer and the host's name.
    IssuerAndName,
}

/// How to encrypt, where the connection is encrypted.
#[derive(Debug, Default)]
pub(crate) struct Encryption {
    pub(crate) verify: Verify,
    /// An issuer beside the system's.
    pub(crate) root: Option<PathBuf>,
    /// Ours, with its key.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl Encryption {
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(Error::internal)?;
        let builder = match self.verify {
            Verify::IssuerAndName => builder.with_root_certificates(self.roots()?),
            looser => {
                let issuer = if looser == Verify::Issuer { Some(self.issuer(provider.clone())?) } else { None };
                let verifier = Arc::new(AnyName { issuer, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(Error::internal)?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Error::internal("sslcert and sslkey go together")),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn issuer(&self, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider);
        builder.build().map_err(Error::internal)
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.root {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unreadable(path, e))?;
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(|all| all.collect());
    read.map_err(|e| unreadable(path, e))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::internal(format!("{}: {error}", path.display()))
}

/// Takes a certificate whatever name it is for, and without an issuer to ask whatever certificate.
#[derive(Debug)]
struct AnyName {
    issuer: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use crate::url;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A server with a certificate of its own issuer, for the name `localhost`.
    struct Server {
        port: u16,
        root: tempfile::NamedTempFile,
        shakes_hands: tokio::task::JoinHandle<bool>,
    }

    impl Server {
        /// Takes one connection: agrees to TLS as Postgres does, and says whether the client was content with what it saw.
        async fn start() -> Self {
            let mut authority = CertificateParams::new(Vec::new()).unwrap();
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap();
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            let root = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(root.path(), authority.pem()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let shakes_hands = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut [0; 8]).await.unwrap();
                stream.write_all(b"S").await.unwrap();
                let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return false };
                // A client that does not like the certificate says so in place of its first message.
                stream.read_exact(&mut [0; 8]).await.is_ok()
            });
            Self { port, root, shakes_hands }
        }

        async fn likes(self, host: &str, query: &str) -> bool {
            let root = self.root.path().display().to_string();
            let query = query.replace("ROOT", &format!("&sslrootcert={root}"));
            let (mut config, encryption) =
                url::parse(&format!("postgres://u@{host}:{}/d?sslmode={query}", self.port)).unwrap();
            // A name or an address as the certificate is compared with it; the way is the same.
            config.hostaddr("127.0.0.1".parse().unwrap());
            let failed = config.connect(encryption.connector().unwrap()).await;
            assert!(failed.is_err(), "the server answers nothing");
            self.shakes_hands.await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_certificate_is_verified_as_far_as_the_mode_says() {
        for (host, query, is_liked) in [
            ("elsewhere", "require", true),
            ("elsewhere", "prefer", true),
            ("localhost", "verify-ca", false),
            ("elsewhere", "verify-caROOT", true),
            ("localhost", "verify-full", false),
            ("elsewhere", "verify-fullROOT", false),
            ("localhost", "verify-fullROOT", true),
        ] {
            assert_eq!(Server::start().await.likes(host, query).await, is_liked, "{host} {query}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        for query in ["sslmode=verify-full&sslrootcert=/none.pem", "sslcert=/none.pem&sslkey=/none.pem"] {
            let (_, encryption) = url::parse(&format!("postgres://h?{query}")).unwrap();
            let cause = encryption.connector().err().unwrap().cause().unwrap().for_log();
            assert!(cause.contains("/none.pem"), "{cause}");
        }
        let (_, encryption) = url::parse("postgres://h?sslcert=/none.pem").unwrap();
        assert!(encryption.connector().is_err(), "a certificate without its key");
    }
}
