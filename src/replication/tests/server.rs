//! A Postgres of a test's own, for settings that others would not like.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// It ends with this.
pub(super) struct Server {
    directory: TempDir,
    pub(super) url: String,
}

impl Server {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let printed = services(directory.path(), &["up"]);
        let url = printed.trim().rsplit_once("URL=").unwrap().1.to_owned();
        Self { directory, url }
    }

    pub(super) fn restart(&self) {
        services(self.directory.path(), &["stop", "postgres"]);
        services(self.directory.path(), &["start", "postgres"]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        services(self.directory.path(), &["down"]);
    }
}

fn services(directory: &Path, words: &[&str]) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let services = here.ancestors().map(|folder| folder.join("tests/services")).find(|path| path.is_file()).unwrap();
    let mut command = Command::new(services);
    command.args(words).env("CONTINUO_SERVICES_DIR", directory).env("CONTINUO_SERVICES", "postgres");
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
