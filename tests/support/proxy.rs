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
    of_new: Arc<watch::Sender<Fate>>,
    /// Of those there are.
    fate: Arc<watch::Sender<Fate>>,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = || Arc::new(watch::Sender::new(Fate::Open));
        let proxy = Self { port, of_new: open(), fate: open() };
        let (of_new, fate) = (proxy.of_new.clone(), proxy.fate.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let of_this = *of_new.borrow();
                match of_this {
                    Fate::Open => drop(tokio::spawn(carry(client, server, fate.subscribe()))),
                    Fate::Silent => drop(tokio::spawn(hold(client, fate.subscribe()))),
                    Fate::Cut => {}
                }
            }
        });
        proxy
    }

    /// Every connection goes silent, and new ones are silent from the start.
    pub(crate) fn silence(&self) {
        self.of_new.send_replace(Fate::Silent);
        self.fate.send_replace(Fate::Silent);
    }

    /// Every connection is cut, and new ones are cut at once.
    pub(crate) fn down(&self) {
        self.of_new.send_replace(Fate::Cut);
        self.fate.send_replace(Fate::Cut);
    }

    /// New connections are carried again; those there are stay as they are.
    pub(crate) fn up(&self) {
        self.of_new.send_replace(Fate::Open);
    }
}

async fn hold(client: TcpStream, mut fate: watch::Receiver<Fate>) {
    let _ = fate.wait_for(|fate| *fate == Fate::Cut).await;
    drop(client);
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
