//! Every command in the README runs.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

struct Dev {
    server: Child,
    url: String,
    key: String,
    _dir: tempfile::TempDir,
}

/// The command `cargo run -- dev` runs, on a free port.
async fn dev() -> Dev {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_continuo"))
        .arg("dev")
        .env("CONTINUO_LISTEN", "127.0.0.1:0")
        .env("CONTINUO_DATA_DIR", dir.path())
        .env("CONTINUO_DEMO_TOKEN_MS", "0")
        .env("CONTINUO_LOG", "warn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut find = async |prefix: &str| loop {
        let line = lines.next_line().await.unwrap().expect("dev says where it listens and its key");
        if let Some(found) = line.strip_prefix(prefix) {
            break found.to_owned();
        }
    };
    let url = find("listening on ").await;
    let key = find("secret key ").await;
    Dev { server, url, key, _dir: dir }
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The shell blocks of the README, in order.
fn shell_blocks(readme: &str) -> Vec<&str> {
    readme.split("```bash\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

async fn run(script: &str, dev: &Dev) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("CONTINUO", env!("CARGO_BIN_EXE_continuo"))
        .env("CONTINUO_URL", &dev.url)
        .env("CONTINUO_SECRET_KEY", &dev.key)
        .output()
        .await
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{errors}");
    out.into_owned()
}

#[tokio::test]
async fn the_walk_through_of_the_readme_is_the_one_dev_prints_and_it_works() {
    let readme = readme();
    let walk_through = shell_blocks(&readme)[0];
    assert_eq!(walk_through, include_str!("../../src/app/walkthrough.sh"));
    let mut dev = dev().await;
    let said = run(walk_through, &dev).await;
    assert!(said.contains("You said: “Hello, who is there?”"), "{said}");
    assert!(said.contains("You said: “Are you still there?”"), "{said}");
    assert!(said.contains("CANCELED") && said.contains("continuation") && said.contains("hands over"), "{said}");
    assert!(said.contains("taking runs") && said.contains("task/demo-agent"), "{said}");
    assert!(said.contains("CLOSED"), "{said}");
    dev.server.kill().await.unwrap();
}

#[tokio::test]
async fn the_rest_commands_of_the_readme_work() {
    let readme = readme();
    let mut dev = dev().await;
    let said = run(shell_blocks(&readme)[1], &dev).await;
    assert!(said.contains(r#""isCached":false"#) && said.contains(r#""ok":true"#), "{said}");
    assert!(said.contains("event: batch") && said.contains("turn-complete") && said.contains("data: [DONE]"), "{said}");
    dev.server.kill().await.unwrap();
}

#[tokio::test]
async fn every_command_has_a_manual() {
    for command in
        ["", "dev", "serve", "gateway", "config", "sessions", "sessions send", "workers", "queues", "keys", "tokens"]
    {
        let arguments = command.split_whitespace().chain(["--help"]);
        let help = Command::new(env!("CARGO_BIN_EXE_continuo")).args(arguments).output().await.unwrap();
        assert!(help.status.success() && help.stdout.len() > 200, "{command}");
    }
}
