//! Stands between a client and its server, and does to connections what networks do.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Bytes go both ways.
    Open,
    /// It stands, as far as either end knows, and carries nothing any more.
    Silent,
    /// It is cut.
    Cut,
}

/// A way to one server, on a loopback port of its own.
pub(crate) struct Proxy {
    /// Where clients connect to.
    pub(crate) port: u16,
    /// Of new connections.
    is_down: Arc<watch::Sender<bool>>,
    /// Of those there are.
    fate: Arc<watch::Sender<Fate>>,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, is_down: Arc::default(), fate: Arc::new(watch::Sender::new(Fate::Open)) };
        let (is_down, fate) = (proxy.is_down.clone(), proxy.fate.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !*is_down.borrow() {
                    tokio::spawn(carry(client, server, fate.subscribe()));
                }
            }
        });
        proxy
    }

    /// Every connection goes silent; new ones are carried.
    pub(crate) fn silence(&self) {
        self.fate.send_replace(Fate::Silent);
    }

    /// Every connection is cut, and new ones are cut at once.
    pub(crate) fn down(&self) {
        self.is_down.send_replace(true);
        self.fate.send_replace(Fate::Cut);
    }

    /// New connections are carried again.
    pub(crate) fn up(&self) {
        self.is_down.send_replace(false);
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut fate: watch::Receiver<Fate>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = fate.changed() => {
            // Both ends stay open, with nobody between them; until they are cut after all.
            let _ = fate.wait_for(|fate| *fate == Fate::Cut).await;
        }
    }
}
