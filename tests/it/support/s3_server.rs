//! A real S3-compatible server over a directory: `s3s-fs`, which `tests/run install` puts in its place.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) const ACCESS_KEY: &str = "tester";
pub(crate) const SECRET_KEY: &str = "tester-secret";
pub(crate) const BUCKET: &str = "blobs";

/// Runs until it is dropped, on a port of its own, with one bucket.
pub(crate) struct S3Server {
    pub(crate) endpoint: String,
    pub(crate) directory: TempDir,
    child: Child,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut child = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", "0", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(directory.path())
            .env("RUST_LOG", "s3s_fs=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let endpoint = loop {
            let line = lines.next_line().await.unwrap().expect("the server ended before it said where it listens");
            if let Some(at) = line.find("http://") {
                let address = |c: &char| c.is_ascii_alphanumeric() || ":/.".contains(*c);
                break line[at..].chars().take_while(address).collect();
            }
        };
        // What it goes on saying must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { endpoint, directory, child }
    }

    /// Ends it; whoever comes later finds nobody.
    pub(crate) async fn stop(&mut self) {
        self.child.kill().await.unwrap();
    }
}

fn program() -> PathBuf {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let workspace = Path::new(installed).ancestors().find(|folder| folder.join("Cargo.lock").exists()).unwrap();
    let program = std::env::var_os("CONTINUO_S3_SERVER").map(PathBuf::from);
    let program = program.unwrap_or_else(|| workspace.join("target/tests/s3/bin/s3s-fs"));
    assert!(program.exists(), "{} is missing; `tests/run install` installs it", program.display());
    program
}
