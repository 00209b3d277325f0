//! What every `WorkerStore` promises.
//!
//! ```ignore
//! worker_store_contract!(sqlite, crate::contract::worker_store, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::Timestamp;
use continuo_domain::run::{Holder, NewRun, Run, RunCommand};
use continuo_ports::run_store::{DequeueRequest, LeaseRef};
use continuo_ports::worker_store::{ConnectedWorker, ListedWorker};

macro_rules! worker_store_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                announced_tasks_are_known
                a_worker_reads_back_as_it_connected
                what_is_heard_of_a_worker_is_noted
                workers_are_listed_newest_first_page_by_page
                of_links_by_one_name_the_newest_counts
                a_lost_link_keeps_its_name_from_nobody
                links_that_race_leave_the_newest
                a_row_that_is_gone_comes_back_with_a_heartbeat
                leases_are_counted_by_the_link_that_holds_them
                who_is_not_heard_of_is_not_listed_and_forgotten
            }
        }
    };
}
pub(crate) use worker_store_contract;

/// Nobody is lost.
const NEVER: Timestamp = Timestamp(0);

async fn connect(rows: &Rows, worker: &ConnectedWorker) {
    rows.workers.connect_worker(worker, NEVER).await.unwrap();
}

async fn heard(rows: &Rows, worker: &ConnectedWorker, ms: u64, lost_before: Timestamp) {
    let worker = ConnectedWorker { seen_at: after(ms), ..worker.clone() };
    rows.workers.note_worker(&worker, lost_before).await.unwrap();
}

async fn listed(rows: &Rows) -> Vec<ListedWorker> {
    let page = rows.workers.list_workers(&env(), NEVER, None, 100).await.unwrap();
    assert!(!page.has_older);
    page.workers
}

/// Name, link and moment of everybody.
async fn seen(rows: &Rows) -> Vec<(String, String, Timestamp)> {
    let workers = listed(rows).await.into_iter().map(|listed| listed.worker);
    workers.map(|worker| (worker.id, worker.link, worker.seen_at)).collect()
}

fn is(id: &str, link: &str, ms: u64) -> (String, String, Timestamp) {
    (id.into(), link.into(), after(ms))
}

pub(crate) async fn announced_tasks_are_known(rows: Rows) {
    assert!(!rows.workers.knows_task(&env(), TASK).await.unwrap());
    for id in ["w", "v"] {
        // Twice in one hello is once.
        let tasks = vec![TASK.to_owned(), "other".to_owned(), TASK.to_owned()];
        connect(&rows, &ConnectedWorker { task_identifiers: tasks, ..worker(id, id, 0) }).await;
    }
    for task in [TASK, "other"] {
        assert!(rows.workers.knows_task(&env(), task).await.unwrap());
        assert!(!rows.workers.knows_task(&other_env(), task).await.unwrap());
    }
    rows.workers.disconnect_worker(&env(), "w", "w").await.unwrap();
    rows.workers.disconnect_worker(&env(), "v", "v").await.unwrap();
    assert!(rows.workers.knows_task(&env(), TASK).await.unwrap(), "a task is known for good");
}

pub(crate) async fn a_worker_reads_back_as_it_connected(rows: Rows) {
    let whole = ConnectedWorker {
        version: "2026.11 \"ü\"".into(),
        task_identifiers: vec!["b".into(), "a".into(), "ü\\".into()],
        capacity: 10_000,
        is_draining: true,
        seen_at: after(9),
        ..worker("a.b/ü", "link", 7)
    };
    let bare = ConnectedWorker { version: String::new(), ..worker("z", "other", 8) };
    connect(&rows, &whole).await;
    connect(&rows, &bare).await;
    connect(&rows, &ConnectedWorker { environment: other_env(), ..worker("elsewhere", "l", 9) }).await;
    let free = |worker| ListedWorker { worker, held_leases: 0 };
    assert_eq!(listed(&rows).await, [free(bare), free(whole)]);
}

pub(crate) async fn what_is_heard_of_a_worker_is_noted(rows: Rows) {
    let w = worker("w", "link", 0);
    connect(&rows, &w).await;
    heard(&rows, &w, 5, NEVER).await;
    assert_eq!(seen(&rows).await, [is("w", "link", 5)]);
    heard(&rows, &ConnectedWorker { is_draining: true, ..w.clone() }, 6, NEVER).await;
    let now = listed(&rows).await.pop().unwrap().worker;
    assert_eq!(now, ConnectedWorker { is_draining: true, seen_at: after(6), ..w });
}

pub(crate) async fn workers_are_listed_newest_first_page_by_page(rows: Rows) {
    for (id, ms) in [("c", 1), ("a", 2), ("b", 2), ("d", 3)] {
        connect(&rows, &worker(id, id, ms)).await;
    }
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = rows.workers.list_workers(&env(), NEVER, after.as_ref(), 2).await.unwrap();
        after = page.workers.last().map(|last| last.worker.position());
        pages.push(page.workers.iter().map(|listed| listed.worker.id.clone()).collect::<Vec<_>>());
        if !page.has_older {
            break;
        }
    }
    assert_eq!(pages, [["d", "b"], ["a", "c"]]);
    let beyond = rows.workers.list_workers(&env(), NEVER, after.as_ref(), 2).await.unwrap();
    assert!(beyond.workers.is_empty() && !beyond.has_older);
}

pub(crate) async fn of_links_by_one_name_the_newest_counts(rows: Rows) {
    let (old, new) = (worker("w", "old", 0), ConnectedWorker { version: "v2".into(), ..worker("w", "new", 10) });
    connect(&rows, &old).await;
    connect(&rows, &new).await;
    heard(&rows, &old, 20, NEVER).await;
    assert_eq!(seen(&rows).await, [is("w", "new", 10)], "what the old link hears is of no account");
    rows.workers.disconnect_worker(&env(), "w", "old").await.unwrap();
    assert_eq!(listed(&rows).await[0].worker, new, "nor is its end");
    // One that was held up on its way comes too late.
    connect(&rows, &old).await;
    assert_eq!(listed(&rows).await[0].worker, new);
    rows.workers.disconnect_worker(&other_env(), "w", "new").await.unwrap();
    assert_eq!(listed(&rows).await.len(), 1);
    rows.workers.disconnect_worker(&env(), "w", "new").await.unwrap();
    assert_eq!(seen(&rows).await, []);
}

pub(crate) async fn a_lost_link_keeps_its_name_from_nobody(rows: Rows) {
    let (old, new) = (worker("w", "old", 0), worker("w", "new", 10));
    connect(&rows, &old).await;
    connect(&rows, &new).await;
    // The replica of the new link dies; the old one lives on.
    heard(&rows, &old, 40, after(10)).await;
    assert_eq!(seen(&rows).await, [is("w", "new", 10)], "not lost yet");
    heard(&rows, &old, 41, after(11)).await;
    assert_eq!(seen(&rows).await, [is("w", "old", 41)]);
    assert_eq!(listed(&rows).await[0].worker.connected_at, after(0));
}

pub(crate) async fn links_that_race_leave_the_newest(rows: Rows) {
    for round in 0..10 {
        let name = format!("w{round}");
        // In one moment: then the greater link is the newer.
        together(8, |i| {
            let (rows, worker) = (rows.clone(), worker(&name, &format!("link-{i}"), 7));
            async move {
                connect(&rows, &worker).await;
                heard(&rows, &worker, 8, NEVER).await;
            }
        })
        .await;
    }
    let workers = seen(&rows).await;
    assert_eq!(workers.len(), 10);
    assert!(workers.iter().all(|(_, link, at)| link == "link-7" && *at == after(8)), "{workers:?}");
}

pub(crate) async fn a_row_that_is_gone_comes_back_with_a_heartbeat(rows: Rows) {
    let w = worker("w", "link", 0);
    connect(&rows, &w).await;
    assert_eq!(rows.workers.forget_workers(after(1)).await.unwrap(), 1);
    heard(&rows, &w, 60, NEVER).await;
    assert_eq!(listed(&rows).await[0].worker, ConnectedWorker { seen_at: after(60), ..w });
}

pub(crate) async fn leases_are_counted_by_the_link_that_holds_them(rows: Rows) {
    let elsewhere = NewRun { environment: other_env(), ..new_run("elsewhere") };
    rows.runs.trigger(elsewhere.into(), T0).await.unwrap();
    let request_there = DequeueRequest { environment: other_env(), link: "one".into(), ..request("w", 1, T0) };
    assert_eq!(rows.runs.dequeue(request_there, T0).await.unwrap().len(), 1);
    for i in 0..6 {
        rows.runs.trigger(new_run(&format!("r{i}")).into(), after(i)).await.unwrap();
    }
    let take = async |link: &str, capacity| {
        let request = DequeueRequest { link: link.into(), ..request("w", capacity, after(10)) };
        let taken = rows.runs.dequeue(request, after(10)).await.unwrap();
        taken.into_iter().map(|assignment| assignment.run).collect::<Vec<_>>()
    };
    connect(&rows, &worker("a", "one", 1)).await;
    connect(&rows, &worker("b", "two", 2)).await;
    connect(&rows, &worker("c", "three", 3)).await;
    let one = take("one", 3).await;
    take("two", 1).await;
    let held = async || {
        let workers = listed(&rows).await;
        workers.iter().rev().map(|listed| listed.held_leases).collect::<Vec<_>>()
    };
    assert_eq!(held().await, [3, 1, 0]);

    let holder = |run: &Run| Holder::Lease(run.lease.as_ref().unwrap().number);
    rows.apply(&one[0].spec.id, RunCommand::Start(holder(&one[0])), after(11)).await;
    assert_eq!(held().await, [3, 1, 0], "one that executes is held as well");
    let done = RunCommand::Complete { holder: holder(&one[0]), output: None, output_type: None };
    rows.apply(&one[0].spec.id, done, after(12)).await;
    rows.apply(&one[1].spec.id, RunCommand::Start(holder(&one[1])), after(12)).await;
    rows.runs.create_waitpoint(waitpoint("p")).await.unwrap();
    let suspend = RunCommand::Suspend { holder: holder(&one[1]), waitpoint: waitpoint("p").id };
    rows.apply(&one[1].spec.id, suspend, after(13)).await;
    assert_eq!(held().await, [1, 1, 0], "what is over or suspended is not");
    let lease = LeaseRef { run: one[2].spec.id.clone(), number: one[2].lease.as_ref().unwrap().number };
    let renewed = rows.runs.renew(&env(), &[lease], Some("three"), after(60_000), after(14)).await.unwrap();
    assert!(renewed[0].is_ok());
    assert_eq!(held().await, [0, 1, 1], "a lease goes with the link it came back through");
}

pub(crate) async fn who_is_not_heard_of_is_not_listed_and_forgotten(rows: Rows) {
    for (id, ms) in [("a", 10), ("b", 20), ("c", 30)] {
        connect(&rows, &worker(id, id, ms)).await;
    }
    connect(&rows, &ConnectedWorker { environment: other_env(), ..worker("z", "z", 10) }).await;
    let from = async |seen_from, size| {
        let page = rows.workers.list_workers(&env(), seen_from, None, size).await.unwrap();
        let ids = page.workers.into_iter().map(|listed| listed.worker.id).collect::<Vec<_>>();
        (ids, page.has_older)
    };
    assert_eq!(from(after(20), 9).await, (vec!["c".into(), "b".into()], false));
    assert_eq!(from(after(21), 1).await, (vec!["c".into()], false));
    assert_eq!(rows.workers.forget_workers(after(20)).await.unwrap(), 2, "of every environment");
    assert_eq!(rows.workers.forget_workers(after(20)).await.unwrap(), 0);
    assert_eq!(seen(&rows).await, [is("c", "c", 30), is("b", "b", 20)]);
}
