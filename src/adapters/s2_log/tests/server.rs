//! An `s2-lite` of a test's own, on a directory, that can be killed.

use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(super) struct Server {
    pub(super) endpoint: String,
    port: u16,
    dir: TempDir,
    process: Child,
}

pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub(super) async fn start() -> Self {
        let (port, dir) = (free_port(), TempDir::new().unwrap());
        let process = spawn(port, &dir);
        let server = Self { endpoint: format!("http://127.0.0.1:{port}"), port, dir, process };
        server.until_up().await;
        server
    }

    /// As a crash does it.
    pub(super) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub(super) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.dir);
        self.until_up().await;
    }

    async fn until_up(&self) {
        super::until(async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()).await;
    }
}

fn spawn(port: u16, dir: &TempDir) -> Child {
    let server = std::env::var_os("CONTINUO_TEST_S2_SERVER").map(PathBuf::from);
    let server = server.expect("CONTINUO_TEST_S2_SERVER is not set; run: eval \"$(tests/services up)\"");
    Command::new(server)
        .args(["--port", &port.to_string(), "--local-root"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("s2-lite starts")
}
