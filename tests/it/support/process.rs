//! The server as a process of its own, whose log a test can read.

use super::{ADMIN_KEY, KEY, OTHER_KEY};
use std::fs::File;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A server that stops with the test.
pub(crate) struct ServerProcess {
    pub(crate) url: String,
    dir: TempDir,
    _child: Child,
}

impl ServerProcess {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_continuo"))
            .arg("serve")
            .env("CONTINUO_LISTEN", "127.0.0.1:0")
            .env("CONTINUO_DATA_DIR", dir.path().join("data"))
            .env("CONTINUO_DEV_SECRET_KEY", KEY)
            .env("CONTINUO_DEV_SECRET_KEY_2", OTHER_KEY)
            .env("CONTINUO_ADMIN_KEY", ADMIN_KEY)
            .env("CONTINUO_LOG", "debug,hyper=info,h2=info,sqlx=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.next_line().await.unwrap().expect("it says where it listens");
        let url = said.strip_prefix("listening on ").unwrap().to_owned();
        Self { url, dir, _child: child }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}
