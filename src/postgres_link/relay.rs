//! TLS for a client that has none: it connects to a socket that only this account can reach, and what passes there goes on to
//! the server encrypted.

use bytes::{BufMut, BytesMut};
use continuo_domain::{Error, Result};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

/// How long the way to the server may take, encryption and all.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const PORT: u16 = 5432;
/// Asks for encryption: its own length and a number that no version of the protocol has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// `sqlclient_unable_to_establish_sqlconnection`.
const UNABLE_TO_CONNECT: &str = "08001";

/// A host and a port for a client that cannot encrypt, for as long as this value lives. Where the URL asks for no encryption
/// of one host they are the server's own.
pub struct Way {
    host: String,
    port: u16,
    _relay: Option<Relay>,
}

impl Way {
    pub(crate) async fn open(config: &Config, tls: MakeRustlsConnect) -> Result<Self> {
        if let (SslMode::Disable, [host], []) = (config.get_ssl_mode(), config.get_hosts(), config.get_hostaddrs()) {
            let host = match host {
                Host::Tcp(host) => host.clone(),
                Host::Unix(directory) => directory.display().to_string(),
            };
            return Ok(Self { host, port: config.get_ports().first().copied().unwrap_or(PORT), _relay: None });
        }
        let relay = Relay::open(config.clone(), tls).map_err(Error::internal)?;
        Ok(Self { host: relay.directory.path().display().to_string(), port: PORT, _relay: Some(relay) })
    }

    /// A name, an address, or the directory of a Unix socket as clients of Postgres take it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; with a directory the number in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The socket, until it is dropped.
struct Relay {
    directory: TempDir,
    accepting: JoinHandle<()>,
}

impl Relay {
    fn open(config: Config, tls: MakeRustlsConnect) -> io::Result<Self> {
        let only_us = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("continuo-").permissions(only_us).tempdir()?;
        let listener = UnixListener::bind(directory.path().join(format!(".s.PGSQL.{PORT}")))?;
        let accepting = tokio::spawn(accept(listener, Arc::new(config), tls));
        Ok(Self { directory, accepting })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Everything that is forwarded ends with this.
async fn accept(listener: UnixListener, config: Arc<Config>, tls: MakeRustlsConnect) {
    let mut forwarding = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    forwarding.spawn(forward(client, config.clone(), tls.clone()));
                }
                Err(error) => return debug!(%error, "the relay to Postgres takes no more connections"),
            },
            Some(_) = forwarding.join_next() => {}
        }
    }
}

async fn forward(mut client: UnixStream, config: Arc<Config>, tls: MakeRustlsConnect) {
    let opened = timeout(OPEN_TIMEOUT, reach(&config, tls)).await;
    let mut server = match opened.unwrap_or_else(|late| Err(late.into())) {
        Ok(server) => server,
        // The client reads it as the server's answer, and so shows why.
        Err(error) => return drop(client.write_all(&refusal(&error)).await),
    };
    if let Err(error) = copy_bidirectional(&mut client, &mut server).await {
        debug!(%error, "a connection through the relay to Postgres broke");
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The first of the hosts that can be talked to.
async fn reach(config: &Config, mut tls: MakeRustlsConnect) -> io::Result<Box<dyn Stream>> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the URL of the database names no host");
    for index in 0..config.get_hosts().len().max(config.get_hostaddrs().len()) {
        match reach_one(config, index, &mut tls).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn reach_one(config: &Config, index: usize, tls: &mut MakeRustlsConnect) -> io::Result<Box<dyn Stream>> {
    let ports = config.get_ports();
    let port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
    let address = config.get_hostaddrs().get(index).map(ToString::to_string);
    let (name, address) = match (config.get_hosts().get(index), address) {
        (Some(Host::Unix(directory)), _) => {
            // What passes there never leaves the machine.
            return Ok(Box::new(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?));
        }
        (Some(Host::Tcp(name)), None) => (Some(name.as_str()), name.clone()),
        (Some(Host::Tcp(name)), Some(address)) => (Some(name.as_str()), address),
        (None, address) => (None, address.unwrap_or_default()),
    };
    let mut stream = TcpStream::connect((address.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    if config.get_ssl_mode() == SslMode::Disable {
        return Ok(Box::new(stream));
    }
    stream.write_all(&SSL_REQUEST).await?;
    if stream.read_u8().await? != b'S' {
        return match config.get_ssl_mode() {
            SslMode::Prefer => Ok(Box::new(stream)),
            _ => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the server does not encrypt, and sslmode asks for it"))
            }
        };
    }
    let connector = MakeTlsConnect::<TcpStream>::make_tls_connect(tls, name.unwrap_or(&address));
    let connector = connector.map_err(io::Error::other)?;
    Ok(Box::new(connector.connect(stream).await?))
}

/// An `ErrorResponse` of the protocol.
fn refusal(error: &io::Error) -> BytesMut {
    let mut fields = BytesMut::new();
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', UNABLE_TO_CONNECT), (b'M', &error.to_string())] {
        fields.put_u8(field);
        fields.put_slice(text.replace('\0', "").as_bytes());
        fields.put_u8(0);
    }
    fields.put_u8(0);
    let mut message = BytesMut::with_capacity(fields.len() + 5);
    message.put_u8(b'E');
    message.put_u32(fields.len() as u32 + 4);
    message.put_slice(&fields);
    message
}

#[cfg(test)]
mod tests;
