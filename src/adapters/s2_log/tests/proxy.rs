//! A TCP proxy between the log and S2 that does to connections what networks do: holds bytes back on either way, and cuts.

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Default)]
struct Mode {
    requests_held: bool,
    answers_held: bool,
    /// Connections of earlier generations end.
    generation: u64,
}

pub(super) struct Proxy {
    pub(super) endpoint: String,
    mode: watch::Sender<Mode>,
    /// Bytes of requests that were held back so far.
    held: Arc<watch::Sender<u64>>,
    acceptor: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.mode.send_modify(|mode| mode.generation += 1);
    }
}

impl Proxy {
    pub(super) async fn start(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mode = watch::Sender::new(Mode::default());
        let held = Arc::new(watch::Sender::new(0));
        let (modes, counter) = (mode.subscribe(), held.clone());
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let mut modes = modes.clone();
                let generation = modes.borrow_and_update().generation;
                let is_over = move |mode: &Mode| mode.generation != generation;
                let counter = counter.clone();
                tokio::spawn(pass(from_client, to_server, modes.clone(), is_over, move |mode, bytes| {
                    if mode.requests_held {
                        counter.send_modify(|held| *held += bytes as u64);
                    }
                    mode.requests_held
                }));
                tokio::spawn(pass(from_server, to_client, modes, is_over, |mode, _| mode.answers_held));
            }
        });
        Self { endpoint, mode, held, acceptor }
    }

    /// From now on requests do not arrive.
    pub(super) fn hold_requests(&self) -> watch::Receiver<u64> {
        let held = self.held.subscribe();
        self.mode.send_modify(|mode| mode.requests_held = true);
        held
    }

    /// From now on requests arrive and answers do not.
    pub(super) fn hold_answers(&self) {
        self.mode.send_modify(|mode| mode.answers_held = true);
    }

    /// What was held back arrives.
    pub(super) fn release(&self) {
        self.mode.send_modify(|mode| (mode.requests_held, mode.answers_held) = (false, false));
    }

    /// Every connection breaks, and what was held back is lost. New ones pass.
    pub(super) fn cut(&self) {
        self.mode.send_modify(|mode| {
            *mode = Mode { generation: mode.generation + 1, ..Mode::default() };
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    is_over: impl Fn(&Mode) -> bool,
    is_held: impl Fn(&Mode, usize) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = modes.changed() => match changed {
                Ok(()) if !is_over(&modes.borrow()) => continue,
                _ => return,
            },
        };
        let Ok(bytes @ 1..) = read else { return };
        let mut counted = bytes;
        loop {
            let mode = *modes.borrow_and_update();
            if is_over(&mode) {
                return;
            }
            if !is_held(&mode, std::mem::take(&mut counted)) {
                break;
            }
            if modes.changed().await.is_err() {
                return;
            }
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
