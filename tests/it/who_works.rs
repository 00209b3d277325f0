//! The connected workers and the queues on the command line, over the wire.

use crate::support::worker::Worker;
use crate::support::{KEY, TestNode};
use serde_json::Value;
use tokio::process::Command;

async fn cli(node: &TestNode, args: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_continuo"))
        .args(args)
        .args(["--url", &node.url])
        .env("CONTINUO_SECRET_KEY", KEY)
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn the_command_line_shows_who_works_and_what_waits() {
    let node = TestNode::start().await;
    let client = node.client().await;
    for name in ["a", "b"] {
        client.create(Some(name)).await;
    }
    let mut worker = Worker::connect(&client, 1).await;
    let task = worker.take().await.run.unwrap().task_identifier;
    let queue = format!("task/{task}");

    let lines = cli(&node, &["workers", "--json"]).await;
    let shown: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(
        (&shown["worker_id"], &shown["held_leases"], &shown["capacity"]),
        (&"worker".into(), &1.into(), &1.into())
    );
    assert_eq!((&shown["task_identifiers"][0], &shown["is_draining"]), (&task.clone().into(), &false.into()));
    let table = cli(&node, &["workers"]).await;
    let [header, row] = &table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(header.starts_with("WORKER") && row.contains("1/1") && row.contains(&task), "{table}");

    let one_waits = async || {
        let lines = cli(&node, &["queues", "--json"]).await;
        let shown: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&shown["name"], &shown["pending"]), (&queue.as_str().into(), &1.into()), "{shown}");
        assert!(shown["oldest_pending_at"].is_string(), "{shown}");
        shown["executing"] == 1
    };
    // The worker has said that it began, and the server may not have read it yet.
    while !one_waits().await {}
    let table = cli(&node, &["queues"]).await;
    let [header, row] = &table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(header.starts_with("QUEUE") && row.starts_with(&queue), "{table}");
}

#[tokio::test]
async fn a_worker_is_gone_from_the_list_with_the_server_it_was_connected_to() {
    let mut node = TestNode::start().await;
    let _worker = Worker::connect(&node.client().await, 1).await;
    while !cli(&node, &["workers", "--json"]).await.contains("worker_id") {}
    node.restart().await;
    assert_eq!(cli(&node, &["workers", "--json"]).await, "");
}
