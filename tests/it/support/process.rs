//! The server as a process of its own, whose log a test can read.

use super::{ADMIN_KEY, KEY, OTHER_KEY};
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A server that stops with the test.
pub(crate) struct ServerProcess {
    pub(crate) url: String,
    dir: TempDir,
    child: Child,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command of the program that ends by itself, with these settings and a fresh data directory unless they name one.
pub(crate) async fn run(args: &[&str], settings: &[(&str, &str)]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_continuo"))
        .args(args)
        .env("CONTINUO_LISTEN", "127.0.0.1:0")
        .env("CONTINUO_DATA_DIR", dir.path().join("data"))
        .env("CONTINUO_LOG", "off")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends by itself").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl ServerProcess {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings besides.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_continuo"))
            .arg("serve")
            .env("CONTINUO_LISTEN", "127.0.0.1:0")
            .env("CONTINUO_DATA_DIR", dir.path().join("data"))
            .env("CONTINUO_DEV_SECRET_KEY", KEY)
            .env("CONTINUO_DEV_SECRET_KEY_2", OTHER_KEY)
            .env("CONTINUO_ADMIN_KEY", ADMIN_KEY)
            .env("CONTINUO_LOG", "debug,hyper=info,h2=info,sqlx=info")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(said) = lines.next_line().await.unwrap() else {
            panic!("it did not start: {}", std::fs::read_to_string(dir.path().join("log")).unwrap());
        };
        let url = said.strip_prefix("listening on ").unwrap().to_owned();
        Self { url, dir, child }
    }

    /// Of the process, while it runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        let pid = self.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}
